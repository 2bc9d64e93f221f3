"""A project's own models, and rows that the database refuses."""

from __future__ import annotations

import logging
import random
import string
import threading

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection

from stayafrica_messaging import adapters

from .chat.messaging import ChatAdapter
from .chat.models import ChatMessage, Note, Room
from .fixtures_receive import ADAPTERS, accounted, message, post, queries, received

pytestmark = pytest.mark.django_db(transaction=True)

BELOW_ZERO = -1  # violates a check: IntegrityError
TOO_LARGE = 2**70  # fits no column: DataError, or OverflowError on SQLite


@pytest.fixture
def own(settings):
    """The project's adapter, two users and a room."""

    def use(name: str) -> None:
        settings.STAYAFRICA_MESSAGING = {**settings.STAYAFRICA_MESSAGING, "ADAPTER": ADAPTERS + name}

    use("ChatAdapter")
    return use


@pytest.fixture
def chat(own):
    users = get_user_model().objects
    room, ann, ben = Room.objects.create(), users.create(username="ann"), users.create(username="ben")

    def say(number: int, stars: int = 0, **changes):
        fields = {"conversation_id": room.pk, "sender_id": ann.pk, "receiver_id": str(ben.pk), **changes}
        return message(number, metadata={"stars": stars}, **fields)

    return say


def bodies() -> list[str]:
    return list(ChatMessage.objects.order_by("pk").values_list("body", flat=True))


def test_messages_become_rows_of_the_project(chat):
    assert accounted([chat(1, stars=5), chat(2, conversation_id=None)]) == (2, 0, [])
    assert accounted([chat(1), chat(3)]) == (1, 1, [])
    first, second, _ = ChatMessage.objects.all()
    assert type(ChatAdapter().store(received(chat(9)))[0].instance.receiver_id) is int, "with the type of the key"
    assert (first.sender.username, first.receiver.username, first.stars) == ("ann", "ben", 5)
    assert first.room_id is not None and second.room_id is None


def test_missing_rows_are_found_together_and_refused_for_good(chat):
    gone = get_user_model().objects.create(username="gone").pk
    get_user_model().objects.filter(pk=gone).delete()
    batch = [
        chat(1),
        *(chat(n, conversation_id=10_000 + n) for n in range(2, 40)),
        *(chat(n, sender_id=gone) for n in range(40, 80)),
        chat(80, receiver_id="nobody"),
        chat(81, receiver_id=2**63 - 1),
        chat(82, receiver_id=str(2**80)),
        chat(83),
    ]
    with queries() as seen:
        persisted, _, errors = accounted(batch)
    assert len(seen) == 4, "as for a batch without them"
    assert persisted == 2 and bodies() == ["message 1", "message 83"]
    assert all(e["permanent"] for e in errors)
    assert errors[0]["error"] == "Room 10002 does not exist (room)"
    assert errors[38]["error"] == f"User {gone} does not exist (sender)"
    assert [e["error"] for e in errors[-3:]] == [
        f"User {name} does not exist (receiver)" for name in ("nobody", 2**63 - 1, 2**80)
    ]


@pytest.mark.parametrize("stars", [BELOW_ZERO, TOO_LARGE])
@pytest.mark.parametrize("place", [1, 250, 500])
def test_one_bad_row_among_500_costs_only_itself(chat, stars, place):
    batch = [chat(n, stars=stars if n == place else n) for n in range(1, 501)]
    with queries() as seen:
        persisted, duplicates, errors = accounted(batch)
    assert (persisted, duplicates) == (499, 0)
    assert [e["message"]["id"] for e in errors] == [batch[place - 1]["id"]]
    assert errors[0]["permanent"] is True and errors[0]["error"]
    assert bodies() == [f"message {n}" for n in range(1, 501) if n != place]
    assert len(seen) < 40, f"{len(seen)}: the batch is halved, not stored one by one"
    assert accounted([chat(n) for n in range(1, 501)])[:2] == (1, 499)


def test_several_bad_rows_of_all_kinds(chat):
    bad = {3: {"stars": BELOW_ZERO}, 4: {"stars": TOO_LARGE}, 17: {"stars": BELOW_ZERO}, 20: {"conversation_id": 99999}}
    batch = [chat(n, **bad.get(n, {})) for n in range(1, 41)]
    persisted, _, errors = accounted([*batch, message(41, text=None)])
    assert persisted == 36
    assert sorted(e["message"]["id"] for e in errors) == sorted([*(batch[n - 1]["id"] for n in bad), message(41)["id"]])
    assert all(e["permanent"] for e in errors)
    assert bodies() == [f"message {n}" for n in range(1, 41) if n not in bad]


def test_a_refusal_quotes_no_row(chat):
    _, _, errors = accounted([chat(1), chat(2, stars=BELOW_ZERO, text="between you and me")])
    assert "between you" not in errors[0]["error"] and len(errors[0]["error"].splitlines()) == 1


def test_where_the_database_takes_nothing_nothing_is_given_up(chat):
    """The cause may be a missing migration."""
    _, _, errors = accounted([chat(n, stars=BELOW_ZERO) for n in range(1, 8)])
    assert len(errors) == 7 and not any(e["permanent"] for e in errors)
    _, _, errors = accounted([chat(8, stars=BELOW_ZERO)])
    assert not errors[0]["permanent"]


