"""The system checks: each finds its problem, and a correct project gets no findings."""

from __future__ import annotations

import sys
import types
from typing import Any, Dict, Iterator, List, Set

import pytest
from django.conf import settings as django_settings
from django.core import checks
from django.http import HttpResponse
from django.urls import include, path, re_path
from rest_framework.permissions import IsAuthenticated
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from stayafrica_messaging.adapters import BaseAdapter
from stayafrica_messaging.checks import TAG, wrong_with_url

GOOD: Dict[str, Any] = {"SECRET": "a long random text"}


@pytest.fixture(autouse=True)
def well(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("ERLANG_MESSAGING_URL", raising=False)
    monkeypatch.delenv("ERLANG_SHARED_SECRET", raising=False)
    settings.STAYAFRICA_MESSAGING = GOOD


def messages(**options: Any) -> List[checks.CheckMessage]:
    return checks.run_checks(tags=[TAG], **{"include_deployment_checks": True, **options})


def found(**options: Any) -> Set[str]:
    return {str(message.id).replace("stayafrica_messaging.", "") for message in messages(**options)}


def test_a_project_that_is_well_hears_nothing() -> None:
    assert messages() == []


def test_every_message_says_what_to_do(settings: Any) -> None:
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT, settings.PREPEND_WWW = [], True, True
    wrong = {"URL": "messaging", "SIGNING_KEYS": ["short"], "ADAPTER": "nowhere.Adapter", "SCERET": "x", "TIMEOUT": 0}
    settings.STAYAFRICA_MESSAGING = wrong
    assert len(messages()) >= 7
    assert all(message.hint for message in messages())


@pytest.mark.parametrize("wrong", ["a text", ["a", "list"], {"SIGNING_KEYS": [""]}])
def test_settings_that_cannot_be_read(settings: Any, wrong: Any) -> None:
    settings.STAYAFRICA_MESSAGING = wrong
    assert found(databases=["default"]) == {"E001"}


def test_names_that_mean_nothing(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "SCERET": "x", "DJANGO_URL": "http://backend:8000"}
    (message,) = messages()
    assert message.id == "stayafrica_messaging.W001" and "SCERET" in message.msg


@pytest.mark.parametrize(
    "url",
    [
        "",
        "messaging:8765",
        "//messaging",
        "ftp://messaging",
        "http://",
        "http://a:port",
        "http://[::1",
        "http://a b",
        "http://u:p@a",
        "http://a?b",
    ],
)
def test_addresses_that_are_none(settings: Any, url: str) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "URL": url}
    assert "E002" in found()
    assert "p@" not in str(wrong_with_url(url))


@pytest.mark.parametrize("url", ["http://messaging:8765", "https://example.com/messaging/", "http://[::1]:8765"])
def test_good_addresses(settings: Any, url: str) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "URL": url}
    assert found() == set()


def test_the_address_of_django(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "backend:8000"}
    assert "E002" in found()


def test_what_is_kept_for_ever(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "OUTBOX_KEEP_DAYS": None, "OUTBOX_MAX_ATTEMPTS": 0}
    assert found() == set()


@pytest.mark.parametrize("value", ["5", None, -1, True, 0])
def test_numbers(settings: Any, value: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "TIMEOUT": value}
    assert found() == {"E003"}


def test_a_database_that_is_none(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "OUTBOX_DATABASE": "other"}
    assert found(databases=["other"]) == {"E006"}


def test_a_body_limit_below_a_batch(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "MAX_BODY": 1024 * 1024}
    assert found() == {"W008"}


@pytest.mark.parametrize(
    ("adapter", "number"),
    [
        ("nowhere.Adapter", "E004"),
        ("stayafrica_messaging.adapters.Missing", "E004"),
        ("nodots", "E004"),
        ("tests.test_checks.broken", "E004"),
        ("datetime.datetime", "E005"),
        ("tests.test_checks.GOOD", "E005"),
        (None, "E005"),
    ],
)
def test_adapters_that_are_none(settings: Any, adapter: Any, number: str) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "ADAPTER": adapter}
    assert found() == {number}


