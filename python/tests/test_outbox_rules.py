"""The outbox refuses the same messages as the service, with the same error."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Callable, Dict, List, Tuple

import pytest
import requests
from django.db import transaction
from django.utils.functional import lazystr

import stayafrica_messaging as messaging
from stayafrica_messaging import drafts
from stayafrica_messaging.client import MessagingClient
from stayafrica_messaging.errors import InvalidMessage, MessagingError
from stayafrica_messaging.models import OutboxMessage

from .fixtures_client import Service
from .fixtures_outbox import received

pytest_plugins = ["tests.fixtures_client", "tests.fixtures_outbox"]


def nested(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"deeper": value}
    return value


def fields(**changes: Any) -> Dict[str, Any]:
    message = {"conversation_id": 1, "sender_id": 2, "receiver_id": 3, "text": "hello", **changes}
    return {name: value for name, value in message.items() if value is not ...}


IDS: List[Any] = [
    0, 1, 2**63 - 1, "0", "a", "A-Z_a.z:0@9", "x" * 64, "...", "ffffffff-ffff-ffff-ffff-ffffffffffff",
    -1, 2**63, True, None, 1.0, "", "x" * 65, "a b", "ä", "a\n", "a/b", "a\0", "é" * 3, [1], {}, "\ud800",
]  # fmt: skip

#: Messages, as the fields of a body. Some are valid.
MESSAGES: List[Tuple[str, Dict[str, Any]]] = [
    *(
        (f"{name}={value!r}"[:60], fields(**{name: value}))
        for name in ("conversation_id", "sender_id", "receiver_id")
        for value in IDS
    ),
    ("text empty", fields(text="")),
    ("text number", fields(text=1)),
    ("text null", fields(text=None)),
    ("text at the limit", fields(text="x" * 65536)),
    ("text over the limit", fields(text="x" * 65537)),
    ("text at the limit in bytes", fields(text="é" * 32768)),
    ("text over the limit in bytes", fields(text="é" * 32769)),
    ("text of quotes at the limit", fields(text='"' * 65536)),
    ("text with NUL", fields(text="a\0b")),
    ("text with a backslash", fields(text="\\u0000")),
    ("text with half a pair", fields(text="a\ud83d")),
    ("text with controls", fields(text="\x01\x1f\x7f\u2028\ufffe")),
    ("type", fields(message_type="image")),
    ("type empty", fields(message_type="")),
    ("type number", fields(message_type=1)),
    ("type at the limit", fields(message_type="é" * 32)),
    ("type over the limit", fields(message_type="é" * 33)),
    ("type with NUL", fields(message_type="\0")),
    *((f"priority {value!r}", fields(priority=value)) for value in ("high", "normal", "low", "HIGH", "urgent", "", 1)),
    ("metadata", fields(metadata={"a": [1, {"b": None}]})),
    *((f"metadata {value!r}", fields(metadata=value)) for value in ([], "x", 1)),
    ("metadata with NUL", fields(metadata={"a": ["\0"]})),
    ("metadata with NUL in a name", fields(metadata={"a": {"\0": 1}})),
    ("metadata with half a pair", fields(metadata={"a": "\ud83d"})),
    ("metadata at the limit", fields(metadata={"a": "x" * (65536 - 8)})),
    ("metadata over the limit", fields(metadata={"a": "x" * (65536 - 7)})),
    ("metadata as deep as may be", fields(metadata={"a": nested(30)})),
    ("metadata too deep", fields(metadata={"a": nested(31)})),
    ("persist", fields(persist=False)),
    *((f"persist {value!r}", fields(persist=value)) for value in (0, "false", None)),
    *((f"delay {value!r}", fields(delay_seconds=value)) for value in (0, 1.5, 86400, -1, "1", True, 4e9)),
    *((f"ttl {value!r}", fields(ttl_seconds=value)) for value in (0, 0.5, 4e9, -0.1, [], 3155760001)),
    *(
        (f"deliver_at {value!r}", fields(deliver_at=value))
        for value in (
            "2026-11-01T00:00:00Z", "2026-11-01T00:00:00.123456+02:00", "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
            "2026-11-01", "2026-02-30T00:00:00Z", "2026-11-01T00:00:00", "tomorrow", "", 5, "2026-11-01T25:00:00Z",
            "0000-01-01T00:00:00Z",
        )
    ),
    ("expires_at far", fields(expires_at="9999-12-31T23:59:59Z")),
    ("expires_at too far", fields(expires_at="9999-12-31T23:59:59-12:00")),
    ("due twice", fields(deliver_at="2026-11-01T00:00:00Z", delay_seconds=1)),
    ("expires twice", fields(expires_at="2036-11-01T00:00:00Z", ttl_seconds=1)),
    ("expires before it is due", fields(delay_seconds=10, ttl_seconds=5)),
    ("unknown fields", fields(reply_to=7, nested={"a": 1})),
    ("unknown field with NUL", fields(reply_to="\0")),
    ("unknown field as deep as may be", fields(a=nested(31))),
    ("unknown field too deep", fields(a=nested(32))),
    ("unknown fields too large", fields(**{f"f{number}": "x" * 60000 for number in range(18)})),
    *((f"reserved {name}", fields(**{name: "x"})) for name in ("id", "sequence", "created_at", "receipt", "deliveries")),
]  # fmt: skip


def drafted(body: Dict[str, Any], user_ids: Any = None) -> Callable[[], drafts.Draft]:
    """Returns a call of the outbox with the fields of a body as arguments."""
    defaults = {"message_type": "text", "priority": "normal", "metadata": None, "persist": True}
    defaults.update(dict.fromkeys(["delay_seconds", "deliver_at", "ttl_seconds", "expires_at"]))
    known = {name: value for name, value in body.items() if name in drafts.KNOWN}
    arguments = {**defaults, **known, "extra": {name: value for name, value in body.items() if name not in drafts.KNOWN}}
    if user_ids is not None:
        return lambda: drafts.broadcast(user_ids=user_ids, **arguments)
    return lambda: drafts.send(**arguments)


def post(service: Service, path: str, body: Any) -> Tuple[int, str, Any]:
    """Returns the status, code and field of the service's response."""
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    # Python's lone surrogates are not UTF-8. Another client would send escapes.
    if b"\xed\xa0" in content:
        content = json.dumps(body).encode()
    response = requests.post(service.url + path, content, headers={"Content-Type": "application/json"})
    answer = response.json()
    return response.status_code, answer.get("code", ""), answer.get("field")


