"""The admin pages of the service, with a running service."""

from __future__ import annotations

import io
import json
import socket
import time
import types
from typing import Any, Dict, List

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client
from django.urls import path

from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.service_admin import ServiceAdmin
from stayafrica_messaging.service_models import Service

from .fixtures_admin import (  # noqa: F401
    ScriptedDjango,
    ServiceProcess,
    make_dead_letters,
    no_proxy,
    no_service,
    scripted_django,
    service,
    service_binary,
    service_off,
    until,
)
from .test_admin_rows import NASTY, staff

pytestmark = pytest.mark.django_db
BASE = "/admin/stayafrica_messaging/service/"
PAGES = ["", "dead-letters/", "jobs/"]


def viewer() -> Client:
    return staff("view_service")


def operator() -> Client:
    return staff("view_service", "change_service")


def shown(client: Client, path: str = "", **query: Any) -> str:
    answer = client.get(BASE + path, query)
    assert answer.status_code == 200
    return answer.content.decode()


def act(client: Client, path: str, **fields: Any) -> str:
    """Posts, and returns the page after the redirects."""
    answer = client.post(BASE + path, fields, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_permissions_exist() -> None:
    names = set(Permission.objects.filter(content_type__model="service").values_list("codename", flat=True))
    assert names == {"view_service", "change_service"}


def test_the_index_leads_to_it(service: ServiceProcess) -> None:
    page = viewer().get("/admin/").content.decode()
    assert f'href="{BASE}"' in page


@pytest.mark.parametrize("path", [*PAGES, "replay/", "dead-letters/refused-x/"])
def test_pages_need_a_permission(path: str) -> None:
    assert staff("view_message").get(BASE + path).status_code == 403
    assert Client().get(BASE + path).status_code == 302


@pytest.mark.parametrize("path", ["dead-letters/act/", "replay/", "jobs/x/cancel/"])
def test_acting_needs_more_than_viewing(path: str) -> None:
    assert viewer().post(BASE + path, {"action": "redrive_all", "confirmed": "on"}).status_code == 403


@pytest.mark.parametrize("path", ["dead-letters/act/", "replay/", "jobs/x/cancel/"])
def test_acting_needs_the_csrf_token(path: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator().cookies
    assert strict.post(BASE + path, {"action": "redrive_all", "confirmed": "on"}).status_code == 403


@pytest.mark.parametrize("path", ["dead-letters/act/", "jobs/x/cancel/"])
def test_acting_is_a_post(path: str) -> None:
    assert operator().get(BASE + path).status_code == 405


def test_overview(service: ServiceProcess) -> None:
    service.client().send(5, 1, 2, "hello")
    make_dead_letters(service, "one")
    page = shown(viewer())
    for words in ("Delivery to Django", "Messages in queues", "Dead letters, refused", "Disk free", service.url):
        assert words in page
    assert "errornote" not in page
    assert '<th scope="row">Ready</th><td>yes' in page


def test_the_overview_says_how_the_drain_is(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    drain = '<th scope="row">Drain</th><td>'
    assert f"{drain}running" in shown(viewer())
    scripted_django.status = 503
    client = service.client()
    client.send(5, 1, 2, "hello")
    until(lambda: client.stats()["drain"] == "waiting")
    page = shown(viewer())
    assert f"{drain}waiting" in page and "The drain is off" not in page


def test_the_overview_says_that_the_drain_is_off(service_off: ServiceProcess) -> None:
    for text in ("one", "two"):
        service_off.client().send(5, 1, 2, text)
    page = shown(viewer())
    assert "The drain is off" in page and "Messages pending for Django: 2." in page
    assert '<th scope="row">Drain</th><td>off' in page and '<th scope="row">Lag, messages</th><td>2' in page
    assert "errornote" not in page


def test_the_overview_of_a_service_without_that_field(service: ServiceProcess, monkeypatch: Any) -> None:
    stats = MessagingClient.stats
    monkeypatch.setattr(MessagingClient, "stats", lambda self: {k: v for k, v in stats(self).items() if k != "drain"})
    assert '<th scope="row">Drain</th><td>running' in shown(viewer())


def test_viewers_see_no_buttons(service: ServiceProcess) -> None:
    letter = make_dead_letters(service, "one")[0]
    for path in [*PAGES, f"dead-letters/{letter}/"]:
        assert 'method="post" action="/admin/stayafrica' not in shown(viewer(), path)


def test_dead_letters_are_paged(service: ServiceProcess, monkeypatch: Any) -> None:
    monkeypatch.setattr("stayafrica_messaging.service_admin.dead_letters.PAGE", 2)
    ids = make_dead_letters(service, "one", "two", "three")
    client = viewer()
    first = client.get(BASE + "dead-letters/")
    second = client.get(first.context["next_page"])
    assert [letter.id for letter in (*first.context["letters"], *second.context["letters"])] == sorted(ids)
    assert second.context["next_page"] == "" and second.context["first_page"] == BASE + "dead-letters/"
    assert "3 dead letters" in first.content.decode()


def test_dead_letters_are_filtered(service: ServiceProcess) -> None:
    one, two = make_dead_letters(service, "one & only", "two")
    client = viewer()
    page = shown(client, "dead-letters/", reason="one & only")
    assert one in page and two not in page
    assert f"?like={one}" in shown(client, "dead-letters/")
    page = shown(client, "dead-letters/", like=one)
    assert page.count(one) > 2 and two not in page
    assert one not in shown(client, "dead-letters/", kind="undeliverable")
    assert "Select a valid choice" in shown(client, "dead-letters/", kind="sonst")
    shown(client, "dead-letters/", after="../../stats")


def test_everything_is_escaped(service: ServiceProcess) -> None:
    letter = make_dead_letters(service, NASTY)[0]
    client = operator()
    queries: List[Dict[str, str]] = [{}, {"reason": NASTY}, {"like": letter}]
    pages = [shown(client, "dead-letters/", **query) for query in queries]
    for page in [*pages, shown(client, f"dead-letters/{letter}/")]:
        assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_a_dead_letter_is_shown(service: ServiceProcess) -> None:
    letter = make_dead_letters(service, "one")[0]
    page = shown(viewer(), f"dead-letters/{letter}/")
    assert letter in page and "&quot;sender_id&quot;: 1" in page


def test_a_dead_letter_that_is_gone(service: ServiceProcess) -> None:
    letter = make_dead_letters(service, "one")[0]
    service.client().drop_dead_letter(letter)
    answer = viewer().get(f"{BASE}dead-letters/{letter}/", follow=True)
    assert "no longer exists" in answer.content.decode() and answer.status_code == 200
    assert viewer().get(f"{BASE}dead-letters/refused-nonsense/").status_code == 404


def test_chosen_ones_are_redriven(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    one, two = make_dead_letters(service, "one", "two")
    scripted_django.well = False  # now it stores all messages
    page = act(operator(), "dead-letters/act/", action="redrive", ids=[one])
    assert "Redriving 1 dead letters by job" in page
    until(lambda: one[len("refused-"):] in scripted_django.stored)
    assert two[len("refused-"):] not in scripted_django.stored
    until(lambda: [letter.id for letter in service.client().iter_dead_letters()] == [two])
    logged = LogEntry.objects.get()
    assert one in logged.change_message


def test_redrive_by_reason(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    one, two, also_one = make_dead_letters(service, "one", "two", "one")
    scripted_django.well = False
    act(operator(), "dead-letters/act/", action="redrive_reason", reason="one")
    until(lambda: [letter.id for letter in service.client().iter_dead_letters()] == [two])


def test_redrive_by_a_reason_of_many_lines(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    reason = "<html>\r\n<h1>413</h1>\n" + "<!-- a padding -->\r\n" * 200
    one, two, also_one = make_dead_letters(service, reason, "two", reason)
    scripted_django.well = False
    assert "Redriving dead letters with one reason" in act(operator(), "dead-letters/act/", action="redrive_reason", like=one)
    until(lambda: [letter.id for letter in service.client().iter_dead_letters()] == [two])
    assert "no longer exists" in act(operator(), "dead-letters/act/", action="redrive_reason", like=one)
    assert "no longer exists" in operator().get(BASE + "dead-letters/", {"like": one}, follow=True).content.decode()


def test_redriving_all_asks_first(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    make_dead_letters(service, "one", "two")
    scripted_django.well = False
    client = operator()
    page = act(client, "dead-letters/act/", action="redrive_all")
    assert "Are you sure?" in page and 'name="action" value="redrive_all"' in page
    assert service.client().jobs() == []
    page = act(client, "dead-letters/act/", action="redrive_all", confirmed="on")
    assert "Redriving all dead letters" in page
    until(lambda: service.client().dead_letters().total == 0)


def test_dropping_asks_first(service: ServiceProcess) -> None:
    one, two, three = make_dead_letters(service, "one", "two", "three")
    client = operator()
    page = act(client, "dead-letters/act/", action="drop", ids=[one, two])
    assert "2 dead letters will be dropped" in page and one in page and two in page
    assert service.client().dead_letters().total == 3
    service.client().drop_dead_letter(two)
    page = act(client, "dead-letters/act/", action="drop", ids=[one, two], confirmed="on")
    assert "Dropped 1 dead letters" in page
    assert [letter.id for letter in service.client().iter_dead_letters()] == [three]
    assert one in LogEntry.objects.get().change_message


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "redrive"},
        {"action": "drop", "confirmed": "on"},
        {"action": "drop", "ids": ["../../health"], "confirmed": "on"},
        {"action": "redrive_reason"},
        {"action": "explode"},
        {},
    ],
)
def test_nonsense_is_refused(service: ServiceProcess, fields: Dict[str, Any]) -> None:
    make_dead_letters(service, "one")
    page = act(operator(), "dead-letters/act/", **fields)
    assert 'class="error"' in page
    assert service.client().dead_letters().total == 1 and service.client().jobs() == []


def test_replay(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    sent = [service.client().send(conversation, 1, 2, "hello").id for conversation in (5, 6)]
    until(lambda: set(sent) <= set(scripted_django.stored))
    scripted_django.stored.clear()
    client = operator()
    fields = {"from_sequence": "1", "conversation_id": "6"}
    page = act(client, "replay/", **fields)
    assert "Are you sure?" in page and service.client().jobs() == []
    page = act(client, "replay/", confirmed="on", **fields)
    assert "Replaying from sequence 1, conversation 6 by job" in page
    until(lambda: sent[1] in scripted_django.stored)
    until(lambda: not service.client().jobs()[0].running)
    assert sent[0] not in scripted_django.stored


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Give either a sequence or a time to start from"),
        ({"from_sequence": "1", "from_time": "2026-01-01T00:00"}, "Give either a sequence or a time to start from"),
        ({"from_sequence": "1", "to_sequence": "2", "to_time": "2026-01-01T00:00"}, "Give either a sequence or a time to end at"),
        ({"from_sequence": "0"}, "greater than or equal to 1"),
        ({"from_sequence": "1", "user_id": "a b"}, "Enter a valid value"),
        ({"from_sequence": "1", "rate": "0"}, "greater than or equal to 1"),
        ({"from_time": "1960-01-01T00:00", "confirmed": "on"}, "not before 1970"),
    ],
)
def test_a_replay_that_cannot_be(service: ServiceProcess, fields: Dict[str, str], words: str) -> None:
    assert words in act(operator(), "replay/", **fields)
    assert service.client().jobs() == []


def test_jobs_are_shown_and_cancelled(service: ServiceProcess, scripted_django: ScriptedDjango) -> None:
    service.client().send_batch([{"conversation_id": 5, "sender_id": 1, "receiver_id": 2, "text": "x"}] * 50)
    job = service.client().replay(from_sequence=1, rate=1)
    client = operator()
    page = shown(client, "jobs/")
    assert job.id in page and 'http-equiv="refresh"' in page and 'value="Cancel"' in page
    page = act(client, f"jobs/{job.id}/cancel/")
    assert f"Job {job.id} (replay) is cancelled" in page
    assert 'value="Remove"' in page and "refresh" not in page
    assert service.client().job(job.id).state == "cancelled"
    assert f"Job {job.id} (replay) was removed" in act(client, f"jobs/{job.id}/cancel/", forget="Remove")
    assert "The job no longer exists" in act(client, f"jobs/{job.id}/cancel/")


@pytest.mark.parametrize("path", PAGES)
def test_a_service_that_is_down(no_service: str, path: str) -> None:
    page = shown(operator(), path)
    assert "cannot be reached" in page and no_service in page and "errornote" in page


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("dead-letters/act/", {"action": "redrive_all", "confirmed": "on"}),
        ("replay/", {"from_sequence": "1", "confirmed": "on"}),
        ("jobs/x/cancel/", {}),
    ],
)
def test_acting_while_it_is_down(no_service: str, path: str, fields: Dict[str, str]) -> None:
    assert "cannot be reached" in act(operator(), path, **fields)


@pytest.mark.parametrize("path", PAGES)
def test_a_wrong_token(service: ServiceProcess, settings: Any, path: str) -> None:
    settings.STAYAFRICA_MESSAGING = {"URL": service.url, "TOKEN": "wrong-token"}
    page = shown(operator(), path)
    assert "does not accept our token" in page and "wrong-token" not in page


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("url", ["nonsense", "http://[::1", "http://user:hidden@host"])
def test_a_wrong_address(settings: Any, url: str, path: str) -> None:
    settings.STAYAFRICA_MESSAGING = {"URL": url}
    page = shown(operator(), path)
    assert "settings for the messaging service are invalid" in page and "hidden" not in page


@pytest.mark.parametrize("path", PAGES)
def test_something_else_at_its_address(scripted_django: ScriptedDjango, settings: Any, path: str) -> None:
    settings.STAYAFRICA_MESSAGING = {"URL": scripted_django.url}
    shown(operator(), path)


def test_a_service_that_does_not_answer(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("stayafrica_messaging.service_status.PAGE_TIMEOUT", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings.STAYAFRICA_MESSAGING = {"URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        for path in PAGES:
            began = time.monotonic()
            assert "cannot be reached" in shown(operator(), path)
            assert time.monotonic() - began < 3


class Site(admin.AdminSite):
    """The project's own admin site, beside Django's."""


def test_another_admin_site(service: ServiceProcess, settings: Any) -> None:
    letter = make_dead_letters(service, "one")[0]
    site = Site(name="backoffice")
    site.register(Service, ServiceAdmin)
    urlconf = types.ModuleType("urls_of_a_test")
    urlconf.urlpatterns = [path("admin/", admin.site.urls), path("office/", site.urls)]  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = urlconf
    client = operator()
    for page in ("", "dead-letters/", f"dead-letters/{letter}/", "jobs/", "replay/"):
        answer = client.get("/office/stayafrica_messaging/service/" + page)
        assert answer.status_code == 200 and b'"/admin/' not in answer.content
    answer = client.post("/office/stayafrica_messaging/service/dead-letters/act/", {"action": "redrive", "ids": [letter]})
    assert answer["Location"] == "/office/stayafrica_messaging/service/jobs/"


def test_the_model_has_no_table() -> None:
    out = io.StringIO()
    call_command("dumpdata", "stayafrica_messaging", all=True, stdout=out)
    assert json.loads(out.getvalue()) == []
    call_command("makemigrations", "stayafrica_messaging", check=True, dry_run=True, stdout=out)
    assert list(Service.objects.all()) == [] and Service.objects.count() == 0


def test_the_log_of_actions_leads_back(service: ServiceProcess) -> None:
    make_dead_letters(service, "one")
    client = operator()
    act(client, "dead-letters/act/", action="redrive_all", confirmed="on")
    link = LogEntry.objects.get().get_admin_url()
    assert client.get(link)["Location"] == BASE
    assert link in client.get("/admin/").content.decode()


def test_a_restart_in_between(service: ServiceProcess) -> None:
    client = operator()
    letter = make_dead_letters(service, "one")[0]
    service.stop()
    assert "cannot be reached" in shown(client)
    service.start()
    assert letter in shown(client, "dead-letters/")