def test_an_adapter_whose_module_fails(settings: Any, monkeypatch: Any) -> None:
    class Failing(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no apps yet")

    monkeypatch.setitem(sys.modules, "failing_module", Failing("failing_module"))
    settings.STAYAFRICA_MESSAGING = {**GOOD, "ADAPTER": "failing_module.Adapter"}
    assert found() == {"E004"}


class OwnAdapter(BaseAdapter):
    """A project's own adapter."""


def test_an_adapter_of_the_project(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "ADAPTER": "tests.test_checks.OwnAdapter"}
    assert found() == set()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("configured", [{}, {"SECRET": ""}, {"SECRET": None, "SIGNING_KEYS": []}, {"ALLOW_UNSIGNED": False}])
def test_no_secret(settings: Any, debug: bool, configured: Any) -> None:
    settings.DEBUG = debug
    settings.STAYAFRICA_MESSAGING = configured
    (message,) = messages()
    assert message.id == "stayafrica_messaging.W009" and "403" in message.msg
    for name in ("SECRET", "DJANGO_SHARED_SECRET", "SIGNING_KEYS", "ALLOW_UNSIGNED"):
        assert name in message.hint


@pytest.mark.parametrize("credentials", [GOOD, {"SIGNING_KEYS": ["k" * 32]}])
@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_a_secret_or_keys(settings: Any, credentials: Any, allow_unsigned: bool) -> None:
    settings.STAYAFRICA_MESSAGING = {**credentials, "ALLOW_UNSIGNED": allow_unsigned}
    assert found() == set()


@pytest.mark.parametrize("debug", [False, True])
def test_an_open_endpoint(settings: Any, mount: Any, debug: bool) -> None:
    settings.DEBUG = debug
    settings.STAYAFRICA_MESSAGING = {"ALLOW_UNSIGNED": True, "SECRET": ""}
    (message,) = messages(include_deployment_checks=False)
    assert message.id == "stayafrica_messaging.W002" and "can store messages from any sender" in message.msg
    mount()
    assert found() == {"W002", "W007"}


@pytest.mark.parametrize("value", ["true", "false", "", None, 0, 1])
def test_what_opens_the_endpoint_is_a_boolean(settings: Any, value: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**GOOD, "ALLOW_UNSIGNED": value}
    assert found() == {"E007"}
    settings.STAYAFRICA_MESSAGING = {"ALLOW_UNSIGNED": value}
    assert found() == {"E007", "W009"}


def test_only_a_closed_endpoint_of_the_package_is_told(settings: Any, mount: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {}
    mount(path("api/messaging/erlang/persist/", Open.as_view()))
    assert found() == set()
    mount(path("other/", lambda request: HttpResponse()))
    assert found() == {"W007"}
    settings.ROOT_URLCONF = "no.such.module"
    assert found() == set()


def test_short_keys(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": ["k" * 32, "k" * 15]}
    assert found() == {"W003"}
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": ["k" * 16]}
    assert found() == set()


def test_ssl_redirect(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert found() == {"W004"}
    settings.SECURE_REDIRECT_EXEMPT = [r"^api/messaging/erlang/"]
    assert found() == set()
    settings.SECURE_REDIRECT_EXEMPT = []
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "https://example.com"}
    assert found() == set()
    settings.STAYAFRICA_MESSAGING = {**GOOD, "URL": "https://messaging.example.com", "DJANGO_URL": "http://backend:8000"}
    assert found() == {"W004"}
    settings.MIDDLEWARE = [name for name in django_settings.MIDDLEWARE if "SecurityMiddleware" not in name]
    assert found() == set()


def test_prepend_www(settings: Any) -> None:
    settings.PREPEND_WWW = True
    assert found() == {"W005"}
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "https://www.example.com"}
    assert found() == set()


def test_hosts(settings: Any) -> None:
    settings.ALLOWED_HOSTS = []
    assert found() == {"W006"}
    settings.DEBUG = True
    assert found() == set()
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "http://backend:8000"}
    assert found() == {"W006"}
    settings.ALLOWED_HOSTS = ["backend"]
    assert found() == set()
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "http://api.example.com"}
    settings.ALLOWED_HOSTS = [".example.com"]
    assert found() == set()


