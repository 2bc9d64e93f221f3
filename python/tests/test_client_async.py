"""The asynchronous client has the same calls, errors and retries as the other."""

from __future__ import annotations

import asyncio
import inspect
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Awaitable, Callable, Dict, List

import httpx
import pytest
from asgiref.sync import async_to_sync

from stayafrica_messaging import AsyncMessagingClient, MessagingClient, __version__, calls, errors

from .fixtures_client import (
    NO_MESSAGES,
    SENT,
    Pauses,
    Service,
    StartScript,
    StartService,
    Step,
    answer,
    eventually,
    forward,
    hang_up,
    raw,
    refusal,
    reset,
    silence,
)

pytest_plugins = ["tests.fixtures_client"]

Scenario = Callable[[AsyncMessagingClient], Awaitable[Any]]


def run(url: str, scenario: Scenario, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncMessagingClient(url, **options) as client:
            return await scenario(client)

    return asyncio.run(main())


def test_both_clients_have_the_same_calls() -> None:
    descriptions = set(calls.__all__) - {"Call"}
    for kind in (MessagingClient, AsyncMessagingClient):
        assert descriptions <= set(vars(kind))
    for name in descriptions:
        description = inspect.signature(getattr(calls, name))
        for kind in (MessagingClient, AsyncMessagingClient):
            method = getattr(kind, name)
            assert method.__doc__ == getattr(calls, name).__doc__
            shown = inspect.signature(method)
            assert list(shown.parameters) == ["self", *description.parameters]
            assert f"Call[{shown.return_annotation}]" == description.return_annotation
    assert inspect.iscoroutinefunction(AsyncMessagingClient.send)


def test_each_call(service: Service, user: str) -> None:
    async def scenario(client: AsyncMessagingClient) -> None:
        first = await client.send(1, 2, user, "first", priority="high", extra={"a": 1})
        batch = await client.send_batch(
            [{"conversation_id": 1, "sender_id": 2, "receiver_id": user, "text": str(i)} for i in range(3)]
        )
        sent = await client.broadcast(1, [user, f"{user}-2"], "all", priority="low")
        assert sent.recipients == 2
        assert (await client.queue_size(user)).total == 5
        assert [message.id for message in await client.peek(user, 2)] == [first.id, batch[0].id]
        (taken,) = await client.take(user, 1)
        assert (taken.id, taken.extra) == (first.id, {"a": 1})
        done, back = await client.lease(user, 30, 2)
        assert await client.extend(user, [done, back], 60) == {done.receipt: "extended", back.receipt: "extended"}
        assert await client.ack(user, [done]) == {done.receipt: "acked"}
        assert await client.nack(user, [back]) == {back.receipt: "nacked"}
        assert await client.clear(user) == 3
        assert (await client.stats())["messages_processed"] > 0
        assert (await client.health())["status"] == "ok"
        assert (await client.ready())["ready"] is True
        assert "messaging_" in await client.metrics()
        assert "paths" in await client.openapi()
        with pytest.raises(errors.InvalidMessage) as caught:
            await client.send(1, 2, user, "x", priority="urgent")
        assert caught.value.field == "priority"
        with pytest.raises(errors.InvalidMessage) as caught:
            await client.send(1, 2, user, "x", metadata={"x": "y" * (2 << 20)})
        assert caught.value.status == 413

    run(service.url, scenario)


def test_dead_letters_and_jobs(start_service: StartService, user: str) -> None:
    service = start_service(QUEUE_MAX_DELIVERIES="1")
    with MessagingClient(service.url) as setup:
        for _ in range(5):
            setup.send(1, 2, user, "x")
        setup.nack(user, setup.lease(user, 30))
        eventually(lambda: setup.dead_letters().total == 5)

    async def scenario(client: AsyncMessagingClient) -> None:
        page = await client.dead_letters(limit=2, kind="undeliverable")
        assert (len(page.dead_letters), page.total) == (2, 5)
        letters = [letter async for letter in client.iter_dead_letters(limit=2)]
        assert len(letters) == 5
        assert (await client.dead_letter(letters[0].id)).id == letters[0].id
        await client.drop_dead_letter(letters[0].id)
        with pytest.raises(errors.NotFound):
            await client.dead_letter(letters[0].id)
        job = await client.redrive(all=True, kind="undeliverable")
        while (await client.job(job.id)).running:
            await asyncio.sleep(0.02)
        assert (await client.queue_size(user)).total == 4
        assert [entry.id for entry in await client.jobs()] == [job.id]
        await client.cancel_job(job.id)
        assert await client.jobs() == []
        with pytest.raises(errors.InvalidMessage, match="no backend"):
            await client.replay(from_time=datetime.now(timezone.utc) - timedelta(hours=1))

    run(service.url, scenario)


def test_a_waiting_call_holds_up_no_other(service: Service, user: str) -> None:
    async def scenario(client: AsyncMessagingClient) -> None:
        waiting = asyncio.gather(*(client.take(f"{user}-{i}", wait=20) for i in range(20)))
        await asyncio.sleep(0.2)
        await asyncio.gather(*(client.send(1, 2, f"{user}-{i}", str(i)) for i in range(20)))
        assert [[message.text for message in messages] for messages in await waiting] == [[str(i)] for i in range(20)]

    run(service.url, scenario, timeout=5)


def test_a_wait_outlasts_the_time_out(service: Service, user: str) -> None:
    assert run(service.url, lambda client: client.take(user, wait=1), timeout=0.5, retries=0) == []


def test_a_token(start_service: StartService, user: str) -> None:
    service = start_service(API_TOKENS="web:token-of-the-web")

    async def scenario(client: AsyncMessagingClient) -> Any:
        return await client.send(1, 2, user, "x")

    with pytest.raises(errors.Unauthorized):
        run(service.url, scenario)
    assert run(service.url, scenario, token="token-of-the-web").sequence > 0


def test_a_lost_answer_stores_once(service: Service, script: StartScript, pauses: Pauses, user: str) -> None:
    between = script(forward(service.url, answered=False), forward(service.url, answered=True))
    receipt = run(between.url, lambda client: client.send(1, 2, user, "x"), sleep=pauses.later)
    assert receipt.duplicate is True
    assert run(service.url, lambda client: client.queue_size(user)).total == 1


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (refusal(400, "missing_field"), errors.InvalidMessage),
        (refusal(409, "idempotency_conflict"), errors.IdempotencyConflict),
        (refusal(507, "disk_full"), errors.DiskFull),
        (answer(404, "<html>"), errors.BadAnswer),
        (answer(302, "", {"Location": "/login"}), errors.BadAnswer),
        (answer(200, "<html>Log in</html>"), errors.BadAnswer),
        (answer(200, '{"status":"success"'), errors.BadAnswer),
    ],
)
def test_what_is_not_tried_again(script: StartScript, pauses: Pauses, step: Step, kind: type) -> None:
    server = script(step)
    with pytest.raises(errors.MessagingError) as caught:
        run(server.url, lambda client: client.send(1, 2, 3, "x"), sleep=pauses.later)
    assert type(caught.value) is kind
    assert (len(server.requests), pauses) == (1, [])


