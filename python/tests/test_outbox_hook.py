"""The push on commit: its cost, and that it never raises in its caller."""

from __future__ import annotations

import logging
import socket
import time
from typing import Any, Callable

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

import stayafrica_messaging as messaging
from stayafrica_messaging import claims, outbox
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import SENT, Request, StartScript, answer, eventually
from .fixtures_outbox import due_now, in_threads, received, states

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]
pytestmark = pytest.mark.django_db(transaction=True)


def send(user: str, text: str, conversation: object = 1, **options: Any) -> OutboxMessage:
    return messaging.send(conversation, 2, user, text, **options)  # type: ignore[arg-type]


def test_a_transaction_with_many_messages_asks_the_database_seldom(live: MessagingClient, user: str) -> None:
    def queries(count: int) -> int:
        with transaction.atomic():
            for number in range(count):
                send(user, str(number), conversation=number % 7)
            context = CaptureQueriesContext(connection)
            context.__enter__()
        context.__exit__(None, None, None)
        return len([query for query in context.captured_queries if not query["sql"].startswith(("BEGIN", "COMMIT"))])

    one, thirty = queries(1), queries(30)
    assert one <= 6  # candidates, lock, (SQLite: read,) claim, record
    assert thirty - one == 29  # each outcome is recorded separately
    assert states() == ["sent"] * 31


def test_an_insert_is_all_that_a_message_costs_a_transaction(live: MessagingClient, user: str) -> None:
    with transaction.atomic():
        with CaptureQueriesContext(connection) as context:
            send(user, "one")
        assert len(context.captured_queries) == 1


def test_older_rows_of_the_lane_are_pushed_first(live: MessagingClient, user: str, settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "OUTBOX_PUSH": False}
    send(user, "1")
    send(user, "other lane", conversation="elsewhere")
    settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "OUTBOX_PUSH": True}
    send(user, "2")
    assert received(live, user) == ["1", "2"]
    assert states() == ["sent", "pending", "sent"]


def test_threads_that_commit_in_one_lane_at_once_leave_nothing_behind(live: MessagingClient, user: str) -> None:
    def work(name: str) -> Callable[[], object]:
        def sends() -> None:
            for number in range(10):
                send(user, f"{name}{number}")

        return sends

    in_threads(*(work(name) for name in "abcd"))
    outbox.relay_once()  # rows that an open breaker, or a time-out of SQLite's lock, may have left
    texts = received(live, user)
    assert sorted(texts) == sorted(f"{name}{number}" for name in "abcd" for number in range(10))
    for name in "abcd":
        mine = [text for text in texts if text.startswith(name)]
        assert mine == sorted(mine)


def test_who_pushes_a_lane_pushes_what_is_committed_there_meanwhile(
    script: StartScript, use: Callable[..., None], user: str
) -> None:
    """Rows that are committed during a push of their lane are sent by that push, also without a relay."""

    def late(request: Request, connection: socket.socket) -> bool:
        time.sleep(0.4)
        return answer(200, SENT)(request, connection)

    server = script(late)
    use(server.url)

    def second() -> None:
        eventually(lambda: server.requests)
        assert send(user, "2").state == "pending"

    in_threads(lambda: send(user, "1"), second)
    assert [request.json["text"] for request in server.requests] == ["1", "2"]
    assert states() == ["sent", "sent"]


def test_the_hook_never_raises_when_the_service_is_down(
    use: Callable[..., None], nobody: str, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    use(nobody)
    with caplog.at_level(logging.WARNING, "stayafrica_messaging.outbox"):
        row = send(user, "waits")
        send(user, "waits too")
    assert row.state == "pending" and row.attempts == 1
    assert "no response" in row.last_error
    assert len(caplog.records) == 1  # logged once
    assert "waits" not in caplog.text


def test_the_hook_never_raises_when_the_settings_are_wrong(
    use: Callable[..., None], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    use("not a URL")
    assert send(user, "waits").state == "pending"
    assert "relay" in caplog.text
    assert OutboxMessage.objects.get().next_attempt_at is None  # it is not claimed


def test_the_hook_never_raises_when_the_database_is_gone(
    live: MessagingClient, user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(claims, "claim", gone)
        assert send(user, "waits").state == "pending"
    assert "not pushed" in caplog.text
    assert outbox.relay_once().sent == 1
    assert received(live, user) == ["waits"]


def test_a_settlement_that_the_database_loses_is_made_again(
    live: MessagingClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr(claims, "sent", gone)
        send(user, "once")
    due_now()
    assert outbox.relay_once().sent == 1
    assert received(live, user) == ["once"]