def test_a_service_on_this_machine(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    assert found() == {"I005"}
    settings.STAYAFRICA_MESSAGING = {**GOOD, "URL": "http://messaging:8765"}
    assert found() == set()
    settings.STAYAFRICA_MESSAGING = {**GOOD, "DJANGO_URL": "http://example.com"}
    assert found() == set()


class Urls(types.ModuleType):
    """A URLconf of a test."""

    def __init__(self, *patterns: Any) -> None:
        super().__init__("urls_of_a_test")
        self.urlpatterns = list(patterns)


@pytest.fixture
def mount(settings: Any) -> Iterator[Any]:
    def use(*patterns: Any) -> None:
        settings.ROOT_URLCONF = Urls(*patterns)

    yield use


def test_not_included(mount: Any) -> None:
    mount(path("other/", lambda request: HttpResponse()))
    assert found() == {"W007"}


def test_a_broken_urlconf_is_left_to_django(settings: Any) -> None:
    settings.ROOT_URLCONF = "no.such.module"
    settings.SECURE_SSL_REDIRECT = True
    assert found() == set()


OURS = include("stayafrica_messaging.urls")


@pytest.mark.parametrize("route", [path("api/v1/messaging/", OURS), re_path(r"^api/v1/messaging/", OURS)])
def test_included_elsewhere(mount: Any, route: Any) -> None:
    mount(path("", include([route])))
    (message,) = messages()
    assert message.id == "stayafrica_messaging.I001"
    assert "DJANGO_PERSIST_PATH=/api/v1/messaging/erlang/persist/" in message.hint


def test_under_a_script_name(settings: Any) -> None:
    settings.FORCE_SCRIPT_NAME = "/chat"
    (message,) = messages()
    assert "DJANGO_PERSIST_PATH=/chat/api/messaging/erlang/persist/" in message.hint


class Throttled(APIView):
    throttle_classes = [AnonRateThrottle]
    permission_classes = [IsAuthenticated]


class Open(APIView):
    throttle_classes: List[Any] = []
    permission_classes: List[Any] = []


def test_an_endpoint_of_the_project(mount: Any) -> None:
    mount(path("api/messaging/erlang/persist/", Throttled.as_view()))
    (message,) = messages()
    assert message.id == "stayafrica_messaging.I002" and "AnonRateThrottle, IsAuthenticated" in message.msg
    mount(path("api/messaging/erlang/persist/", Open.as_view()))
    assert found() == set()


def test_atomic_requests(settings: Any, mount: Any, monkeypatch: Any) -> None:
    from django.db import connections

    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)
    assert found() == {"I003"}
    mount(path("api/messaging/erlang/persist/", Open.as_view()))
    assert found() == {"I003", "I006"}


def test_notes_are_for_those_who_ask(settings: Any, monkeypatch: Any) -> None:
    settings.ALLOWED_HOSTS = ["example.com"]
    settings.FORCE_SCRIPT_NAME = "/chat"
    assert found(include_deployment_checks=False) == set()


@pytest.mark.django_db
def test_skip_locked(settings: Any, monkeypatch: Any) -> None:
    from django.db import connection

    monkeypatch.setattr(type(connection.features), "has_select_for_update_skip_locked", False)
    assert found() == set()
    assert found(databases=["default"]) == {"I004"}
    monkeypatch.setattr(type(connection.features), "has_select_for_update_skip_locked", True)
    assert found(databases=["default"]) == set()


def test_they_can_be_silenced(settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {}
    settings.SILENCED_SYSTEM_CHECKS = ["stayafrica_messaging.W009"]
    assert messages() and all(message.is_silenced() for message in messages())
