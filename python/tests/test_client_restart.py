"""The clients while the service is stopped, killed and restarted."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Dict, List

import pytest

from stayafrica_messaging import AsyncMessagingClient, MessagingClient, errors

from .fixtures_client import Pauses, Service, StartScript, StartService, forward

pytest_plugins = ["tests.fixtures_client"]


def back_after(service: Service, seconds: float) -> threading.Thread:
    """Starts the service after a time, concurrently with the test."""

    def start() -> None:
        time.sleep(seconds)
        service.start()

    thread = threading.Thread(target=start)
    thread.start()
    return thread


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_send_outlives_a_restart(start_service: StartService, user: str, end: str) -> None:
    service = start_service()
    with MessagingClient(service.url, retries=100) as client:
        client.send(1, 2, user, "before")
        getattr(service, end)()
        back = back_after(service, 0.5)
        receipt = client.send(1, 2, user, "meanwhile")
        back.join()
        assert receipt.duplicate is False
        assert [message.text for message in client.take(user)] == ["before", "meanwhile"]


def test_an_awaited_send_outlives_a_restart(start_service: StartService, user: str) -> None:
    service = start_service()

    async def scenario() -> None:
        async with AsyncMessagingClient(service.url, retries=100) as client:
            await client.send(1, 2, user, "before")
            await asyncio.get_running_loop().run_in_executor(None, service.stop)
            back = back_after(service, 0.5)
            await client.send(1, 2, user, "meanwhile")
            back.join()
            assert [message.text for message in await client.take(user)] == ["before", "meanwhile"]

    asyncio.run(scenario())


def test_without_retries_a_restart_shows(start_service: StartService, user: str) -> None:
    service = start_service()
    with MessagingClient(service.url, retries=0) as client:
        client.send(1, 2, user, "x")
        service.stop()
        with pytest.raises(errors.ConnectionFailed):
            client.send(1, 2, user, "y")
        service.start()
        client.send(1, 2, user, "z")
        assert [message.text for message in client.take(user)] == ["x", "z"]


def test_no_send_is_lost_or_doubled_while_the_service_is_killed(start_service: StartService, user: str) -> None:
    service = start_service()
    sent: Dict[int, List[str]] = {number: [] for number in range(4)}
    ended = threading.Event()

    with MessagingClient(service.url, retries=100) as client:

        def work(number: int) -> None:
            while not ended.is_set():
                sent[number].append(client.send(number, 2, user, str(len(sent[number]))).id)

        threads = [threading.Thread(target=work, args=(number,)) for number in sent]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.3)
            service.kill()
            service.start()
        time.sleep(0.3)
        ended.set()
        for thread in threads:
            thread.join()

        stored = []
        while True:
            messages = client.take(user, 1000)
            stored += messages
            if not messages:
                break
    assert min(map(len, sent.values())) > 0
    for number, ids in sent.items():
        assert [message.id for message in stored if message.conversation_id == number] == ids
    assert len(stored) == sum(map(len, sent.values()))


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_answer_stores_once(service: Service, script: StartScript, pauses: Pauses, user: str, lost: int) -> None:
    between = script(*[forward(service.url, answered=False)] * lost, forward(service.url, answered=True))
    with MessagingClient(between.url, sleep=pauses) as client:
        receipt = client.send(1, 2, user, "x", delay_seconds=0.01)
        assert receipt.duplicate is True
        assert len(between.requests) == lost + 1
        assert len({(request.headers["idempotency-key"], request.body) for request in between.requests}) == 1
    with MessagingClient(service.url) as client:
        assert [message.id for message in client.take(user, wait=5)] == [receipt.id]
        assert client.take(user) == []


def test_lost_answers_to_a_batch_and_a_broadcast_store_once(
    service: Service, script: StartScript, pauses: Pauses, user: str
) -> None:
    lossy = [forward(service.url, answered=False), forward(service.url, answered=True)]
    between = script(*lossy, *lossy)
    with MessagingClient(between.url, sleep=pauses) as client:
        message = {"conversation_id": 1, "sender_id": 2, "receiver_id": user, "text": "x"}
        assert [receipt.duplicate for receipt in client.send_batch([message, message])] == [True, True]
        assert client.broadcast(1, [user], "y").duplicate is True
    with MessagingClient(service.url) as client:
        assert [message.text for message in client.take(user)] == ["x", "x", "y"]


def test_a_lost_take_is_not_taken_again(service: Service, script: StartScript, pauses: Pauses, user: str) -> None:
    between = script(forward(service.url, answered=False), forward(service.url, answered=True))
    with MessagingClient(service.url) as client:
        client.send(1, 2, user, "lost")
        client.send(1, 2, user, "kept")
    with MessagingClient(between.url, sleep=pauses) as client:
        with pytest.raises(errors.ConnectionFailed) as caught:
            client.take(user, 1)
        assert caught.value.sent is True
        assert [message.text for message in client.take(user)] == ["kept"]
    assert pauses == []


def test_a_leased_message_comes_back_after_a_restart(start_service: StartService, user: str) -> None:
    service = start_service()
    with MessagingClient(service.url, retries=100) as client:
        client.send(1, 2, user, "x")
        (message,) = client.lease(user, 60)
        service.stop()
        back = back_after(service, 0.2)
        assert client.ack(user, [message]) == {message.receipt: "expired"}
        back.join()
        (again,) = client.lease(user, 60)
        assert (again.id, again.deliveries) == (message.id, 2)
        assert client.ack(user, [again]) == {again.receipt: "acked"}
