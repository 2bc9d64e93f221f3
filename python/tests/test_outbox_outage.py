"""The outbox during outages of the service or crashes of the sending process."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from typing import Callable, Iterator, List

import pytest
from django.db import transaction
from django.utils import timezone

import stayafrica_messaging as messaging
from stayafrica_messaging import outbox
from stayafrica_messaging.breaker import Breaker
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import SENT, Request, StartScript, Step, answer, refusal, silence
from .fixtures_outbox import StartChild, due_now, in_threads, received, states

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]
pytestmark = pytest.mark.django_db(transaction=True)


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def send(text: str = "x", conversation: object = 1) -> OutboxMessage:
    return messaging.send(conversation, 2, 3, text)  # type: ignore[arg-type]


# A process that dies


DIES_BEFORE_THE_PUSH = """
with transaction.atomic():
    transaction.on_commit(lambda: os._exit(9))  # it runs before the hook of the message
    messaging.send(1, 2, {user!r}, "survives")
    messaging.send(1, 2, {user!r}, "survives too")
"""

DIES_BEHIND_THE_PUSH = """
from stayafrica_messaging import delivery
claims.sent = lambda *args, **kwargs: os._exit(9)
outbox.CLAIM_SECONDS = 1.0
with transaction.atomic():
    messaging.send(1, 2, {user!r}, "survives")
    messaging.send(1, 2, {user!r}, "survives too")
"""

DIES_WITH_A_ROLLBACK_PENDING = """
with transaction.atomic():
    messaging.send(1, 2, {user!r}, "never")
    os._exit(9)
