"""The relay as a process: pauses, signals, and deletion of old rows."""

from __future__ import annotations

import signal
import socket
import time
from datetime import timedelta
from typing import Callable, List

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from stayafrica_messaging import claims, delivery, outbox
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage
from stayafrica_messaging.relay import Relay

from .fixtures_client import (
    SENT,
    Request,
    Service,
    StartScript,
    StartService,
    answer,
    eventually,
    forward,
    refusal,
    silence,
)
from .fixtures_outbox import StartChild, due_now, fill, received, relay_program, send, some_users, states

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]
pytestmark = pytest.mark.django_db(transaction=True)

# Pauses


def test_pauses_grow_and_are_drawn() -> None:
    for attempts, bound in [(0, 1), (1, 2), (2, 4), (4, 16), (5, 30), (1000, 30)]:
        drawn = [delivery._pause(attempts) for _ in range(200)]
        assert bound / 2 <= min(drawn) < max(drawn) <= bound
        assert max(drawn) - min(drawn) > bound / 4


def test_the_relay_comes_seldom_while_nobody_is_there(left: Callable[..., None], nobody: str) -> None:
    left(nobody)
    relay = Relay(interval=1.0, workers=1)
    assert 0.8 <= relay._pause(relay.step()) <= 1.2  # nothing to do
    fill(some_users(10), 1)
    pauses = [relay._pause(relay.step()) for _ in range(8)]
    for vain, pause in enumerate(pauses, 1):
        bound = min(10.0, 2.0**vain)
        assert bound / 2 <= pause <= bound
    OutboxMessage.objects.update(state="sent")
    for _ in range(5):
        pause = relay._pause(relay.step())
    assert pause <= 1.2  # no rows are due


def test_the_relay_goes_on_at_once_where_there_is_more(service: Service, left: Callable[..., None]) -> None:
    left(service.url)
    fill(some_users(5), 1)
    relay = Relay(interval=1.0, limit=4)
    assert relay._pause(relay.step()) == 0
    assert relay._pause(relay.step()) == 0
    assert relay._pause(relay.step()) >= 0.8


