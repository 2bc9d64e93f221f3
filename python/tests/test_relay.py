"""The relay sends the rows of the outbox once and in order, through all failures."""

from __future__ import annotations

import signal
import socket
import time
from datetime import timedelta
from typing import Any, Callable, List

import pytest
from django.utils import timezone

import stayafrica_messaging as messaging
from stayafrica_messaging import claims, outbox
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import (
    Request,
    Service,
    StartScript,
    StartService,
    Step,
    answer,
    eventually,
    forward,
    hang_up,
    refusal,
)
from .fixtures_outbox import StartChild, due_now, fill, in_threads, received, relay_program, send, some_users, states

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]
pytestmark = pytest.mark.django_db(transaction=True)


# Outages


def test_what_waited_for_the_service_comes_in_order(
    start_service: StartService, use: Callable[..., None], user: str
) -> None:
    service = start_service()
    use(service.url)
    client = MessagingClient(service.url)
    send("0", user, user)
    service.stop()
    for number in range(1, 10):
        send(str(number), user, user)
    due_now()
    assert outbox.relay_once().held == 1
    assert states() == ["sent"] + ["pending"] * 9
    service.start()
    due_now()
    assert outbox.relay_once().sent == 9
    send("10", user, user)
    outbox.relay_once()
    assert received(client, user) == [str(number) for number in range(11)]


def test_one_message_that_the_service_chokes_on_holds_up_its_lane_alone(
    script: StartScript, service: Service, left: Callable[..., None]
) -> None:
    users = some_users(4)

    def choke(request: Request, connection: socket.socket) -> bool:
        if (request.json["receiver_id"], request.json["text"]) == (users[0], "1"):
            return answer(500, {"status": "error", "message": "oh", "code": "internal", "field": None})(request, connection)
        return forward(service.url, answered=True)(request, connection)

    left(script(choke).url)
    fill(users, 5)
    result = outbox.relay_once()
    assert (result.sent, result.held, result.refused) == (16, 1, 0)
    client = MessagingClient(service.url)
    assert received(client, users[0]) == ["0"]
    for user in users[1:]:
        assert received(client, user) == ["0", "1", "2", "3", "4"]
    waiting = OutboxMessage.objects.filter(state="pending")
    assert [row.payload["text"] for row in waiting] == ["1", "2", "3", "4"]
    # Untried rows are not claimed.
    assert [row.next_attempt_at is None for row in waiting] == [False, True, True, True]
    assert outbox.relay_once() == outbox.PushResult()


def test_a_push_gives_up_where_nothing_gets_through(script: StartScript, left: Callable[..., None]) -> None:
    server = script(refusal(503, "overloaded"))
    left(server.url)
    fill(some_users(20), 2)
    result = outbox.relay_once()
    assert (result.sent, result.held) == (0, outbox.MAX_FAILURES)
    assert result.trouble is not None and not result.trouble.unreachable
    assert len(server.requests) == outbox.MAX_FAILURES
    assert OutboxMessage.objects.filter(next_attempt_at__isnull=False).count() == outbox.MAX_FAILURES


def test_a_push_gives_up_at_once_where_nobody_listens(left: Callable[..., None], nobody: str) -> None:
    left(nobody)
    fill(some_users(20), 2)
    result = outbox.relay_once()
    assert (result.sent, result.held) == (0, 1)
    assert result.trouble is not None and result.trouble.unreachable


@pytest.mark.parametrize(
    "step",
    [
        refusal(401, "unauthorized"),
        refusal(403, "forbidden"),
        refusal(404, "not_found"),
        refusal(429, "too_many_requests"),
        refusal(500, "internal"),
        refusal(503, "shutting_down"),
        refusal(507, "disk_full"),
        answer(400, "<html>Bad Request</html>"),
        answer(413, "<html>Request Entity Too Large</html>"),
        answer(409, {"detail": "a proxy's"}),
        answer(200, "<html>Welcome</html>"),
        answer(302, "", {"Location": "/login/"}),
        hang_up,
    ],
    ids=["401", "403", "404", "429", "500", "503", "507", "proxy 400", "proxy 413", "proxy 409", "page", "redirect", "reset"],
)
def test_what_says_nothing_about_the_message_is_tried_again(
    script: StartScript, service: Service, left: Callable[..., None], user: str, step: Step
) -> None:
    server = script(step, forward(service.url, answered=True))
    left(server.url)
    send("waits", user, user)
    assert outbox.relay_once().held == 1
    row = OutboxMessage.objects.get()
    assert (row.state, row.attempts) == ("pending", 1)
    assert row.last_error and "waits" not in row.last_error
    assert row.next_attempt_at is not None and row.next_attempt_at > timezone.now()
    assert outbox.relay_once().held == 0  # not yet
    due_now()
    assert outbox.relay_once().sent == 1
    assert received(MessagingClient(service.url), user) == ["waits"]
    row.refresh_from_db()
    assert (row.state, row.attempts, row.last_error, row.next_attempt_at) == ("sent", 2, "", None)


