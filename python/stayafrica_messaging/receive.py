"""What the service brings: messages read, checked and accounted for.

A batch is a list of JSON objects. Each becomes a :class:`ReceivedMessage`, or is
malformed and will never be anything else; an adapter stores the former, and a
:class:`Report` says of every one what became of it. A bad message costs only
itself.
"""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .signals import announce_persisted, announce_rejected

if TYPE_CHECKING:
    from django.db import models

    from .adapters import BaseAdapter

#: How long an id, a message type may be, in characters.
MAX_NAME = 64
PRIORITIES = frozenset(["high", "normal", "low"])
MAX_SEQUENCE = 2**63 - 1

#: The fields that the service knows; any other goes to `extra`.
FIELDS = frozenset(
    [
        "id",
        "sequence",
        "conversation_id",
        "sender_id",
        "receiver_id",
        "text",
        "message_type",
        "priority",
        "metadata",
        "created_at",
        "deliver_at",
        "expires_at",
    ]
)


class Malformed(Exception):
    """Not what the service sends; the text says what is wrong with it."""


@dataclass(frozen=True, eq=False)
class ReceivedMessage:
    """A message as the service brought it, checked.

    Ids are strings, whether the sender wrote integers or strings: to the service
    ``789`` and ``"789"`` are one user. Times are in UTC, to the millisecond; where
    the project has ``USE_TZ = False`` they are naive and in its time zone.
    """

    id: uuid.UUID
    #: The place in the service's log; the copies of a broadcast share theirs.
    sequence: int
    #: None in a broadcast that names none.
    conversation_id: Optional[str]
    sender_id: str
    receiver_id: str
    text: str
    message_type: str
    priority: str
    #: Never None. Numbers with a fraction have become Python's floats.
    metadata: dict[str, Any]
    created_at: datetime.datetime
    deliver_at: Optional[datetime.datetime]
    expires_at: Optional[datetime.datetime]
    #: Fields that the service does not know, as the sender wrote them.
    extra: dict[str, Any]
    #: The whole object as it came.
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one message; see :func:`stored`, :func:`refused` and :data:`DUPLICATE`."""

    state: str
    #: The new row, where there is one.
    instance: Optional[models.Model] = None
    #: Why it was refused, in a sentence.
    error: str = ""
    #: Whether it would be refused again however often it came: the service then
    #: gives it up at once and keeps it among its dead letters.
    permanent: bool = False


#: It was there already.
DUPLICATE = Outcome("duplicate")


def stored(instance: Optional[models.Model] = None) -> Outcome:
    """It was stored now."""
    return Outcome("stored", instance)


def refused(error: str, permanent: bool) -> Outcome:
    """It was not stored."""
    return Outcome("refused", error=error, permanent=permanent)


@dataclass(frozen=True)
class Rejection:
    """A message that was not stored."""

    #: The JSON value as it came; an object, if the sender is the service.
    message: Any
    error: str
    permanent: bool

    def as_json(self) -> dict[str, Any]:
        """The entry of an answer. The id is enough for the service to know it by."""
        named = isinstance(self.message, dict) and isinstance(self.message.get("id"), str)
        message = {"id": self.message["id"]} if named else self.message
        return {"message": message, "error": self.error, "permanent": self.permanent}


@dataclass(frozen=True)
class Report:
    """What became of a batch; the numbers add up to its length."""

    persisted: int
    duplicates: int
    rejections: Sequence[Rejection]

    def as_json(self) -> dict[str, Any]:
        """The answer that the service waits for."""
        return {
            "persisted": self.persisted,
            "duplicates": self.duplicates,
            "errors": [rejection.as_json() for rejection in self.rejections],
        }


def receive(entries: Sequence[Any], adapter: BaseAdapter) -> Report:
    """Stores a batch and accounts for every entry of it.

    Raises :class:`django.db.Error` when the database is not in order; nothing is
    stored then.
    """
    messages, twins, rejections = _sort(entries)
    outcomes = _store(list(messages.values()), adapter)
    persisted = [(messages[key], o.instance) for key, o in outcomes.items() if o.state == "stored"]
    for message in [*messages.values(), *twins]:
        outcome = outcomes[message.id]
        if outcome.state == "refused":
            rejections.append(Rejection(message.raw, outcome.error, outcome.permanent))
    _announce(adapter, persisted, rejections)
    return Report(len(persisted), len(entries) - len(persisted) - len(rejections), rejections)


def _sort(entries: Sequence[Any]) -> tuple[dict[uuid.UUID, ReceivedMessage], list[ReceivedMessage], list[Rejection]]:
    """Messages by their ids, those whose id was there before in the batch, and
    what is no message."""
    messages: dict[uuid.UUID, ReceivedMessage] = {}
    twins, rejections = [], []
    for entry in entries:
        try:
            message = parse_message(entry)
        except Malformed as error:
            rejections.append(Rejection(entry, str(error), permanent=True))
            continue
        if messages.setdefault(message.id, message) is not message:
            twins.append(message)
    return messages, twins, rejections


def _store(messages: list[ReceivedMessage], adapter: BaseAdapter) -> dict[uuid.UUID, Outcome]:
    outcomes = adapter.store(messages) if messages else []
    if len(outcomes) != len(messages):
        raise TypeError(f"{type(adapter).__name__}.store gave {len(outcomes)} outcomes for {len(messages)} messages")
    return {message.id: outcome for message, outcome in zip(messages, outcomes)}


def _announce(
    adapter: BaseAdapter,
    persisted: list[tuple[ReceivedMessage, Optional[models.Model]]],
    rejections: list[Rejection],
) -> None:
    """Sends the signals when the rows are there for others to see: at once, unless
    the caller has a transaction of its own."""
    sender = type(adapter)
    if persisted:
        transaction.on_commit(partial(announce_persisted, sender, persisted), using=adapter.database)
    if rejections:
        transaction.on_commit(partial(announce_rejected, sender, rejections), using=adapter.database)


def parse_batch(body: bytes) -> list[Any]:
    """The entries of a request's body; raises :class:`Malformed`."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    entries = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Malformed('the body is not {"messages": [...]}')
    return entries


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_message(raw: Any) -> ReceivedMessage:
    """Reads one entry of a batch; raises :class:`Malformed`."""
    if not isinstance(raw, dict):
        raise Malformed("a message must be an object")
    return ReceivedMessage(
        id=_uuid(raw),
        sequence=_sequence(raw),
        conversation_id=None if raw.get("conversation_id") is None else _id(raw, "conversation_id"),
        sender_id=_id(raw, "sender_id"),
        receiver_id=_id(raw, "receiver_id"),
        text=_text(raw, "text"),
        message_type=_name(raw, "message_type", "text"),
        priority=_priority(raw),
        metadata=_metadata(raw),
        created_at=_time(raw, "created_at"),
        deliver_at=None if raw.get("deliver_at") is None else _time(raw, "deliver_at"),
        expires_at=None if raw.get("expires_at") is None else _time(raw, "expires_at"),
        extra={name: value for name, value in raw.items() if name not in FIELDS},
        raw=raw,
    )


