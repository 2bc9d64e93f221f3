"""The real service drains into the app on a real WSGI server."""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict

import pytest

from stayafrica_messaging import MessagingClient, errors
from stayafrica_messaging.models import Conversation, Message
from stayafrica_messaging.signals import message_persisted

from .fixtures_client import Service, eventually

pytest_plugins = ["tests.fixtures_client"]
pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "shared between two"
CONVERSATIONS = 20
MESSAGES, BATCH = 10_000, 250


@pytest.fixture
def messaging(start_service, live_server, settings) -> Service:
    """A service that drains into this app."""
    settings.STAYAFRICA_MESSAGING = {"SECRET": SECRET}
    return start_service(DJANGO_API_URL=live_server.url, DJANGO_SHARED_SECRET=SECRET, PERSIST_MAX_BACKOFF="1s")


@pytest.fixture
def client(messaging):
    with MessagingClient(messaging.url) as client:
        yield client


def fields(n: int) -> dict:
    return {
        "conversation_id": f"room-{n % CONVERSATIONS}",
        "sender_id": n % 7,
        "receiver_id": n % 11 + 100,
        "text": str(n),
        "metadata": {"n": n},
    }


class Sender(threading.Thread):
    """Sends all messages in batches, each until it is accepted."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.client = MessagingClient(url)
        self.accepted = 0

    def run(self) -> None:
        for first in range(0, MESSAGES, BATCH):
            self.send([fields(n) for n in range(first, first + BATCH)], key=str(uuid.uuid4()))
            self.accepted += BATCH

    def send(self, batch: list, key: str) -> None:
        """Retries until the batch is accepted. The key makes sure that it is accepted once."""
        until = time.monotonic() + 60
        while True:
            try:
                self.client.send_batch(batch, idempotency_key=key)
                return
            except errors.MessagingError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def drained(client: MessagingClient) -> bool:
    """Whether the service has nothing left for Django."""
    return "messaging_drain_lag_messages 0\n" in client.metrics()


def test_ten_thousand_messages_through_a_restart_and_a_crash(messaging, client):
    announced = []
    hear = lambda message, **_: announced.append(message.id)  # noqa: E731
    message_persisted.connect(hear, weak=False)
    sender = Sender(messaging.url)
    sender.start()
    try:
        eventually(lambda: sender.accepted >= 2500 and Message.objects.exists())
        messaging.stop()
        messaging.start()
        eventually(lambda: sender.accepted >= 5000)
        messaging.kill()
        stored = Message.objects.count()
        messaging.start()
        assert 0 < stored < MESSAGES, "it was killed in the middle"
        eventually(lambda: Message.objects.count() >= MESSAGES, 90)
        eventually(lambda: drained(client), 30)
    finally:
        sender.join(90)
        message_persisted.disconnect(hear)

    rows = list(Message.objects.order_by("pk").values_list("uuid", "sequence", "conversation_id", "text", "metadata"))
    assert sorted(int(text) for *_, text, _ in rows) == list(range(MESSAGES)), "each once"
    assert all(metadata == {"n": int(text)} for *_, text, metadata in rows)
    assert Conversation.objects.count() == CONVERSATIONS
    assert_in_order(rows)
    assert sorted(announced) == sorted(key for key, *_ in rows), "and each was announced once"


def assert_in_order(rows: list) -> None:
    """Checks that the rows of each conversation were stored in the order of their sends."""
    by_conversation = defaultdict(list)
    for _, sequence, conversation, text, _ in rows:
        by_conversation[conversation].append((sequence, int(text)))
    for conversation, stored in by_conversation.items():
        assert stored == sorted(stored), conversation
        assert [text for _, text in stored] == sorted(text for _, text in stored), conversation


def test_a_broadcast_reaches_the_database_once_for_each(client):
    users = [str(n) for n in range(1000)]
    client.broadcast(1, users, "to all", extra={"pinned": 1.5})
    eventually(lambda: Message.objects.count() >= 1000 and drained(client))
    assert sorted(Message.objects.values_list("receiver_id", flat=True)) == sorted(users)
    row = Message.objects.first()
    assert row.conversation is None and row.extra == {"pinned": 1.5} and row.message_type == "system"
    assert Message.objects.order_by().values("sequence").distinct().count() == 1


def test_what_is_stored_is_what_was_sent(client):
    sender, metadata = "1d0b3a52-ffff-4e0e-8000-000000000001", {"deep": [{"a": None}, 12345678901234567890]}
    text = "Grüße, \"Ann\" \\ \n\t🦒"
    kind = {"message_type": "image", "priority": "high"}
    receipt = client.send(456, sender, 789, text, metadata=metadata, ttl_seconds=60, extra={"to": 12}, **kind)
    (taken,) = client.take(789)
    eventually(Message.objects.exists)
    row = Message.objects.get()
    assert (str(row.uuid), row.sequence) == (receipt.id, receipt.sequence)
    assert (row.conversation_id, row.sender_id, row.receiver_id) == ("456", sender, "789")
    assert (row.text, row.message_type, row.priority) == (text, "image", "high")
    assert (row.metadata, row.extra) == (metadata, {"to": 12})
    assert as_written(row.created_at) == taken.raw["created_at"]
    assert as_written(row.expires_at) == taken.raw["expires_at"]


def as_written(moment) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_a_refused_message_becomes_a_dead_letter_at_once(client, settings):
    settings.STAYAFRICA_MESSAGING = {"SECRET": SECRET, "ADAPTER": "tests.chat.messaging.NoteAdapter"}
    receipt = client.send(1, 2, 3, "no note")
    eventually(lambda: client.dead_letters().total == 1)
    (letter,) = client.dead_letters().dead_letters
    assert letter.message.id == receipt.id and letter.reason == "only notes are kept here"


def test_another_secret_stores_nothing_and_gives_nothing_up(client, settings):
    settings.STAYAFRICA_MESSAGING = {"SECRET": "another"}
    client.send(1, 2, 3, "hello")
    eventually(lambda: client.stats()["persistence_failures"] > 0, 60)
    assert not Message.objects.exists() and client.dead_letters().total == 0
    settings.STAYAFRICA_MESSAGING = {"SECRET": SECRET}
    eventually(Message.objects.exists, 60)


def test_signed_requests(start_service, live_server, settings):
    new, old, later = "the new key of two", "the old key of two", "one that comes later"
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": [later]}
    running = start_service(
        DJANGO_API_URL=live_server.url, MESSAGING_SIGNING_KEYS=f"{new},{old}", PERSIST_MAX_BACKOFF="1s"
    )
    with MessagingClient(running.url) as client:
        client.send(1, 2, 3, "hello")
        eventually(lambda: client.stats()["persistence_failures"] > 0, 60)
        assert not Message.objects.exists() and client.dead_letters().total == 0
        for number, keys in enumerate(([old], [new], [later, new]), 1):
            settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": keys}
            eventually(lambda: Message.objects.count() == number, 60)
            client.send(1, 2, 3, "hello again")


#: The mounts of the endpoint in urls_odd.py, each with a spelling for DJANGO_PERSIST_PATH.
ODD_MOUNTS = {
    "equals": "/api/v=1/erlang/persist/",
    "semicolon": "/api/a;b/erlang/persist/",
    "lower-case hexadecimal": "/api/caf%c3%a9/erlang/persist/",
    "encoded tilde": "/api/a%7Eb/erlang/persist/",
}


@pytest.mark.parametrize("path", ODD_MOUNTS.values(), ids=ODD_MOUNTS)
def test_a_signed_request_to_a_path_with_special_characters(start_service, live_server, settings, path):
    settings.ROOT_URLCONF = "tests.urls_odd"
    settings.STAYAFRICA_MESSAGING = {"SIGNING_KEYS": ["the only key of the two"]}
    running = start_service(
        DJANGO_API_URL=live_server.url, DJANGO_PERSIST_PATH=path, MESSAGING_SIGNING_KEYS="the only key of the two"
    )
    with MessagingClient(running.url) as client:
        receipt = client.send(1, 2, 3, "hello")
        eventually(Message.objects.exists, 60)
        assert str(Message.objects.get().uuid) == receipt.id
        assert client.stats()["persistence_failures"] == 0