def test_the_relay_outlives_the_database(
    service: Service, left: Callable[..., None], user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left(service.url)
    send("x", user, user)
    relay = Relay(interval=0.01)

    def gone(*_: object, **__: object) -> None:
        raise OperationalError("the database system is shutting down")

    with monkeypatch.context() as patch:
        patch.setattr(claims, "claim", gone)
        assert [relay.step(), relay.step(), relay.step()] == [None] * 3
    assert caplog.text.count("cannot be read") == 1
    step = relay.step()
    assert step is not None and step.sent == 1


def test_the_relay_reports_once(
    script: StartScript, left: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stayafrica_messaging")
    left(script(*[refusal(503, "overloaded")] * 9, answer(200, SENT)).url)
    relay = Relay()
    send("x")
    for _ in range(4):
        due_now()
        relay.step()
    assert caplog.text.count("messages are pending") == 1
    for _ in range(10):
        due_now()
        relay.step()
    assert caplog.text.count("messages are pending") == 1
    assert caplog.text.count("sent again") == 1


# Old rows


def test_rows_that_were_sent_long_ago_are_deleted(service: Service, left: Callable[..., None]) -> None:
    left(service.url, OUTBOX_KEEP_DAYS=2)
    fill(["1"], 4)
    outbox.relay_once()
    send("waits")
    OutboxMessage.objects.filter(pk=send("failed").pk).update(state="failed")
    old, young = timezone.now() - timedelta(days=2.1), timezone.now() - timedelta(days=1.9)
    first, second, third, _ = OutboxMessage.objects.filter(state="sent")
    OutboxMessage.objects.filter(pk__in=[first.pk, third.pk]).update(sent_at=old)
    OutboxMessage.objects.filter(pk=second.pk).update(sent_at=young)
    OutboxMessage.objects.exclude(state="sent").update(created_at=timezone.now() - timedelta(days=100))
    assert outbox.prune() == 2
    assert states() == ["sent", "sent", "pending", "failed"]


def test_many_old_rows_are_deleted_in_parts(left: Callable[..., None], nobody: str) -> None:
    left(nobody, OUTBOX_KEEP_DAYS=0)
    row = {"payload": {}, "lane": "x", "state": "sent", "sent_at": timezone.now()}
    OutboxMessage.objects.bulk_create([OutboxMessage(**row) for _ in range(1100)])  # type: ignore[arg-type]
    assert outbox.prune(stop=lambda: True) == 0
    assert outbox.prune() == 1100


def test_rows_are_kept_for_ever_where_a_project_says_so(left: Callable[..., None], nobody: str) -> None:
    left(nobody, OUTBOX_KEEP_DAYS=None)
    OutboxMessage.objects.create(payload={}, lane="x", state="sent", sent_at=timezone.now() - timedelta(days=1000))
    assert outbox.prune() == 0


def test_the_relay_deletes_old_rows_now_and_then(service: Service, left: Callable[..., None]) -> None:
    left(service.url, OUTBOX_KEEP_DAYS=0)
    relay = Relay()
    send("x")
    relay.step()
    assert states() == []
    send("y")
    relay.step()
    assert states() == ["sent"]


# The command


def test_once_sends_what_can_be_sent(service: Service, left: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    left(service.url)
    fill(some_users(3), 5)
    call_command("messaging_relay", once=True, limit=4)
    assert capsys.readouterr().out == "15 sent, 0 refused, 0 pending\n"
    call_command("messaging_relay", "--once")
    assert capsys.readouterr().out == "0 sent, 0 refused, 0 pending\n"


def test_once_says_when_it_could_not(left: Callable[..., None], nobody: str, capsys: pytest.CaptureFixture[str]) -> None:
    left(nobody)
    fill(some_users(3), 5)
    with pytest.raises(CommandError, match="messages are pending: no response"):
        call_command("messaging_relay", once=True)
    assert capsys.readouterr().out == "0 sent, 0 refused, 15 pending\n"


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--limit", "0"], ["--workers", "0"]])
def test_arguments_that_make_no_sense(arguments: List[str]) -> None:
    with pytest.raises(CommandError):
        call_command("messaging_relay", *arguments)


def test_settings_that_make_no_sense(left: Callable[..., None]) -> None:
    left("not a URL")
    with pytest.raises(CommandError, match="URL"):
        call_command("messaging_relay", "--once")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_waits(service: Service, left: Callable[..., None], child: StartChild, number: int) -> None:
    left(service.url)
    send("x")
    relay = child(relay_program("--interval", "30"), service.url)
    eventually(lambda: states() == ["sent"])
    time.sleep(0.3)
    began = time.monotonic()
    relay.process.send_signal(number)
    assert relay.wait(10) == 0, relay.output
    assert time.monotonic() - began < 2
    assert "stopped; 1 sent, 0 refused, 0 pending" in relay.output


def test_a_signal_ends_it_behind_the_message_in_hand(
    script: StartScript, service: Service, left: Callable[..., None], child: StartChild
) -> None:
    users = some_users(1)

    def slow(request: Request, connection: socket.socket) -> bool:
        time.sleep(0.5)
        return forward(service.url, answered=True)(request, connection)

    server = script(slow)
    left(server.url)
    fill(users, 5)
    relay = child(relay_program(), server.url)
    eventually(lambda: len(server.requests) == 1)
    relay.process.terminate()
    assert relay.wait(10) == 0, relay.output
    assert "stopped; 1 sent, 0 refused, 4 pending" in relay.output
    # It has released the rows that it did not try.
    assert outbox.relay_once().sent == 4
    assert received(MessagingClient(service.url), users[0]) == ["0", "1", "2", "3", "4"]


def test_it_ends_cleanly_where_the_database_is_away(
    left: Callable[..., None], nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left(nobody)

    def gone(*_: object, **__: object) -> None:
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr(claims, "rows", gone)
    monkeypatch.setattr(Relay, "_pause", lambda relay, result: relay.stop() or 0)
    call_command("messaging_relay")
    assert capsys.readouterr().out == "stopped; 0 sent, 0 refused\n"


def test_it_sends_on_when_the_service_is_back(start_service: StartService, left: Callable[..., None], child: StartChild) -> None:
    service = start_service()
    left(service.url)
    users = some_users(3)
    relay = child(relay_program("--interval", "0.1"), service.url)
    fill(users, 3)
    eventually(lambda: states() == ["sent"] * 9)
    service.kill()
    fill(users, 3)
    time.sleep(1)
    service.start()
    eventually(lambda: states() == ["sent"] * 18)
    relay.process.terminate()
    assert relay.wait() == 0, relay.output
    client = MessagingClient(service.url)
    for user in users:
        assert received(client, user) == ["0", "1", "2", "0", "1", "2"]


def test_a_relay_that_is_killed_leaves_its_rows_to_the_next(
    script: StartScript, service: Service, left: Callable[..., None], child: StartChild
) -> None:
    users = some_users(2)
    server = script(forward(service.url, answered=True), silence(60))
    left(server.url)
    fill(users, 3)
    killed = child("outbox.CLAIM_SECONDS = 1.0\n" + relay_program(), server.url, TIMEOUT=0.2, CONNECT_TIMEOUT=0.1)
    eventually(lambda: len(server.requests) >= 2)
    killed.process.kill()
    killed.wait()
    left(service.url)
    eventually(lambda: outbox.relay_once() and states() == ["sent"] * 6, 10)
    client = MessagingClient(service.url)
    for user in users:
        assert received(client, user) == ["0", "1", "2"]
