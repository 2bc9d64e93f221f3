"""What the client retries, and when, with a scripted server."""

from __future__ import annotations

import email.utils
import time
from typing import Any, Callable, List

import pytest

from stayafrica_messaging import MessagingClient, errors

from .fixtures_client import SENT, Pauses, StartScript, Step, answer, hang_up, refusal, silence

pytest_plugins = ["tests.fixtures_client"]


def send(client: MessagingClient) -> Any:
    return client.send(1, 2, 789, "x")


SAFE: List[Callable[[MessagingClient], Any]] = [
    send,
    lambda client: client.send_batch([{"text": "x"}]),
    lambda client: client.broadcast(1, [2], "x"),
    lambda client: client.peek(1),
    lambda client: client.queue_size(1),
    lambda client: client.extend(1, ["a"], 30),
    lambda client: client.dead_letters(),
    lambda client: client.dead_letter("a"),
    lambda client: client.jobs(),
    lambda client: client.job("a"),
    lambda client: client.stats(),
    lambda client: client.health(),
    lambda client: client.metrics(),
    lambda client: client.openapi(),
]
UNSAFE: List[Callable[[MessagingClient], Any]] = [
    lambda client: client.take(1),
    lambda client: client.lease(1, 30),
    lambda client: client.ack(1, ["a"]),
    lambda client: client.nack(1, ["a"]),
    lambda client: client.clear(1),
    lambda client: client.drop_dead_letter("a"),
    lambda client: client.redrive(all=True),
    lambda client: client.replay(from_sequence=1),
    lambda client: client.cancel_job("a"),
]


def tries(script: StartScript, step: Step, ask: Callable[[MessagingClient], Any]) -> int:
    server = script(step)
    with MessagingClient(server.url, retries=2, sleep=Pauses()) as client, pytest.raises(errors.MessagingError):
        ask(client)
    return len(server.requests)


@pytest.mark.parametrize("ask", SAFE)
def test_safe_calls_are_made_again(script: StartScript, ask: Callable[[MessagingClient], Any]) -> None:
    for step in (hang_up, answer(502, "bad gateway"), answer(503, "away"), refusal(500, "internal")):
        assert tries(script, step, ask) == 3


@pytest.mark.parametrize("ask", UNSAFE)
def test_other_calls_are_not(script: StartScript, ask: Callable[[MessagingClient], Any]) -> None:
    for step in (hang_up, answer(502, "bad gateway"), answer(503, "away"), refusal(500, "internal")):
        assert tries(script, step, ask) == 1


@pytest.mark.parametrize("ask", [*SAFE, *UNSAFE])
def test_what_the_service_did_not_begin_is_asked_again(
    script: StartScript, ask: Callable[[MessagingClient], Any]
) -> None:
    for status, code in [(503, "overloaded"), (503, "not_ready"), (429, "too_many_requests"), (408, "request_timeout")]:
        assert tries(script, refusal(status, code), ask) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 421, 507, 302])
def test_what_will_not_pass_is_not_asked_again(script: StartScript, status: int) -> None:
    assert tries(script, refusal(status, "whatever"), send) == 1


def test_tries_are_the_same_request(script: StartScript, pauses: Pauses) -> None:
    server = script(hang_up, answer(503, "away"), refusal(500, "internal"), answer(200, SENT))
    with MessagingClient(server.url, sleep=pauses) as client:
        assert send(client).sequence == 41
    first = server.requests[0]
    assert len(first.headers["idempotency-key"]) == 36
    for request in server.requests:
        assert (request.body, request.headers["idempotency-key"]) == (first.body, first.headers["idempotency-key"])
    assert len(server.requests) == 4


def test_two_sends_have_two_keys(script: StartScript) -> None:
    server = script(answer(200, SENT))
    with MessagingClient(server.url) as client:
        send(client)
        send(client)
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


# The time of retries


def test_pauses_are_drawn_from_zero_to_a_bound_that_doubles(script: StartScript) -> None:
    server = script(hang_up)
    rounds = []
    for _ in range(30):
        rounds.append(Pauses())
        with MessagingClient(server.url, retries=8, sleep=rounds[-1]) as client, pytest.raises(errors.ConnectionFailed):
            send(client)
    for number, bound in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]):
        drawn = [pauses[number] for pauses in rounds]
        assert all(0 <= pause <= bound for pause in drawn)
        assert max(drawn) > bound / 2
        assert min(drawn) < bound / 2
    assert {len(pauses) for pauses in rounds} == {8}


def test_a_pause_is_as_long_as_asked_for_and_not_longer_than_needed(script: StartScript, pauses: Pauses) -> None:
    server = script(
        refusal(503, "overloaded", {"Retry-After": "3"}),
        refusal(429, "too_many_requests", {"Retry-After": email.utils.formatdate(time.time() + 7, usegmt=True)}),
        refusal(503, "overloaded", {"Retry-After": "soon"}),
        answer(200, SENT),
    )
    with MessagingClient(server.url, sleep=pauses) as client:
        send(client)
    assert 3 <= pauses[0] <= 3.2
    assert 5.5 <= pauses[1] <= 7.4
    assert 0 <= pauses[2] <= 0.8


def test_who_would_have_to_wait_too_long_is_told(script: StartScript, pauses: Pauses) -> None:
    server = script(refusal(429, "too_many_requests", {"Retry-After": "3593"}))
    with MessagingClient(server.url, sleep=pauses) as client, pytest.raises(errors.Overloaded) as caught:
        send(client)
    assert caught.value.retry_after == 3593
    assert (len(server.requests), pauses) == (1, [])


def test_who_has_no_time_gives_up(script: StartScript, pauses: Pauses) -> None:
    server = script(silence(0.4))
    with MessagingClient(server.url, timeout=0.2, give_up_after=0.5, retries=100, sleep=pauses) as client:
        with pytest.raises(errors.TimedOut):
            send(client)
        assert 1 <= len(server.requests) <= 3
    pauses.clear()
    server = script(refusal(503, "overloaded", {"Retry-After": "3"}))
    with MessagingClient(server.url, give_up_after=2, sleep=pauses) as client, pytest.raises(errors.Overloaded):
        send(client)
    assert (len(server.requests), pauses) == (1, [])