def verdict(draft: Callable[[], drafts.Draft]) -> Tuple[int, str, Any]:
    try:
        draft()
    except InvalidMessage as error:
        return error.status, error.code, error.field
    except (TypeError, ValueError):
        return 400, "", None  # a client cannot write it
    return 200, "", None


def agree(mine: Tuple[int, str, Any], services: Tuple[int, str, Any]) -> bool:
    if mine == services:
        return True
    if mine[0] == services[0] == 400 and not mine[1]:
        return True  # with another error
    # The service finds these in the whole document, so it names no field.
    return mine[0] == services[0] and services[1] in ("too_deep", "invalid_text", "too_large") and services[2] is None


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in MESSAGES])
def test_the_outbox_refuses_what_the_service_refuses(service: Service, body: Dict[str, Any]) -> None:
    mine, services = verdict(drafted(body)), post(service, "/api/messages/send", body)
    assert agree(mine, services), (mine, services)


@pytest.mark.parametrize(
    "user_ids",
    [[1], ["1", 1, "a"], list(range(5000)), [], [None], [True], [-1], ["a", "a b"], "abc", 5, {"a": 1}],
    ids=lambda users: repr(users)[:30],
)
def test_the_receivers_of_a_broadcast(service: Service, user_ids: Any) -> None:
    body = {"sender_id": 2, "text": "hello"}
    services = post(service, "/api/messages/broadcast", {"message": body, "user_ids": user_ids})
    mine = verdict(drafted(body, user_ids))
    assert agree(mine, services), (mine, services)


