"""The signals: their arguments and their time."""

from __future__ import annotations

import contextlib

import pytest
from django.db import connection, transaction

from stayafrica_messaging.adapters import ModelAdapter
from stayafrica_messaging.models import Message
from stayafrica_messaging.receive import receive
from stayafrica_messaging.signals import message_persisted, messages_rejected

from .fixtures_receive import accounted, message, messages, post

pytestmark = pytest.mark.django_db(transaction=True)


@contextlib.contextmanager
def connected(signal, receiver):
    signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver)


def test_new_messages_are_announced_after_the_commit_in_their_order():
    heard = []

    def hear(sender, message, instance, **_):
        assert not connection.in_atomic_block
        assert Message.objects.filter(uuid=message.id).exists()
        assert isinstance(instance, Message) and instance.uuid == message.id
        heard.append((sender, message.text))

    with connected(message_persisted, hear):
        accounted(messages(2))
        accounted([message(3), *messages(2), message(3), message(4, text=7), message(5)])
    assert heard == [(ModelAdapter, f"message {n}") for n in (1, 2, 3, 5)]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite with this Django returns no keys")
def test_a_row_has_its_primary_key():
    keys = []
    with connected(message_persisted, lambda instance, **_: keys.append(instance.pk)):
        accounted(messages(3))
    assert keys == list(Message.objects.order_by("pk").values_list("pk", flat=True))


def test_rejected_messages_are_announced_once_a_batch():
    heard = []
    with connected(messages_rejected, lambda sender, rejections, **_: heard.append((sender, rejections))):
        accounted([message(1), message(2, text=7), message(3, priority=0), "x"])
        accounted([message(1)])
    ((sender, rejections),) = heard
    assert sender is ModelAdapter
    assert [(r.message, r.permanent) for r in rejections] == [
        (message(2, text=7), True),
        (message(3, priority=0), True),
        ("x", True),
    ]
    assert rejections[0].error == "text must be a string"


def test_within_a_transaction_of_the_caller_it_waits_for_that():
    heard = []
    with connected(message_persisted, lambda message, **_: heard.append(message.text)):
        with transaction.atomic():
            assert receive([message(1), message(2, text=7)], ModelAdapter()).persisted == 1
            assert heard == []
        assert heard == ["message 1"]


def test_a_receiver_that_fails_changes_nothing(caplog):
    def fail(**_):
        raise RuntimeError("no")

    with connected(message_persisted, fail), connected(messages_rejected, fail):
        assert accounted([message(1), 7])[0] == 1
    assert Message.objects.count() == 1
    assert [record.name for record in caplog.records] == ["django.dispatch"] * 2


def test_nothing_is_announced_that_was_not_stored(monkeypatch):
    from django.db import OperationalError

    def fail(*_):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(ModelAdapter, "after_insert", fail)
    heard = []
    with connected(message_persisted, lambda **_: heard.append(1)):
        assert post(messages(3)).status_code == 503
    assert heard == [] and not Message.objects.exists()
