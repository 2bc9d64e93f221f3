"""Each call of the client, with the real service."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterator, List

import pytest

from stayafrica_messaging import MessagingClient, errors
from stayafrica_messaging.types import Message

from .fixtures_client import Request, Script, Service, StartScript, StartService, answer, eventually

pytest_plugins = ["tests.fixtures_client"]


@pytest.fixture
def client(service: Service) -> Iterator[MessagingClient]:
    with MessagingClient(service.url) as client:
        yield client


def test_a_message_arrives_as_it_was_sent(client: MessagingClient, user: str) -> None:
    receipt = client.send(
        1, 456, user, "Grüße, 世界 🌍", priority="high", metadata={"a": [1, 2.5, None]}, extra={"thread": {"id": 2**60}}
    )
    assert uuid.UUID(receipt.id).version == 7
    assert receipt.sequence > 0
    assert receipt.duplicate is False
    (message,) = client.take(user)
    assert message.id == receipt.id
    assert message.sequence == receipt.sequence
    assert abs(message.created_at - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert (message.conversation_id, message.sender_id, message.receiver_id) == (1, 456, user)
    assert (message.text, message.message_type, message.priority) == ("Grüße, 世界 🌍", "text", "high")
    assert message.metadata == {"a": [1, 2.5, None]}
    assert message.extra == {"thread": {"id": 2**60}}
    assert (message.deliver_at, message.expires_at, message.receipt, message.deliveries) == (None, None, "", 0)
    assert message.raw["text"] == message.text
    assert client.take(user) == []


def test_ids_are_numbers_texts_and_uuids(client: MessagingClient) -> None:
    user = uuid.uuid4()
    client.send("a.b:c@d-e", user, user, "x")
    (message,) = client.take(user)
    assert (message.conversation_id, message.sender_id, message.receiver_id) == ("a.b:c@d-e", str(user), str(user))


def test_queues_are_by_priority_and_then_in_order(client: MessagingClient, user: str) -> None:
    for text, priority in [("1", "low"), ("2", "normal"), ("3", "high"), ("4", "high"), ("5", "normal")]:
        client.send(1, 2, user, text, priority=priority)
    size = client.queue_size(user)
    assert (size.high, size.normal, size.low, size.leased, size.delayed, size.total) == (2, 2, 1, 0, 0, 5)
    assert [message.text for message in client.peek(user, 2)] == ["3", "4"]
    assert [message.text for message in client.take(user, 3)] == ["3", "4", "2"]
    assert [message.text for message in client.take(user)] == ["5", "1"]


def test_a_key_stores_once(client: MessagingClient, user: str) -> None:
    key = uuid.uuid4()
    first = client.send(1, 2, user, "x", idempotency_key=key)
    again = client.send(1, 2, user, "x", idempotency_key=str(key))
    assert (again.id, again.sequence, again.duplicate) == (first.id, first.sequence, True)
    with pytest.raises(errors.IdempotencyConflict) as caught:
        client.send(1, 2, user, "y", idempotency_key=key)
    assert (caught.value.status, caught.value.code) == (409, "idempotency_conflict")
    assert client.queue_size(user).total == 1


def test_calls_without_a_key_get_one_each(client: MessagingClient, user: str) -> None:
    assert client.send(1, 2, user, "x").id != client.send(1, 2, user, "x").id
    assert client.queue_size(user).total == 2


def test_a_batch_is_sent_in_order(client: MessagingClient, user: str) -> None:
    at = datetime.now(timezone.utc) + timedelta(hours=1)
    messages = [{"conversation_id": 1, "sender_id": 2, "receiver_id": user, "text": str(i)} for i in range(20)]
    messages[3]["expires_at"] = at
    key = uuid.uuid4()
    receipts = client.send_batch(messages, idempotency_key=key)
    assert [receipt.sequence for receipt in receipts] == list(range(receipts[0].sequence, receipts[0].sequence + 20))
    assert all(receipt.duplicate for receipt in client.send_batch(messages, idempotency_key=key))
    taken = client.take(user, 100)
    assert [message.id for message in taken] == [receipt.id for receipt in receipts]
    assert [message.text for message in taken] == [str(i) for i in range(20)]
    assert taken[3].expires_at == at.replace(microsecond=at.microsecond // 1000 * 1000)


def test_a_batch_is_refused_whole(client: MessagingClient, user: str) -> None:
    good: Dict[str, Any] = {"conversation_id": 1, "sender_id": 2, "receiver_id": user, "text": "x"}
    with pytest.raises(errors.InvalidMessage) as caught:
        client.send_batch([good, {**good, "priority": "urgent"}])
    assert (caught.value.code, caught.value.field, caught.value.index) == ("invalid_field", "priority", 1)
    assert "message 1, counted from 0" in str(caught.value)
    with pytest.raises(errors.InvalidMessage, match="messages is empty"):
        client.send_batch([])
    assert client.queue_size(user).total == 0


def test_a_broadcast_reaches_each_once(client: MessagingClient, user: str) -> None:
    users = [f"{user}-{i}" for i in range(5)]
    receipt = client.broadcast(1, iter([*users, users[0]]), "All!", priority="low", metadata={"a": 1}, extra={"b": 2})
    assert (receipt.recipients, receipt.duplicate) == (5, False)
    copies = [client.take(name) for name in users]
    assert [len(copy) for copy in copies] == [1] * 5
    message = copies[0][0]
    assert (message.text, message.message_type, message.priority) == ("All!", "system", "low")
    assert (message.conversation_id, message.metadata, message.extra) == (None, {"a": 1}, {"b": 2})
    assert message.sequence == receipt.sequence
    assert len({copy[0].id for copy in copies}) == 5


def test_a_broadcast_has_a_key_and_a_conversation(client: MessagingClient, user: str) -> None:
    first = client.broadcast(1, [user], "x", conversation_id=7, idempotency_key=f"k-{user}")
    again = client.broadcast(1, [user], "x", conversation_id=7, idempotency_key=f"k-{user}")
    assert (again.id, again.duplicate) == (first.id, True)
    assert [message.conversation_id for message in client.take(user)] == [7]


@pytest.mark.parametrize(
    "when", [{"delay_seconds": 0.3}, {"deliver_at": timedelta(seconds=0.3)}], ids=["delay_seconds", "deliver_at"]
)
def test_a_message_is_due_later(client: MessagingClient, user: str, when: Dict[str, Any]) -> None:
    if "deliver_at" in when:
        when = {"deliver_at": datetime.now(timezone.utc) + when["deliver_at"]}
    client.send(1, 2, user, "x", **when)
    assert client.take(user) == []
    assert client.queue_size(user).delayed == 1
    (message,) = client.take(user, wait=10)
    assert message.deliver_at is not None
    assert message.created_at < message.deliver_at <= datetime.now(timezone.utc)


def test_a_message_expires(client: MessagingClient, user: str) -> None:
    client.send(1, 2, user, "x", ttl_seconds=0.1)
    client.send(1, 2, user, "y", expires_at=datetime.now(timezone.utc) + timedelta(hours=1))
    time.sleep(0.3)
    (message,) = client.take(user)
    assert message.text == "y"
    assert message.expires_at is not None and message.expires_at > datetime.now(timezone.utc)


def test_waiting_for_a_message(client: MessagingClient, user: str) -> None:
    began = time.monotonic()
    assert client.take(user, wait=0.4) == []  # rounded up
    assert 0.9 < time.monotonic() - began < 5
    threading.Timer(0.3, client.send, (1, 2, user, "x")).start()
    assert [message.text for message in client.take(user, wait=20)] == ["x"]


def test_a_wait_outlasts_the_time_out(service: Service, user: str) -> None:
    with MessagingClient(service.url, timeout=0.5, retries=0) as client:
        assert client.take(user, wait=1) == []
        assert client.lease(user, 30, wait=1) == []


def test_leases(client: MessagingClient, user: str) -> None:
    for text in ("ack", "nack", "extend"):
        client.send(1, 2, user, text)
    done, back, longer = client.lease(user, 29.5)
    assert [message.deliveries for message in (done, back, longer)] == [1, 1, 1]
    assert client.take(user) == []
    assert client.queue_size(user).leased == 3
    assert client.ack(user, [done.receipt, "nonsense"]) == {done.receipt: "acked", "nonsense": "unknown"}
    assert client.ack(user, [done]) == {done.receipt: "unknown"}
    assert client.nack(user, [back]) == {back.receipt: "nacked"}
    assert client.nack(user, [back], delay_seconds=1) == {back.receipt: "expired"}
    assert client.extend(user, (message for message in [longer]), 60) == {longer.receipt: "extended"}
    (again,) = client.lease(user, 30, max_count=5)
    assert (again.text, again.deliveries) == ("nack", 2)
    assert client.ack(user, [again, longer]) == {again.receipt: "acked", longer.receipt: "acked"}
    assert client.queue_size(user).total == 0


def test_giving_back_for_later(client: MessagingClient, user: str) -> None:
    client.send(1, 2, user, "x")
    client.nack(user, client.lease(user, 30), delay_seconds=60)
    assert client.take(user) == []
    assert client.queue_size(user).delayed == 1


def test_clearing_a_queue(client: MessagingClient, user: str) -> None:
    client.send(1, 2, user, "x")
    client.send(1, 2, user, "y", delay_seconds=60)
    client.lease(user, 30, 1)
    assert client.clear(user) == 2
    assert client.clear(user) == 0


def test_undeliverable_messages(client: MessagingClient, user: str) -> None:
    sent = client.send(1, 2, user, "x")
    for _ in range(2):  # QUEUE_MAX_DELIVERIES
        client.nack(user, client.lease(user, 30))
    assert client.lease(user, 30) == []
    eventually(lambda: client.dead_letters(kind="undeliverable").total)
    letter = client.dead_letter(f"undeliverable-{sent.id}")
    assert (letter.kind, letter.attempts, letter.recipients, letter.status_code) == ("undeliverable", 2, 1, None)
    assert letter.message.id == sent.id
    assert letter.failed_at <= datetime.now(timezone.utc)
    assert letter.id in [entry.id for entry in client.dead_letters(kind="undeliverable").dead_letters]
    job = finished(client, client.redrive([letter.id]).id)
    assert (job.kind, job.state, job.done, job.total, job.failed, job.error) == ("redrive", "done", 1, 1, 0, None)
    assert job.finished_at is not None and job.finished_at >= job.created_at
    with pytest.raises(errors.NotFound):
        client.dead_letter(letter.id)
    assert [message.id for message in client.take(user)] == [sent.id]


def finished(client: MessagingClient, id: str) -> Any:
    eventually(lambda: not client.job(id).running)
    return client.job(id)


class Backend:
    """A Django that permanently refuses messages with the text "poison", and stores the rest."""

    def __init__(self, script: StartScript) -> None:
        self.stored: List[str] = []
        self.healed = False
        self.script: Script = script(self.persist)

    def persist(self, request: Request, connection: Any) -> bool:
        messages = request.json["messages"]
        bad = [] if self.healed else [message for message in messages if message["text"] == "poison"]
        self.stored += [message["id"] for message in messages if message not in bad]
        errors = [{"message": message, "error": "no such user", "permanent": True} for message in bad]
        return answer(200, {"persisted": len(messages) - len(bad), "errors": errors})(request, connection)


def test_refused_messages_and_replay(start_service: StartService, script: StartScript, user: str) -> None:
    backend = Backend(script)
    service = start_service(DJANGO_API_URL=backend.script.url)
    with MessagingClient(service.url) as client:
        good = client.send(7, 2, user, "good")
        poison = [client.send(conversation, 2, user, "poison") for conversation in range(5)]
        kept = client.send(7, 2, user, "kept here", persist=False)
        eventually(lambda: client.dead_letters().total == 5)

        page = client.dead_letters(limit=2, kind="refused", reason="no such user")
        assert (len(page.dead_letters), page.total) == (2, 5)
        assert page.next is not None
        rest = client.dead_letters(page.next, 100, kind="refused", reason="no such user")
        assert (len(rest.dead_letters), rest.next) == (3, None)
        letters = list(client.iter_dead_letters(limit=2))
        assert [letter.id for letter in letters] == [f"refused-{receipt.id}" for receipt in poison]
        assert {(letter.kind, letter.reason) for letter in letters} == {("refused", "no such user")}
        assert list(client.iter_dead_letters(kind="undeliverable")) == []

        assert client.drop_dead_letter(letters[0].id) is None
        with pytest.raises(errors.NotFound, match="no such dead letter"):
            client.drop_dead_letter(letters[0].id)

        backend.healed = True
        assert finished(client, client.redrive(reason="no such user", kind="refused").id).done == 4
        assert client.dead_letters().total == 0
        assert finished(client, client.redrive(all=True).id).total == 0
        assert set(backend.stored) == {good.id, *(receipt.id for receipt in poison[1:])}

        backend.stored.clear()
        job = finished(client, client.replay(from_sequence=1, conversation_id=7, user_id=user, rate=1000).id)
        assert (job.kind, job.state) == ("replay", "done")
        assert backend.stored == [good.id]
        assert kept.id not in backend.stored

        now = datetime.now(timezone.utc)
        slow = client.replay(from_time=now - timedelta(hours=1), to_time=now + timedelta(hours=1), rate=1)
        assert slow.state == "running"
        assert [entry.id for entry in client.jobs()][0] == slow.id
        assert client.cancel_job(slow.id).state == "cancelled"
        client.cancel_job(slow.id)
        with pytest.raises(errors.NotFound, match="no such job"):
            client.job(slow.id)


def test_numbers_and_health(client: MessagingClient, user: str) -> None:
    before = client.stats()["messages_processed"]
    client.send(1, 2, user, "x")
    stats = client.stats()
    assert stats["messages_processed"] == before + 1
    assert stats["counters"]["messages_processed"] == before + 1
    assert client.health()["service"] == "messaging_service"
    assert client.ready() == {"status": "success", "ready": True, "recovered": True, "disk": True, "draining": False}
    assert "messaging_messages_accepted_total" in client.metrics()
    assert client.openapi()["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"text": 5}, "text"),
        ({"text": "a\0b"}, "string"),
        ({"metadata": [1]}, "metadata"),
        ({"conversation_id": -1}, "conversation_id"),
        ({"receiver_id": "white space"}, "receiver_id"),
        ({"delay_seconds": 1, "deliver_at": "2030-01-01T00:00:00Z"}, "deliver_at"),
        ({"deliver_at": "tomorrow"}, "deliver_at"),
        ({"extra": {"id": "mine"}}, "id"),
    ],
)
def test_what_the_service_does_not_take(client: MessagingClient, arguments: Dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidMessage) as caught:
        good: Dict[str, Any] = {"conversation_id": 1, "sender_id": 2, "receiver_id": 3, "text": "secret words"}
        client.send(**{**good, **arguments})
    assert caught.value.status == 400
    assert field in (caught.value.field or caught.value.message)
    assert "secret words" not in str(caught.value)


def test_what_is_too_large(client: MessagingClient, user: str) -> None:
    with pytest.raises(errors.InvalidMessage) as caught:
        client.send(1, 2, user, "x" * 70_000)
    assert caught.value.code == "too_large"
    with pytest.raises(errors.InvalidMessage) as caught:
        client.send(1, 2, user, "x", metadata={"x": "y" * (2 << 20)})
    assert caught.value.status == 413


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a?b", "a b", "ü", "x" * 65])
def test_names_that_are_no_users(client: MessagingClient, name: str) -> None:
    users: List[Callable[[str], object]] = [client.take, client.queue_size, client.clear]
    for call in users:
        with pytest.raises(errors.InvalidMessage) as caught:
            call(name)
        assert caught.value.field == "user_id"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../jobs", "a?b"])
def test_ids_that_are_none(client: MessagingClient, name: str) -> None:
    for call in (client.dead_letter, client.drop_dead_letter, client.job, client.cancel_job):
        with pytest.raises((errors.NotFound, errors.InvalidMessage)):
            call(name)


def test_leases_take_no_more_than_they_may(client: MessagingClient, user: str) -> None:
    with pytest.raises(errors.InvalidMessage) as caught:
        client.lease(user, 4000)
    assert caught.value.field == "lease"
    with pytest.raises(errors.InvalidMessage) as caught:
        client.take(user, 0)
    assert caught.value.field == "max_count"
    with pytest.raises(errors.InvalidMessage) as caught:
        client.ack(user, [])
    assert caught.value.field == "receipts"


def test_a_token_is_needed(start_service: StartService, user: str) -> None:
    worker, metrics = "token-of-the-worker", "token-of-the-metrics"
    service = start_service(API_TOKENS=f"web:token-of-the-web,worker:{worker}", METRICS_TOKEN=metrics)
    with MessagingClient(service.url) as nameless, MessagingClient(service.url, "wrong") as wrong:
        for client in (nameless, wrong):
            with pytest.raises(errors.Unauthorized) as caught:
                client.send(1, 2, user, "x")
            assert "wrong" not in str(caught.value)
            assert client.health()["status"] == "ok"
            assert client.ready()["ready"] is True
    with MessagingClient(service.url, worker) as client:
        client.send(1, 2, user, "x")
        assert client.queue_size(user).total == 1
    with MessagingClient(service.url, metrics) as client:
        assert "messaging_" in client.metrics()
        with pytest.raises(errors.Forbidden):
            client.stats()


def test_a_foreign_name_is_refused(start_service: StartService) -> None:
    service = start_service(API_TOKENS="web:token-of-the-web", ALLOWED_HOSTS="messaging.internal")
    with MessagingClient(service.url, "token-of-the-web") as client, pytest.raises(errors.Forbidden) as caught:
        client.stats()
    assert caught.value.status == 421


def test_messages_show_no_text_when_they_are_logged(client: MessagingClient, user: str) -> None:
    client.send(1, 2, user, "secret words", metadata={"pin": "secret number"}, extra={"also": "secret too"})
    (message,) = client.take(user)
    assert isinstance(message, Message)
    assert "secret" not in repr(message)


def test_many_threads_share_a_client(client: MessagingClient, user: str) -> None:
    def work(number: int) -> None:
        for _ in range(25):
            client.send(number, 2, user, "x")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.queue_size(user).total == 200
    assert len({message.id for message in client.take(user, 1000)}) == 200