def _uuid(raw: dict[str, Any]) -> uuid.UUID:
    value = raw.get("id")
    try:
        if isinstance(value, str) and len(value) == 36:
            return uuid.UUID(value)
    except ValueError:
        pass
    raise Malformed("id must be a UUID")


def _sequence(raw: dict[str, Any]) -> int:
    value = raw.get("sequence")
    if type(value) is not int or not 0 <= value <= MAX_SEQUENCE:
        raise Malformed("sequence must be an integer from 0 to 2^63-1")
    return value


def _id(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if type(value) is int and 0 <= value <= MAX_SEQUENCE:
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise Malformed(f"{name} must be an integer from 0 to 2^63-1 or a string of 1 to {MAX_NAME} characters")
    return value


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} must be a string")
    if "\x00" in value or not _is_unicode(value):
        raise Malformed(f"{name} has a character that a database cannot keep")
    return value


def _is_unicode(value: str) -> bool:
    """JSON can spell half of a surrogate pair, which no encoding has."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(raw: dict[str, Any], name: str, default: str) -> str:
    if raw.get(name) is None:
        return default
    value = _text(raw, name)
    if len(value) > MAX_NAME:
        raise Malformed(f"{name} must have at most {MAX_NAME} characters")
    return value


def _priority(raw: dict[str, Any]) -> str:
    value = raw.get("priority")
    if value is None:
        return "normal"
    if not isinstance(value, str) or value not in PRIORITIES:
        raise Malformed("priority must be high, normal or low")
    return value


def _metadata(raw: dict[str, Any]) -> dict[str, Any]:
    value = raw.get("metadata")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed("metadata must be an object")
    return value


def _time(raw: dict[str, Any], name: str) -> datetime.datetime:
    value = raw.get(name)
    try:
        moment = parse_datetime(value) if isinstance(value, str) else None
        if moment is not None and moment.tzinfo is not None:
            return _as_configured(moment.astimezone(datetime.timezone.utc))
    except (ValueError, OverflowError):
        pass
    raise Malformed(f"{name} must be a time with its zone, as in 2026-01-31T12:00:00.000Z")


def _as_configured(moment: datetime.datetime) -> datetime.datetime:
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