"""


def test_a_crash_between_commit_and_push_loses_nothing(live: MessagingClient, user: str, child: StartChild) -> None:
    dying = child(DIES_BEFORE_THE_PUSH.format(user=user), live.url)
    assert dying.wait() == 9, dying.output
    assert states() == ["pending", "pending"]
    assert received(live, user) == []
    assert outbox.relay_once().sent == 2
    assert received(live, user) == ["survives", "survives too"]


def test_a_crash_behind_the_push_sends_nothing_twice(live: MessagingClient, user: str, child: StartChild) -> None:
    dying = child(DIES_BEHIND_THE_PUSH.format(user=user), live.url)
    assert dying.wait() == 9, dying.output
    assert states() == ["pending", "pending"]
    assert received(live, user) == ["survives", "survives too"]
    assert outbox.relay_once().sent == 0  # the claim of the dead process has not expired
    time.sleep(1.1)
    assert outbox.relay_once().sent == 2
    assert received(live, user) == ["survives", "survives too"]
    assert states() == ["sent", "sent"]


def test_a_crash_before_the_commit_sends_nothing(live: MessagingClient, user: str, child: StartChild) -> None:
    dying = child(DIES_WITH_A_ROLLBACK_PENDING.format(user=user), live.url)
    assert dying.wait() == 9, dying.output
    assert not OutboxMessage.objects.exists()


# An unreachable or slow service


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A URL that accepts no connections, because its backlog is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting: List[socket.socket] = []
    for _ in range(4):
        waiting.append(socket.socket())
        waiting[-1].setblocking(False)
        waiting[-1].connect_ex(listener.getsockname())
    time.sleep(0.1)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    for connection in [*waiting, listener]:
        connection.close()


def test_a_service_that_does_not_answer_stops_a_commit_once_and_shortly(
    script: StartScript, use: Callable[..., None]
) -> None:
    server = script(silence(20))
    use(server.url)
    assert 0.5 < seconds_of(send) < 2.5
    assert sum(seconds_of(send) > 0.4 for _ in range(20)) == 0
    assert len(server.requests) == 1
    assert OutboxMessage.objects.filter(attempts=0).count() == 20


def test_a_service_that_cannot_be_connected_to_stops_a_commit_once_and_shortly(
    black_hole: str, use: Callable[..., None]
) -> None:
    use(black_hole)
    assert 0.3 < seconds_of(send) < 2
    assert sum(seconds_of(send) > 0.4 for _ in range(20)) == 0


def test_a_transaction_with_many_messages_stops_its_caller_for_a_bounded_time(
    script: StartScript, use: Callable[..., None]
) -> None:
    """The remaining rows are not claimed, so the relay can push them at once."""
    server = script(after(0.1, answer(200, SENT)))
    use(server.url)

    def work() -> None:
        with transaction.atomic():
            for number in range(100):
                send(conversation=number)

    assert 0.8 < seconds_of(work) < 3
    assert 3 <= states().count("sent") <= 12
    assert not OutboxMessage.objects.filter(state="pending", next_attempt_at__isnull=False).exists()


def test_a_service_that_answers_slowly_is_left_to_the_relay(script: StartScript, use: Callable[..., None]) -> None:
    server = script(after(0.6, answer(200, SENT)))
    use(server.url)
    assert send().state == "sent"
    assert sum(seconds_of(send) > 0.4 for _ in range(20)) == 0
    assert len(server.requests) == 1


def after(seconds: float, step: Step) -> Step:
    def late(request: Request, connection: socket.socket) -> bool:
        time.sleep(seconds)
        return step(request, connection)

    return late


def test_the_push_begins_again_when_the_service_is_back(
    script: StartScript, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_breaker", Breaker(0.3))
    server = script(refusal(503, "overloaded"), answer(200, SENT))
    use(server.url)
    first, second = send(conversation=1), send(conversation=2)
    assert (first.state, second.state, len(server.requests)) == ("pending", "pending", 1)
    time.sleep(0.35)
    assert send(conversation=3).state == "sent"
    assert send(conversation=4).state == "sent"
    assert states() == ["pending", "pending", "sent", "sent"]


def test_a_service_that_asks_for_more_time_gets_it(script: StartScript, use: Callable[..., None]) -> None:
    server = script(refusal(503, "overloaded", {"Retry-After": "60"}))
    use(server.url)
    before = timezone.now()
    send()
    row = OutboxMessage.objects.get()
    assert row.next_attempt_at is not None
    assert timedelta(seconds=60) < row.next_attempt_at - before < timedelta(seconds=65)
    assert outbox._breaker._retry_at - time.monotonic() > 50


def test_one_process_tries_again_with_one_thread(
    script: StartScript, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads do not wait for a service that may still be unreachable."""
    monkeypatch.setattr(outbox, "_breaker", Breaker(0.2))
    server = script(silence(5))
    use(server.url)
    send(conversation="first")
    time.sleep(0.25)
    took: List[float] = []
    ready = threading.Barrier(5)

    def work(number: int) -> Callable[[], None]:
        def sends() -> None:
            OutboxMessage.objects.count()  # connects
            ready.wait()
            took.append(seconds_of(lambda: send(conversation=number)))

        return sends

    # More than one may try if the first has failed before the last begins.
    in_threads(*(work(number) for number in range(5)))
    assert len(server.requests) <= 3
    assert sorted(took)[2] < 0.9


def test_rows_behind_one_that_waits_are_not_pushed(
    script: StartScript, use: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of a lane is pushed first, even after later sends."""
    monkeypatch.setattr(outbox, "_breaker", Breaker(0))
    server = script(refusal(500, "internal"), answer(200, SENT))
    use(server.url)
    send("first", "lane"), send("second", "lane"), send("elsewhere", "other")
    assert [request.json["text"] for request in server.requests] == ["first", "elsewhere"]
    due_now()
    send("third", "lane")
    assert [request.json["text"] for request in server.requests][2:] == ["first", "second", "third"]


def test_a_breaker() -> None:
    breaker = Breaker(0.1)
    assert breaker.allows() and breaker.allows()
    assert not breaker.succeeded()
    assert breaker.failed() and not breaker.failed()
    assert not breaker.allows()
    time.sleep(0.11)
    assert breaker.allows()  # only one caller may try
    assert not breaker.allows()
    assert breaker.succeeded()
    assert breaker.allows()
