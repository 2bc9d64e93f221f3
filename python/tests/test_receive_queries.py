"""The number of statements for a batch of 500. It is the same on every database."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from stayafrica_messaging.models import Message

from .chat.models import ChatMessage, Room
from .fixtures_receive import ADAPTERS, accounted, is_bracket, message, messages, queries

pytestmark = pytest.mark.django_db(transaction=True)


def spread(count: int, first: int = 1, conversations: int = 500):
    return [message(n, conversation_id=n % conversations) for n in range(first, first + count)]


def test_a_batch_that_begins_conversations():
    with queries() as seen:
        assert accounted(spread(500)) == (500, 0, [])
    assert len(seen) == 4, [q[:80] for q in seen]


def test_a_batch_of_conversations_that_are_there():
    accounted(spread(500))
    with queries() as seen:
        assert accounted(spread(500, first=501)) == (500, 0, [])
    assert len(seen) == 3, [q[:80] for q in seen]


def test_a_batch_that_belongs_to_no_conversation():
    with queries() as seen:
        accounted(messages(500, conversation_id=...))
    assert len(seen) == 2, [q[:80] for q in seen]


def test_a_batch_that_came_before():
    accounted(spread(500))
    with queries() as seen:
        assert accounted(spread(500)) == (0, 500, [])
    assert len(seen) == 1, [q[:80] for q in seen]


def test_a_batch_with_messages_that_are_malformed():
    with queries() as seen:
        accounted([*spread(400), *messages(100, first=401, text=None)])
    assert len(seen) == 4


def test_the_models_of_a_project(settings):
    settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "ADAPTER": ADAPTERS + "ChatAdapter"}
    users = [get_user_model().objects.create(username=f"u{n}").pk for n in range(40)]
    rooms = [Room.objects.create().pk for _ in range(40)]
    batch = [
        message(n, conversation_id=rooms[n % 40], sender_id=users[n % 40], receiver_id=users[(n + 1) % 40])
        for n in range(1, 501)
    ]
    with queries() as seen:
        assert accounted(batch) == (500, 0, [])
    assert len(seen) == 4 and ChatMessage.objects.count() == 500


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL logs its statements")
def test_what_the_server_was_asked(postgres_server):
    """The transaction has BEGIN and COMMIT, and no savepoint."""
    if postgres_server is None:
        pytest.skip("only the private server has a readable log")
    with connection.cursor() as cursor:
        cursor.execute("SET log_statement = 'all'")
    before = len(postgres_server.log())
    accounted(spread(500))
    lines = postgres_server.log()[before:].splitlines()
    with connection.cursor() as cursor:
        cursor.execute("SET log_statement = 'none'")
    asked = [line.split("statement: ", 1)[1] for line in lines if "statement: " in line]
    assert [sql.split()[0] for sql in asked] == ["SELECT", "SELECT", "BEGIN", "INSERT", "INSERT", "COMMIT"]
    assert sum(not is_bracket(sql) for sql in asked) == 4


def test_order_within_a_statement():
    accounted(messages(500))
    assert list(Message.objects.order_by("pk").values_list("sequence", flat=True)) == list(range(1, 501))