def test_an_answer_that_got_lost(script: StartScript, service: Service, left: Callable[..., None], user: str) -> None:
    """The service has stored the message. The next try detects that."""
    server = script(forward(service.url, answered=False), forward(service.url, answered=True))
    left(server.url)
    send("once", user, user)
    send("behind it", user, user)
    assert outbox.relay_once().held == 1
    client = MessagingClient(service.url)
    assert received(client, user) == ["once"]
    due_now()
    assert outbox.relay_once().sent == 2
    assert received(client, user) == ["once", "behind it"]


def test_an_answer_that_came_too_late(script: StartScript, service: Service, left: Callable[..., None], user: str) -> None:
    stored = forward(service.url, answered=False)

    def late(request: Request, connection: socket.socket) -> bool:
        stored(request, connection)
        time.sleep(1)
        return False

    server = script(late, forward(service.url, answered=True))
    left(server.url, TIMEOUT=0.3)
    row = messaging.broadcast(2, [user, "other"], "once")
    assert outbox.relay_once().held == 1
    due_now()
    assert outbox.relay_once().sent == 1
    row.refresh_from_db()
    assert (row.recipients, row.attempts) == (2, 2)
    assert received(MessagingClient(service.url), user) == ["once"]


# Refusals


def test_a_message_that_the_service_refuses_fails_and_holds_up_nobody(
    service: Service, left: Callable[..., None], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    left(service.url)
    send("before", user, user)
    # Only the service knows how far in the future a message may be due.
    refused = send("too far ahead", user, user, delay_seconds=400 * 86400)
    send("behind", user, user)
    result = outbox.relay_once()
    assert (result.sent, result.refused, result.held) == (2, 1, 0)
    refused.refresh_from_db()
    assert (refused.state, refused.attempts, refused.sent_at) == ("failed", 1, None)
    assert "can be due at most" in refused.last_error and "400" in refused.last_error
    assert received(MessagingClient(service.url), user) == ["before", "behind"]
    assert str(refused.key) in caplog.text and "too far ahead" not in caplog.text
    assert outbox.relay_once() == outbox.PushResult()


def test_a_payload_that_is_no_message_fails(service: Service, left: Callable[..., None], user: str) -> None:
    left(service.url)
    for payload in ({"text": "x"}, {"unknown": 1}, [], {"conversation_id": 1}):
        OutboxMessage.objects.create(payload=payload, lane="conversation:x")
    send("good", "x", user)
    assert outbox.relay_once().refused == 4
    assert states() == ["failed"] * 4 + ["sent"]
    assert all(OutboxMessage.objects.filter(state="failed").values_list("last_error", flat=True))


def test_failed_rows_can_be_tried_again(script: StartScript, service: Service, left: Callable[..., None], user: str) -> None:
    left(script(refusal(400, "invalid_field"), forward(service.url, answered=True)).url)
    row = send("again", user, user)
    assert outbox.relay_once().refused == 1
    assert outbox.retry(OutboxMessage.objects.all()) == 1
    row.refresh_from_db()
    assert (row.state, row.attempts, row.last_error) == ("pending", 0, "")
    assert outbox.relay_once().sent == 1
    assert outbox.retry(OutboxMessage.objects.all()) == 0
    assert received(MessagingClient(service.url), user) == ["again"]


def test_tries_are_counted_where_a_project_wants_an_end(script: StartScript, left: Callable[..., None]) -> None:
    left(script(refusal(500, "internal")).url, OUTBOX_MAX_ATTEMPTS=3)
    row = send("x")
    for _ in range(3):
        due_now()
        outbox.relay_once()
    row.refresh_from_db()
    assert (row.state, row.attempts) == ("failed", 3)


# Several relays


def test_two_relays_send_each_row_once_and_in_order(
    script: StartScript, service: Service, left: Callable[..., None], child: StartChild
) -> None:
    """The relays are processes with small batches, so that they compete."""
    users = some_users(8)
    server = script(forward(service.url, answered=True))
    left(server.url)
    fill(users, 25)
    program = relay_program("--interval", "0.05", "--limit", "7")
    relays = [child(program, server.url), child(program, server.url)]
    eventually(lambda: not OutboxMessage.objects.exclude(state="sent").exists(), 60)
    for relay in relays:
        relay.process.send_signal(signal.SIGTERM)
    assert [relay.wait() for relay in relays] == [0, 0]
    counts = [int(relay.output.rsplit("stopped; ", 1)[1].split()[0]) for relay in relays]
    assert sum(counts) == 200 and min(counts) > 0, counts
    # Each was sent only once, not merely stored once.
    assert len(server.requests) == 200
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 200
    client = MessagingClient(service.url)
    for user in users:
        assert received(client, user) == [str(number) for number in range(25)]
    assert set(OutboxMessage.objects.values_list("attempts", flat=True)) == {1}


def test_relays_beside_commits_keep_the_order_of_lanes(
    script: StartScript, service: Service, use: Callable[..., None]
) -> None:
    """Threads commit and relay concurrently, in a few lanes."""
    users = some_users(3)
    server = script(forward(service.url, answered=True))
    use(server.url)
    done: List[bool] = []

    def writer(user: str) -> Callable[[], None]:
        def write() -> None:
            for number in range(30):
                send(str(number), user, user)
            done.append(True)

        return write

    def relayer() -> None:
        while len(done) < len(users):
            outbox.relay_once(5)
            time.sleep(0.01)  # SQLite does not queue writers

    in_threads(*(writer(user) for user in users), relayer, relayer)
    while outbox.relay_once().sent:
        pass
    assert set(states()) == {"sent"}
    client = MessagingClient(service.url)
    for user in users:
        assert received(client, user) == [str(number) for number in range(30)]
    assert len(server.requests) == 90


def test_a_claim_keeps_others_out_of_the_lane_until_it_is_over(left: Callable[..., None], nobody: str) -> None:
    left(nobody)
    for lane in "ab":
        for number in range(3):
            send(f"{number}", conversation=lane)
    claimed = claims.claim(2, 60, ["conversation:a"])
    assert [row.payload["text"] for row in claimed] == ["0", "1"]
    others = claims.claim(100, 60)
    assert {row.lane for row in others} == {"conversation:b"}
    send("3", conversation="a")
    assert claims.claim(100, 60) == []
    claims.release(claimed)
    assert [row.payload["text"] for row in claims.claim(100, 0.05)] == ["0", "1", "2", "3"]
    time.sleep(0.1)
    assert len(claims.claim(100, 60)) == 4
    # An expired claim does not release the rows of a newer claim.
    claims.release(claimed)
    assert claims.claim(100, 60) == []


def test_what_another_claims_in_between_is_not_taken_with_a_gap(
    left: Callable[..., None], nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that another claim takes before the lock ends the claimed rows of its lane."""
    left(nobody)
    rows = [send(f"{number}", conversation=lane) for lane in "ab" for number in range(3)]
    locked = claims._locked

    def late(wanted: Any) -> Any:
        OutboxMessage.objects.filter(pk=rows[1].pk).update(next_attempt_at=timezone.now() + timedelta(seconds=60))
        return locked(wanted)

    monkeypatch.setattr(claims, "_locked", late)
    assert [row.pk for row in claims.claim(100, 60)] == [rows[0].pk, *(row.pk for row in rows[3:])]


def test_a_push_takes_few_broadcasts_at_a_time(left: Callable[..., None], nobody: str) -> None:
    """A broadcast may have a million receivers."""
    left(nobody)
    for number in range(claims.MAX_BROADCASTS + 2):
        send("x", conversation=number)
        messaging.broadcast(number, [1], "x")
    assert len(claims.claim(100, 60)) == 2 * claims.MAX_BROADCASTS + 1
