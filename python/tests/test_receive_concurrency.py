"""Concurrent requests with the same messages."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from stayafrica_messaging.adapters import ModelAdapter
from stayafrica_messaging.models import Conversation, Message
from stayafrica_messaging.signals import message_persisted

from .fixtures_receive import accounted, message, messages

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(batches):
    """Posts batches concurrently. Returns the results in the order of the batches."""

    def run(batch):
        try:
            return accounted(batch)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(batches)) as threads:
        return list(threads.map(run, batches))


@pytest.fixture
def together(monkeypatch):
    """Makes requests wait until all have looked for stored messages and found none."""

    def wait_for(count: int) -> None:
        barrier = threading.Barrier(count)
        look_up = ModelAdapter.look_up
        waited = threading.local()

        def look_up_and_wait(self, messages):
            look_up(self, messages)
            if not getattr(waited, "done", False):
                waited.done = True
                barrier.wait(20)

        monkeypatch.setattr(ModelAdapter, "look_up", look_up_and_wait)

    return wait_for


def rows() -> list[int]:
    return list(Message.objects.values_list("sequence", flat=True))


@pytest.mark.parametrize("requests", [2, 4])
def test_the_same_batch_at_once_is_stored_once(together, requests):
    heard = []
    hear = lambda message, **_: heard.append(message.sequence)  # noqa: E731
    together(requests)
    message_persisted.connect(hear, weak=False)
    try:
        answers = at_once([messages(500)] * requests)
    finally:
        message_persisted.disconnect(hear)
    assert sorted(answers) == [(0, 500, [])] * (requests - 1) + [(500, 0, [])]
    assert rows() == list(range(1, 501))
    assert sorted(heard) == list(range(1, 501)), "each is announced once"


def test_batches_that_overlap(together):
    together(3)
    answers = at_once([messages(300), messages(300, first=151), messages(300, first=301)])
    assert sum(persisted for persisted, _, _ in answers) == 600
    assert sum(duplicates for _, duplicates, _ in answers) == 300
    assert rows() == list(range(1, 601))


def test_conversations_that_several_begin(together):
    together(4)
    batches = [
        [message(n, conversation_id=f"c{n % 50}") for n in range(first, first + 100)] for first in (1, 101, 201, 301)
    ]
    assert at_once(batches) == [(100, 0, [])] * 4
    assert Conversation.objects.count() == 50 and rows() == list(range(1, 401))


def test_a_twin_that_came_first_after_all_is_a_duplicate(monkeypatch):
    """Even if two look-ups miss it, a stored message is not refused."""
    accounted(messages(3))
    known, early = ModelAdapter._known, iter([True, True])
    monkeypatch.setattr(ModelAdapter, "_known", lambda *of: set() if next(early, False) else known(*of))
    assert accounted(messages(5)) == (2, 3, [])
    assert rows() == [1, 2, 3, 4, 5]


def test_a_bad_message_in_the_same_batch_at_once(together):
    together(2)
    batch = [*messages(50), message(51, priority="x"), *messages(50, first=52)]
    answers = at_once([batch, batch])
    assert sorted((persisted, duplicates) for persisted, duplicates, _ in answers) == [(0, 100), (100, 0)]
    assert all(len(errors) == 1 for _, _, errors in answers)