def test_a_user_who_goes_while_the_batch_is_stored(chat, monkeypatch):
    """The database detects it at the commit, without naming the row."""
    late = get_user_model().objects.create(username="late")
    insert = ChatAdapter._insert

    def insert_later(self, *arguments):
        elsewhere(lambda: get_user_model().objects.filter(username="late").delete())
        insert(self, *arguments)

    monkeypatch.setattr(ChatAdapter, "_insert", insert_later)
    persisted, _, errors = accounted([chat(1), chat(2, sender_id=late.pk), chat(3)])
    assert persisted == 2 and bodies() == ["message 1", "message 3"]
    assert [(e["message"]["id"], e["error"]) for e in errors] == [
        (chat(2)["id"], f"User {late.pk} does not exist (sender)")
    ]


@pytest.mark.parametrize("stars", [0, BELOW_ZERO])
def test_references_that_nobody_looked_up(chat, monkeypatch, stars):
    monkeypatch.setattr(ChatAdapter, "references", ())
    batch = [chat(n, sender_id=99999) if n == 70 else chat(n) for n in range(1, 101)]
    persisted, _, errors = accounted([*batch, chat(101, stars=stars)])
    assert persisted + len(errors) == 101 and len(bodies()) == persisted
    assert persisted == (100 if stars == 0 else 99)
    assert errors[0]["message"]["id"] == batch[69]["id"] and all(e["permanent"] for e in errors)
    assert "foreign key" in errors[0]["error"]


def elsewhere(work) -> None:
    """Runs work with its own connection."""

    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_what_an_adapter_refuses(own):
    own("NoteAdapter")
    note = {"message_type": "note"}
    batch = [message(1, **note), message(2), message(3, **note), message(1, **note)]
    persisted, duplicates, errors = accounted(batch)
    assert (persisted, duplicates) == (2, 1)
    assert errors == [{"message": {"id": message(2)["id"]}, "error": "only notes are kept here", "permanent": True}]
    assert len(accounted([message(2), message(2)])[2]) == 2, "a repeated message is not a duplicate of a refused one"
    assert accounted([message(3, **note), message(4, **note)]) == (1, 1, [])
    assert list(Note.objects.order_by("pk").values_list("pk", flat=True)) == [message(n)["id"] for n in (1, 3, 4)]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite does not bound the length of text")
def test_text_that_is_too_long_for_its_column(own):
    own("NoteAdapter")
    _, _, errors = accounted([message(1, message_type="note"), message(2, message_type="note", text="x" * 21)])
    assert errors[0]["permanent"] and "too long" in errors[0]["error"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite indexes rows of any size")
def test_a_row_that_no_index_can_hold(chat):
    """PostgreSQL reports an operational error, but it is not an outage."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE INDEX by_body ON chat_chatmessage (body)")
    try:
        noise = "".join(random.Random(1).choices(string.printable[:90], k=20_000))  # does not compress
        persisted, _, errors = accounted([chat(1), chat(2, text=noise), chat(3)])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX by_body")
    assert persisted == 2 and errors[0]["permanent"] and "index row" in errors[0]["error"]


def test_an_adapter_that_asks_row_by_row(chat, monkeypatch):
    """It is allowed, but slow. A missing object is a temporary refusal, so the service retries."""

    def build(self, message):
        return ChatMessage(
            uuid=message.id,
            room=Room.objects.get(pk=message.conversation_id),
            sender_id=int(message.sender_id),
            receiver_id=message.receiver_id,
            sent_at=message.created_at,
        )

    monkeypatch.setattr(ChatAdapter, "build", build)
    persisted, _, errors = accounted([chat(1), chat(2, conversation_id=77777), chat(3, sender_id="ann")])
    assert persisted == 1
    assert errors[0]["error"] == "Room matching query does not exist." and not errors[0]["permanent"]
    assert "invalid literal" in errors[1]["error"] and not errors[1]["permanent"]


def test_what_follows_from_new_rows_is_in_their_transaction(chat, own, monkeypatch):
    own("RoomAdapter")
    accounted([chat(1), chat(2, stars=BELOW_ZERO), chat(3, created_at="2026-03-02T00:00:00.000Z")])
    assert Room.objects.get().last_message_at.isoformat() == "2026-03-02T00:00:00+00:00"
    Room.objects.update(last_message_at=None)

    def fail(*_, **__):
        raise OperationalError("gone")

    monkeypatch.setattr(adapters.bulk, "insert", fail)
    assert post([chat(4)]).status_code == 503
    assert Room.objects.get().last_message_at is None


def test_what_was_written_for_rows_that_were_rolled_back_is_written_again(chat, monkeypatch):
    def open_rooms(self, pairs):
        for _, row in pairs:
            if row.room_id is None:
                row.room = Room.objects.create()

    monkeypatch.setattr(ChatAdapter, "before_insert", open_rooms)
    batch = [chat(n, conversation_id=None, stars=BELOW_ZERO if n == 3 else 0) for n in range(1, 9)]
    persisted, _, errors = accounted(batch)
    assert persisted == 7 and errors[0]["permanent"]
    assert ChatMessage.objects.values("room").distinct().count() == 7
    assert Room.objects.count() == 8, "one of them existed before"


def test_a_mistake_in_an_adapter_is_loud(chat, monkeypatch, caplog):
    def build(self, message):
        return ChatMessage(uuid=message.uid)

    monkeypatch.setattr(ChatAdapter, "build", build)
    with pytest.raises(AttributeError):
        post([chat(1)])
    monkeypatch.setattr(ChatAdapter, "store", lambda self, messages: [])
    with pytest.raises(TypeError, match="0 outcomes for 1"), caplog.at_level(logging.CRITICAL):
        post([chat(1)])