BROKEN: Dict[str, Step] = {
    "hang up": hang_up,
    "reset": reset,
    "no http": raw(b"220 smtp.example.org ESMTP\r\n"),
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"status":"success"'),
    "bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"),
    "bad gzip": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_connections_that_break(script: StartScript, pauses: Pauses, name: str) -> None:
    server = script(BROKEN[name])
    scenarios: List[Scenario] = [lambda client: client.take(3), lambda client: client.send(1, 2, 3, "x")]
    for scenario, tries in zip(scenarios, (1, 3)):
        server.requests.clear()
        with pytest.raises(errors.ConnectionFailed) as caught:
            run(server.url, scenario, retries=2, sleep=pauses.later)
        assert caught.value.sent is True
        assert len(server.requests) == tries


def test_nobody_listens(nobody: str, pauses: Pauses) -> None:
    with pytest.raises(errors.ConnectionFailed) as caught:
        run(nobody, lambda client: client.take(3), retries=2, sleep=pauses.later)
    assert caught.value.sent is False
    assert len(pauses) == 2


def test_no_answer_in_time(script: StartScript, pauses: Pauses) -> None:
    server = script(silence(0.6))
    with pytest.raises(errors.TimedOut) as caught:
        run(server.url, lambda client: client.take(3), timeout=0.1, sleep=pauses.later)
    assert caught.value.sent is True
    assert len(server.requests) == 1


def test_it_comes_back_when_it_is_told_to(script: StartScript, pauses: Pauses) -> None:
    server = script(refusal(503, "overloaded", {"Retry-After": "3"}), answer(200, NO_MESSAGES))
    run(server.url, lambda client: client.take(3), sleep=pauses.later)
    (pause,) = pauses
    assert 3 <= pause <= 3.2


def test_readiness_is_an_answer(script: StartScript) -> None:
    server = script(answer(503, "<html>no upstream</html>"))
    assert run(server.url, lambda client: client.ready())["ready"] is False


def test_a_cancelled_call_ends_at_once(script: StartScript) -> None:
    server = script(silence(10))

    async def scenario(client: AsyncMessagingClient) -> None:
        call = asyncio.ensure_future(client.send(1, 2, 3, "x"))
        while not server.requests:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - began < 5

    run(server.url, scenario, timeout=20)
    assert len(server.requests) == 1


def test_what_a_request_says(script: StartScript) -> None:
    server = script(answer(200, SENT))

    async def scenario(client: AsyncMessagingClient) -> None:
        await client.send(1, 2, 3, "ü")
        await client.send(1, 2, 3, "ü")
        assert "t0ken" not in repr(client)

    run(server.url, scenario, token="t0ken", headers={"X-Tenant": "a"})
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/api/messages/send")
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["x-tenant"] == "a"
    assert request.headers["user-agent"] == f"stayafrica-messaging/{__version__}"
    assert request.headers["content-type"] == "application/json"
    assert len(request.headers["idempotency-key"]) == 36
    assert request.json["text"] == "ü"
    assert len(server.connections) == 1


def test_event_loops_share_a_client_and_leave_nothing(script: StartScript) -> None:
    server = script(answer(200, SENT))
    client = AsyncMessagingClient(server.url)
    for _ in range(5):
        asyncio.run(client.send(1, 2, 3, "x"))
    for _ in range(5):
        async_to_sync(client.send)(1, 2, 3, "x")  # type: ignore[no-untyped-call]
    assert len(server.requests) == 10
    assert len(client._clients) <= 1


def test_a_client_of_httpx_that_is_given_is_used_as_it_is(script: StartScript) -> None:
    server = script(answer(200, SENT))

    async def main() -> None:
        async with httpx.AsyncClient(headers={"X-Mine": "a"}) as given:
            async with AsyncMessagingClient(server.url, client=given) as client:
                await client.send(1, 2, 3, "x")
            assert not given.is_closed

    asyncio.run(main())
    assert server.requests[0].headers["x-mine"] == "a"
