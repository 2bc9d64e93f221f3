"""The defaults of the clients' options, and how clients encode their arguments."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict

import pytest
from django.test import override_settings
from django.utils.translation import gettext_lazy

from stayafrica_messaging import AsyncMessagingClient, MessagingClient
from stayafrica_messaging.encoding import encode
from stayafrica_messaging.options import Options

pytest_plugins = ["tests.fixtures_client"]

PACKAGE = Path(__file__).resolve().parents[1]


def test_settings_are_read_when_a_client_is_made() -> None:
    settings = {
        "URL": "http://messaging:8765/",
        "TOKEN": "t0ken",
        "TIMEOUT": 1,
        "CONNECT_TIMEOUT": 0.5,
        "RETRIES": 7,
        "POOL": 4,
    }
    with override_settings(STAYAFRICA_MESSAGING=settings):
        assert Options.resolve() == Options("http://messaging:8765", "t0ken", 1.0, 0.5, 7, 4)
        assert MessagingClient().url == "http://messaging:8765"
        given = Options.resolve("https://other", "", 2, 3, 0)
        assert given == Options("https://other", "", 2.0, 3.0, 0, 4)
    assert Options.resolve() == Options("http://127.0.0.1:8765", "", 5.0, 2.0, 3, 10)


def test_the_former_name_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERLANG_MESSAGING_URL", "http://environment:1")
    assert MessagingClient().url == "http://environment:1"
    with override_settings(ERLANG_MESSAGING_URL="http://settings:2"):
        assert MessagingClient().url == "http://settings:2"
        with override_settings(STAYAFRICA_MESSAGING={"URL": "http://dictionary:3"}):
            assert MessagingClient().url == "http://dictionary:3"


@pytest.mark.parametrize(
    "options",
    [
        {"url": ""},
        {"url": "messaging:8765"},
        {"url": "ftp://messaging"},
        {"url": "http://"},
        {"url": "http://me:hunter2@messaging"},
        {"url": "http://messaging/?a=b"},
        {"token": "a b"},
        {"token": "a\r\nX: b"},
        {"token": "ü"},
        {"timeout": 0},
        {"connect_timeout": -1},
        {"retries": -1},
        {"headers": {"X-Secret": "hunter2\r\n"}},
        {"headers": {"": "a"}},
        {"headers": {"X-Secret": "☃"}},
    ],
)
def test_options_that_cannot_work(options: Dict[str, Any]) -> None:
    for kind in (MessagingClient, AsyncMessagingClient):
        with pytest.raises(ValueError) as caught:
            kind(**options)
        assert "hunter2" not in str(caught.value)


def test_a_token_is_not_shown() -> None:
    assert "t0ken" not in repr(Options.resolve(token="t0ken"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), '"1.10"'),
        (gettext_lazy("Hello"), '"Hello"'),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=timezone.utc), '"2026-12-31T23:59:59Z"'),
        (datetime(2026, 1, 1, 1, 0, 0, 5000, tzinfo=timezone(timedelta(hours=2))), '"2025-12-31T23:00:00.005000Z"'),
        (MappingProxyType({"a": (1, 2)}), '{"a":[1,2]}'),
        ("Grüße 🌍", '"Grüße 🌍"'),
        (2**63 - 1, "9223372036854775807"),
    ],
)
def test_what_can_be_written(value: Any, text: str) -> None:
    assert encode(value) == text.encode()
    json.loads(encode(value))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("\ud800", ValueError),
        (datetime(2026, 1, 1), ValueError),
        (object(), TypeError),
        ({1, 2}, TypeError),
        (b"bytes", TypeError),
    ],
)
def test_what_cannot_be_written(value: Any, error: type) -> None:
    with pytest.raises(error):
        encode({"a": value})


def test_arguments_that_are_wrong_before_anything_is_sent(nobody: str) -> None:
    client = MessagingClient(nobody)
    with pytest.raises(ValueError, match="priority has its own argument"):
        client.send(1, 2, 3, "x", extra={"priority": "high"})
    with pytest.raises(ValueError, match="visible ASCII characters"):
        client.send(1, 2, 3, "x", idempotency_key="a b")
    with pytest.raises(ValueError, match="visible ASCII characters"):
        client.broadcast(1, [2], "x", idempotency_key="")
    with pytest.raises(ValueError, match="aware"):
        client.send(1, 2, 3, "x", deliver_at=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="aware"):
        client.replay(from_time=datetime(2026, 1, 1))
    with pytest.raises(TypeError):
        client.send(1, 2, object(), "x")  # type: ignore[arg-type]


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_needs_nothing() -> None:
    shown = python(
        "import sys, stayafrica_messaging as m;"
        "print(m.__version__ in repr(vars(m)), 'MessagingClient' in dir(m),"
        " sorted({'django', 'requests', 'httpx'} & set(sys.modules)))"
    )
    assert shown == "True True []"
    assert python("import stayafrica_messaging as m; print(m.errors.NotFound.__name__)") == "NotFound"
    assert python("import stayafrica_messaging as m; print(hasattr(m, 'nonsense'))") == "False"
    assert "MessagingClient" in python("from stayafrica_messaging import MessagingClient; print(MessagingClient)")


def test_a_client_without_django_settings_reads_the_environment() -> None:
    code = (
        "from stayafrica_messaging import MessagingClient;"
        "client = MessagingClient(); print(client.url, bool(client._options.token))"
    )
    assert python(code) == "http://127.0.0.1:8765 False"
    environment = {"ERLANG_MESSAGING_URL": "http://messaging:1", "MESSAGING_TOKEN": "t0ken"}
    assert python(code, **environment) == "http://messaging:1 True"


def test_a_client_without_django() -> None:
    hidden = "import sys; sys.modules['django'] = None;"
    code = "from stayafrica_messaging import MessagingClient, AsyncMessagingClient; print(MessagingClient().url)"
    assert python(hidden + code) == "http://127.0.0.1:8765"


def test_the_asynchronous_client_says_what_it_lacks() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "import stayafrica_messaging as m\n"
        "try: m.AsyncMessagingClient\n"
        "except ImportError as error: print(error)"
    )
    assert "stayafrica-messaging[async]" in python(code)


def test_settings_before_django_is_set_up() -> None:
    code = (
        "import stayafrica_messaging as m; from stayafrica_messaging.erlang import erlang_client;"
        "print(m.MessagingClient().url, erlang_client.base_url)"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "ERLANG_MESSAGING_URL": "http://messaging:1"}
    assert python(code, **environment) == "http://messaging:1 http://messaging:1"