@pytest.mark.parametrize(
    "body",
    [
        {"sender_id": 2, "text": "x", "metadata": {"a": nested(29)}},
        {"sender_id": 2, "text": "x", "metadata": {"a": nested(30)}},
        {"sender_id": 2, "text": "x", "a": nested(30)},
        {"sender_id": 2, "text": "x", "a": nested(31)},
        {"sender_id": 2, "text": "x" * 65537},
        {"sender_id": 2, "text": "x", "conversation_id": "a b"},
        {"sender_id": -2, "text": "x"},
        {"sender_id": 2, "text": "x", "id": 5},
    ],
    ids=lambda body: str(body)[-40:],
)
def test_the_message_of_a_broadcast(service: Service, body: Dict[str, Any]) -> None:
    services = post(service, "/api/messages/broadcast", {"message": body, "user_ids": [1]})
    mine = verdict(drafted(body, [1]))
    assert agree(mine, services), (mine, services)


@pytest.mark.parametrize(
    "extra, error",
    [
        ({"text": "x"}, ValueError),
        ({"persist": False}, ValueError),
        ({"idempotency_key": "x"}, ValueError),
        ({"a": object()}, TypeError),
        ({"a": float("nan")}, ValueError),
    ],
)
def test_what_no_client_could_write(extra: Dict[str, Any], error: Any) -> None:
    with pytest.raises(error) as caught:
        drafts.send(1, 2, 3, "x", extra=extra, **OPTIONS)
    assert not isinstance(caught.value, MessagingError)


OPTIONS: Dict[str, Any] = {
    "message_type": "text", "priority": "normal", "metadata": None, "persist": True,
    "delay_seconds": None, "deliver_at": None, "ttl_seconds": None, "expires_at": None,
}  # fmt: skip


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        drafts.send(1, 2, 3, "x", **{**OPTIONS, "deliver_at": datetime(2026, 11, 1)})


def test_keys_that_are_one_in_json_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        drafts.send(1, 2, 3, "x", **{**OPTIONS, "metadata": {"a": {1: "x", "1": "y"}}})


def test_what_the_caller_changes_afterwards_changes_nothing() -> None:
    metadata: Dict[str, Any] = {"list": [1]}
    draft = drafts.send(1, 2, 3, "x", **{**OPTIONS, "metadata": metadata})
    metadata["list"].append(2)
    assert draft.payload["metadata"] == {"list": [1]}


def test_values_of_django_become_json() -> None:
    at = datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    metadata = {"uuid": uuid.UUID(int=1), "price": Decimal("9.90"), "at": at, "label": lazystr("Monday")}
    payload = drafts.send(uuid.UUID(int=2), 2, 3, lazystr("Hello"), **{**OPTIONS, "metadata": metadata, "deliver_at": at}).payload
    assert json.loads(json.dumps(payload)) == payload
    assert payload["conversation_id"] == str(uuid.UUID(int=2))
    assert payload["text"] == "Hello"
    assert payload["metadata"] == {
        "uuid": str(uuid.UUID(int=1)), "price": "9.90", "at": "2026-11-01T11:00:00Z", "label": "Monday",
    }  # fmt: skip
    assert payload["deliver_at"] == "2026-11-01T11:00:00.000Z"


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256, "a\n"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        drafts.send(1, 2, 3, "x", idempotency_key=key, **OPTIONS)
    assert caught.value.field == "idempotency_key"


def test_one_number_and_its_digits_are_one_lane() -> None:
    assert drafts.send(7, 2, 3, "x", **OPTIONS).lane == drafts.send("7", 2, 3, "x", **OPTIONS).lane


@pytest.mark.django_db(transaction=True)
def test_a_bad_message_fails_in_the_callers_code(live: MessagingClient, user: str) -> None:
    """The transaction can continue if the caller handles the error."""
    with transaction.atomic():
        messaging.send(1, 2, user, "good")
        with pytest.raises(InvalidMessage) as caught:
            messaging.send(1, 2, user, "bad", priority="urgent")
        with pytest.raises(InvalidMessage):
            messaging.broadcast(2, [], "nobody")
    assert (caught.value.field, caught.value.code, caught.value.status) == ("priority", "invalid_field", 400)
    assert OutboxMessage.objects.count() == 1
    assert received(live, user) == ["good"]
