"""FakeMessaging in the tests of a project."""

from __future__ import annotations

from contextlib import contextmanager
from io import StringIO
from typing import Any, Iterator, List
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

import stayafrica_messaging as messaging
from stayafrica_messaging import errors, outbox
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.erlang import erlang_client
from stayafrica_messaging.models import OutboxMessage
from stayafrica_messaging.testing import FakeMessaging, Sent, fake_messaging  # noqa: F401


pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]


def texts(fake: FakeMessaging) -> List[str]:
    return [sent.text for sent in fake.sent]


@contextmanager
def no_network() -> Iterator[None]:
    with mock.patch("socket.socket.connect", side_effect=AssertionError("the network")):
        yield


# In Django's test cases


class InTestCase(TestCase):
    """A TestCase, which never commits."""

    def setUp(self) -> None:
        self.fake = FakeMessaging().start()
        self.addCleanup(self.fake.stop)

    def test_what_was_sent_is_there_without_a_commit(self) -> None:
        with no_network():
            messaging.send(1, 2, 3, "hello", metadata={"a": 1})
            messaging.broadcast(2, [3, 4], "to all")
        self.assertEqual(texts(self.fake), ["hello", "to all"])
        self.assertEqual([message.text for message in self.fake.take(3)], ["hello", "to all"])
        self.assertEqual(self.fake.take(3), [])

    def test_what_is_rolled_back_is_never_there(self) -> None:
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            messaging.send(1, 2, 3, "never")
            1 / 0
        self.assertEqual(self.fake.sent, [])
        with transaction.atomic():
            messaging.send(1, 2, 3, "outer")
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                messaging.send(1, 2, 3, "inner")
                1 / 0
        self.assertEqual(texts(self.fake), ["outer"])

    def test_it_is_not_there_while_its_block_is_open(self) -> None:
        with transaction.atomic():
            messaging.send(1, 2, 3, "hello")
            self.assertEqual(self.fake.sent, [])
            with transaction.atomic():
                self.assertEqual(self.fake.take(3), [])
                self.assertEqual(MessagingClient().take(3), [])
        self.assertEqual(texts(self.fake), ["hello"])

    def test_hooks_that_are_captured_do_it_too(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            with transaction.atomic():
                row = messaging.send(1, 2, 3, "hello")
        self.assertEqual(row.state, "sent")
        self.assertEqual(texts(self.fake), ["hello"])
        self.assertEqual(OutboxMessage.objects.get().attempts, 1)

    def test_code_that_calls_the_client_finds_what_the_outbox_has(self) -> None:
        messaging.send(1, 2, 3, "hello")
        self.assertEqual([message.text for message in MessagingClient().take(3)], ["hello"])

    def test_an_outage(self) -> None:
        with self.fake.down():
            messaging.send(1, 2, 3, "waits")
            with self.assertRaises(errors.ConnectionFailed):
                MessagingClient().send(1, 2, 3, "lost")
            self.assertFalse(erlang_client.health_check())
            self.assertEqual(self.fake.sent, [])
            self.assertEqual(OutboxMessage.objects.get().state, "pending")
        self.assertEqual(texts(self.fake), ["waits"])
        self.assertEqual(OutboxMessage.objects.get().state, "sent")

    def test_an_outage_with_hooks(self) -> None:
        self.fake.down()
        with self.captureOnCommitCallbacks(execute=True):
            messaging.send(1, 2, 3, "one")
        self.assertEqual(OutboxMessage.objects.get().attempts, 1)
        self.fake.up()
        with self.captureOnCommitCallbacks(execute=True):
            messaging.send(1, 2, 3, "two")
        self.assertEqual(texts(self.fake), ["one", "two"])

    def test_a_refusal(self) -> None:
        self.fake.fail(errors.InvalidMessage(400, "invalid_field", "no", "text"))
        messaging.send(1, 2, 3, "refused")
        messaging.send(1, 2, 3, "fine")
        self.assertEqual(texts(self.fake), ["fine"])
        self.assertEqual([row.state for row in OutboxMessage.objects.all()], ["failed", "sent"])

    def test_an_answer_that_is_lost(self) -> None:
        self.fake.fail(errors.TimedOut("too late"), stored=True)
        messaging.send(1, 2, 3, "once")
        self.assertEqual(texts(self.fake), ["once"])
        self.assertEqual(texts(self.fake), ["once"])  # the second try does not add a message
        self.assertEqual(OutboxMessage.objects.get().state, "sent")

    def test_the_command(self) -> None:
        for number in range(20):
            messaging.send(number, 2, 3, f"{number}")
        call_command("messaging_relay", once=True, stdout=StringIO())
        self.assertEqual(set(OutboxMessage.objects.values_list("state", flat=True)), {"sent"})
        self.assertEqual(texts(self.fake), [f"{number}" for number in range(20)])

    def test_async_code(self) -> None:
        pytest.importorskip("httpx")

        async def talk() -> List[str]:
            client = messaging.AsyncMessagingClient()
            await client.send(1, 2, 3, "direct")
            return [message.text for message in await client.take(3)]

        messaging.send(1, 2, 3, "from the outbox")
        self.assertEqual(async_to_sync(talk)(), ["from the outbox", "direct"])

    def test_looking_is_harmless_in_a_broken_transaction(self) -> None:
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            messaging.send(1, 2, 3, "never")
            transaction.set_rollback(True)
            self.assertEqual(self.fake.sent, [])
            1 / 0


class InTestCaseAroundTheClass(TestCase):
    """A fake that starts before the transactions of the test."""

    @classmethod
    def setUpTestData(cls) -> None:
        messaging.send(1, 2, 3, "from setUpTestData")
        assert texts(cls.fake) == ["from setUpTestData"]

    @classmethod
    def setUpClass(cls) -> None:
        cls.fake = FakeMessaging().start()
        super().setUpClass()
        cls.addClassCleanup(cls.fake.stop)

    def test_one(self) -> None:
        self.fake.reset()
        messaging.send(1, 2, 3, "hello")
        self.assertEqual(texts(self.fake), ["hello"])

    def test_two(self) -> None:
        self.test_one()


class InTransactionTestCase(TransactionTestCase):
    """A TransactionTestCase, which commits."""

    def test_the_hooks_do_it(self) -> None:
        with FakeMessaging() as fake:
            with transaction.atomic():
                row = messaging.send(1, 2, 3, "hello")
                self.assertEqual(fake.sent, [])
            self.assertEqual(row.state, "sent")
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                messaging.send(1, 2, 3, "never")
                1 / 0
            with fake.down():
                messaging.send(1, 2, 3, "waits")
                self.assertEqual(texts(fake), ["hello"])
            self.assertEqual(texts(fake), ["hello", "waits"])


class WithoutDatabase(SimpleTestCase):
    """Clients do not need a database."""

    def test_clients(self) -> None:
        with FakeMessaging() as fake, no_network():
            MessagingClient("http://elsewhere:1", "token").send(1, 2, 3, "client")
            self.assertTrue(erlang_client.send_message(1, 2, 3, "original"))
            self.assertEqual([message["text"] for message in erlang_client.get_user_messages(3)], ["client", "original"])
            self.assertTrue(erlang_client.health_check())
        self.assertEqual(texts(fake), ["client", "original"])


# With pytest


def test_the_fixture(fake_messaging: FakeMessaging, db: None) -> None:
    messaging.send(1, 2, 3, "hello")
    assert texts(fake_messaging) == ["hello"]


@pytest.mark.django_db
def test_the_fixture_beside_a_mark(fake_messaging: FakeMessaging) -> None:
    messaging.send(1, 2, 3, "hello")
    assert [sent.text for sent in fake_messaging.sent_to("3")] == ["hello"]
    assert fake_messaging.sent_to(4) == []


@pytest.mark.django_db(transaction=True)
def test_the_fixture_beside_transactions(fake_messaging: FakeMessaging) -> None:
    assert messaging.send(1, 2, 3, "hello").state == "sent"
    assert texts(fake_messaging) == ["hello"]


def test_the_fixture_without_a_database(fake_messaging: FakeMessaging) -> None:
    MessagingClient().send(1, 2, 3, "hello")
    assert texts(fake_messaging) == ["hello"]


def test_everything_is_as_it_was_afterwards(nobody: str, settings: Any) -> None:
    settings.STAYAFRICA_MESSAGING = {"URL": nobody}
    breaker = outbox._breaker
    fake = FakeMessaging()
    with fake:
        assert MessagingClient().ready()["ready"]
        with pytest.raises(RuntimeError):
            fake.start()
    assert outbox._breaker is breaker
    with pytest.raises(errors.ConnectionFailed):
        MessagingClient(retries=0).ready()
    with fake:  # it can be used again
        assert MessagingClient().ready()["ready"]


@pytest.mark.django_db
def test_what_a_project_can_look_at(fake_messaging: FakeMessaging) -> None:
    messaging.send(7, "a", 3, "x", metadata={"k": 1}, persist=False, extra={"e": 1}, idempotency_key="mine", priority="high")
    row = messaging.broadcast("a", [1, "1", 2, 1], "y")
    first, second = fake_messaging.sent
    assert first == Sent(
        id=first.id, sequence=1, sender_id="a", receiver_ids=(3,), text="x", conversation_id=7, priority="high",
        metadata={"k": 1}, persist=False, extra={"e": 1}, idempotency_key="mine",
    )  # fmt: skip
    assert first.receiver_id == 3
    assert (second.receiver_ids, second.is_broadcast, second.message_type) == ((1, 2), True, "system")
    assert second.idempotency_key == str(row.key)
    with pytest.raises(ValueError):
        second.receiver_id


def test_the_clock(fake_messaging: FakeMessaging) -> None:
    client = MessagingClient()
    client.send(1, 2, 3, "later", delay_seconds=60)
    client.send(1, 2, 3, "stale", ttl_seconds=60)
    assert [message.text for message in fake_messaging.peek(3)] == ["stale"]
    fake_messaging.advance(61)
    assert [message.text for message in fake_messaging.lease(3, 30)] == ["later"]
    assert fake_messaging.take(3) == []
    fake_messaging.advance(31)
    (message,) = fake_messaging.lease(3, 30)
    assert message.deliveries == 2
    assert fake_messaging.nack(3, [message]) == {message.receipt: "nacked"}
    (message,) = fake_messaging.lease(3)
    assert fake_messaging.ack(3, [message]) == {message.receipt: "acked"}
    assert fake_messaging.queue_size(3).total == 0


def test_failures_come_once_each(fake_messaging: FakeMessaging) -> None:
    client = MessagingClient()
    fake_messaging.fail(errors.Overloaded(503, "overloaded", "later"), times=2)
    for _ in range(2):
        with pytest.raises(errors.Overloaded):
            client.send(1, 2, 3, "x")
    client.send(1, 2, 3, "x")
    assert texts(fake_messaging) == ["x"]
