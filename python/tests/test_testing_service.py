"""FakeMessaging compared with the real service."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional

import pytest

from stayafrica_messaging import calls, errors
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.memory import MemoryService, _copy_id
from stayafrica_messaging.testing import FakeMessaging, fake_messaging  # noqa: F401

from .fixtures_client import Service, StartService

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]


class Recorded:
    """The results and errors of calls, without the values that differ between services."""

    def __init__(self, perform: Callable[[str], Any]) -> None:
        self.perform = perform
        self.outcomes: List[Any] = []
        self.first: Optional[int] = None

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            outcome = self.perform(getattr(calls, name)(*args, **kwargs))
        except errors.MessagingError as error:
            told = [getattr(error, attribute, None) for attribute in ("code", "field", "index")]
            self.outcomes.append((name, type(error).__name__, *told))
            return None
        self.outcomes.append((name, self.plain(outcome)))
        return outcome

    def plain(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.plain(one) for one in value]
        if isinstance(value, dict):
            return sorted(value.values())
        if hasattr(value, "__dataclass_fields__"):
            names = set(value.__dataclass_fields__) - {"id", "created_at", "raw", "receipt", "deliver_at", "expires_at"}
            fields = {name: getattr(value, name) for name in names}
            if "sequence" in fields:
                self.first = fields["sequence"] if self.first is None else self.first
                fields["sequence"] -= self.first
            return fields
        return value


def conversation(do: Recorded, u: str, pause: Callable[[float], None]) -> None:
    """Makes some of each call, for users whose names begin with ``u``."""
    a, b = u + "a", u + "b"
    do("send", 1, 2, a, "1", metadata={"z": 1, "a": [1.5, None]}, extra={"reply_to": 9}, idempotency_key=u)
    do("send", 1, 2, a, "1", metadata={"z": 1, "a": [1.5, None]}, extra={"reply_to": 9}, idempotency_key=u)
    do("send", 1, 2, a, "other", idempotency_key=u)
    do("send", "c", "s", a, "2", priority="low")
    do("send", "c", "s", a, "3", priority="high", message_type="image")
    do("broadcast", 2, [a, b, a], "4", priority="normal")
    do("broadcast", 2, [a], "5", conversation_id=5, idempotency_key=u)
    do("broadcast", 2, [a], "5", conversation_id=5, idempotency_key=u)
    do("broadcast", 2, [], "nobody")
    do("send_batch", [{"conversation_id": 1, "sender_id": 2, "receiver_id": a, "text": text} for text in "67"], idempotency_key=u)
    do("send_batch", [{"conversation_id": 1, "sender_id": 2, "receiver_id": a, "text": text} for text in "67"], idempotency_key=u)
    do("send_batch", [{"conversation_id": 1, "sender_id": 2, "receiver_id": a, "text": "8"}, {"text": "x"}])
    do("send_batch", [])
    for changes in ({"priority": "x"}, {"metadata": []}, {"message_type": ""}, {"extra": {"id": 1}}, {"deliver_at": "x"}):
        do("send", 1, 2, a, "bad", **changes)
    do("send", 1, 2, "a b", "bad")
    do("peek", a, 2)
    do("queue_size", a)
    do("take", a, 3)
    leased = do("lease", a, 1, 2)
    do("queue_size", a)
    do("peek", a, 100)
    do("ack", a, [leased[0].receipt, "nonsense"])
    do("ack", b, [leased[1].receipt])
    do("extend", a, [leased[1].receipt], 1)
    pause(1.2)
    do("ack", a, [leased[1].receipt])
    again = do("lease", a, 60, 1)
    do("nack", a, [again[0].receipt], 0.5)
    do("nack", a, [again[0].receipt])
    do("queue_size", a)
    pause(0.7)
    do("nack", a, [again[0].receipt])
    do("peek", a, 100)
    do("send", 1, 2, b, "delayed", delay_seconds=0.5)
    do("send", 1, 2, b, "stale", ttl_seconds=0.1)
    pause(0.2)
    do("queue_size", b)
    do("take", b)
    pause(0.5)
    do("take", b)
    do("take", b)
    do("lease", a, 60, 1)
    do("ack", a, [again[0].receipt])
    do("clear", a)
    do("ack", a, [again[0].receipt])
    do("clear", a)
    do("take", u + "unknown")
    do("job", "nonsense")


def test_it_behaves_as_the_service_does(start_service: StartService, user: str) -> None:
    memory, client = MemoryService(), MessagingClient(start_service().url, retries=0)
    user = user[:40]

    fake, real = Recorded(memory.perform), Recorded(client.perform)
    conversation(fake, user, memory.advance)
    conversation(real, user, time.sleep)
    for mine, services in zip(fake.outcomes, real.outcomes):
        assert mine == services
    assert len(fake.outcomes) == len(real.outcomes)


def test_a_copy_of_a_broadcast_has_the_id_that_the_service_derives(service: Service, user: str) -> None:
    client = MessagingClient(service.url)
    receipt = client.broadcast(2, [user], "x")
    (message,) = client.take(user)
    assert message.id == _copy_id(receipt.id, user)


def test_operators_calls_have_answers(fake_messaging: FakeMessaging) -> None:
    client = MessagingClient()
    client.send(1, 2, 3, "x")
    assert client.health()["status"] == "ok"
    assert client.stats()["messages_processed"] == 1
    assert client.dead_letters().dead_letters == ()
    job = client.replay(from_sequence=1)
    assert (client.job(job.id), client.jobs()) == (job, [job])
    assert client.redrive(all=True).kind == "redrive"
    assert client.cancel_job(job.id) == job
    with pytest.raises(errors.NotFound):
        client.job(job.id)
    with pytest.raises(errors.NotFound):
        client.drop_dead_letter("refused-x")
    assert "messaging_" in client.metrics()
