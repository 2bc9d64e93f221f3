"""Valid and invalid messages."""

from __future__ import annotations

import datetime
import json
import uuid
from types import SimpleNamespace

import pytest

from stayafrica_messaging.receive import Malformed, parse_batch, parse_message

from .fixtures_receive import message

UTC = datetime.timezone.utc


def test_a_message_of_the_service():
    read = parse_message(
        message(
            7,
            metadata={"a": [1, None]},
            deliver_at="2026-03-02T00:00:00.000Z",
            expires_at="2026-03-03T01:00:00.500+01:00",
            reply_to=12,
            tags=["x"],
        )
    )
    assert read.id == uuid.UUID(message(7)["id"])
    assert (read.sequence, read.text, read.message_type, read.priority) == (7, "message 7", "text", "normal")
    assert (read.conversation_id, read.sender_id, read.receiver_id) == ("456", "123", "789")
    assert read.metadata == {"a": [1, None]}
    assert read.created_at == datetime.datetime(2026, 3, 1, 12, 34, 56, 789000, UTC)
    assert read.deliver_at == datetime.datetime(2026, 3, 2, tzinfo=UTC)
    assert read.expires_at == datetime.datetime(2026, 3, 3, 0, 0, 0, 500000, UTC)
    assert read.expires_at.utcoffset() == datetime.timedelta(0)
    assert read.extra == {"reply_to": 12, "tags": ["x"]}
    assert read.raw["reply_to"] == 12


def test_what_may_be_left_out_or_null():
    for nothing in (..., None):
        read = parse_message(
            message(
                conversation_id=nothing,
                message_type=nothing,
                priority=nothing,
                metadata=nothing,
                deliver_at=nothing,
                expires_at=nothing,
            )
        )
        assert read.conversation_id is None
        assert (read.message_type, read.priority) == ("text", "normal")
        assert read.metadata == {} and read.extra == {}
        assert read.deliver_at is None and read.expires_at is None


@pytest.mark.parametrize(
    "value, text", [(0, "0"), (2**63 - 1, str(2**63 - 1)), ("789", "789"), ("a:b@c.d_e-f", "a:b@c.d_e-f")]
)
def test_ids_are_integers_or_strings(value, text):
    read = parse_message(message(conversation_id=value, sender_id=value, receiver_id=value))
    assert (read.conversation_id, read.sender_id, read.receiver_id) == (text, text, text)


@pytest.mark.parametrize(
    "field, values",
    [
        ("id", [..., None, 7, "7", "{0198000000007000800000000000000}", "0198000000007000800000000000000z"]),
        ("sequence", [..., None, "1", -1, 2**63, 1.0, True]),
        ("conversation_id", ["", -1, 2**63, 1.5, True, [], {}, "x" * 65, "a\x00b", "\ud800"]),
        ("sender_id", [..., None, "", True, "x" * 65]),
        ("receiver_id", [..., None, "", False, "x" * 65]),
        ("text", [..., None, 7, [], "a\x00b", "\udfff"]),
        ("message_type", [7, "x" * 65, "a\x00b"]),
        ("priority", ["urgent", 1, [], ""]),
        ("metadata", [[], "x", 7, False]),
        ("created_at", [..., None, 7, "yesterday", "2026-03-01", "2026-03-01T12:00:00", "2026-13-01T12:00:00Z"]),
        ("created_at", ["0001-01-01T00:00:00+10:00"]),
        ("deliver_at", [7, "soon"]),
        ("expires_at", [7, "2026-03-01T12:00:00"]),
    ],
)
def test_malformed_fields_are_named(field, values):
    for value in values:
        with pytest.raises(Malformed, match=f"^{field} "):
            parse_message(message(**{field: value}))


@pytest.mark.parametrize("raw", [None, 7, "x", [], True])
def test_what_is_no_object_is_no_message(raw):
    with pytest.raises(Malformed, match="must be an object"):
        parse_message(raw)


def test_naive_times_where_the_project_has_no_time_zones(monkeypatch):
    monkeypatch.setattr("stayafrica_messaging.receive.settings", SimpleNamespace(USE_TZ=False))
    nairobi = datetime.timezone(datetime.timedelta(hours=3))
    monkeypatch.setattr("django.utils.timezone.get_default_timezone", lambda: nairobi)
    assert parse_message(message()).created_at == datetime.datetime(2026, 3, 1, 15, 34, 56, 789000)


def test_a_batch():
    assert parse_batch(b'{"messages":[1,{"a":2}],"more":true}') == [1, {"a": 2}]
    assert parse_batch(b'{"messages":[]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"messages":{}}',
        b'{"message":[]}',
        b'{"messages":[NaN]}',
        b'{"messages":[]} x',
        b'{"messages":["\xff"]}',
        b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        json.dumps({"messages": []}).encode("utf-16")[:-1],
    ],
)
def test_what_is_no_batch(body):
    with pytest.raises(Malformed):
        parse_batch(body)
