"""Receives batches from the service: parses, validates and stores them, and reports the results.

A batch is a list of JSON values. A valid value becomes a :class:`ReceivedMessage`, which
an adapter stores. An invalid one is refused permanently. A :class:`Report` has the
result for every value. A bad message does not affect the others.
"""

from __future__ import annotations

import datetime
import json
import uuid
from functools import partial
from typing import Any, Optional, Protocol, Sequence

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from .received import DUPLICATE, Malformed, Outcome, ReceivedMessage, Rejection, Report, refused, stored
from .signals import announce_persisted, announce_rejected

__all__ = [
    "DUPLICATE",
    "Malformed",
    "Outcome",
    "ReceivedMessage",
    "Rejection",
    "Report",
    "Store",
    "parse_batch",
    "parse_message",
    "receive",
    "refused",
    "stored",
]

#: Maximum length of an id or a message type, in characters.
MAX_NAME = 64
PRIORITIES = frozenset(["high", "normal", "low"])
MAX_SEQUENCE = 2**63 - 1

#: The fields that the service knows. All others go to `extra`.
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


class Store(Protocol):
    """The part of an adapter that :func:`receive` needs.

    Every :class:`~stayafrica_messaging.adapters.BaseAdapter` has it.
    """

    @property
    def database(self) -> str:
        """The alias of the database that messages are stored in."""

    def store(self, messages: Sequence[ReceivedMessage]) -> Sequence[Outcome]:
        """Stores messages. Returns one outcome for each message, in the same order."""


def receive(entries: Sequence[Any], adapter: Store) -> Report:
    """Stores a batch and reports on every entry.

    Raises :class:`django.db.Error` if the database fails; nothing is stored then.
    """
    messages, repeated, rejections = _parse_all(entries)
    outcomes = _store(list(messages.values()), adapter)
    persisted = [(messages[key], o.instance) for key, o in outcomes.items() if o.state == "stored"]
    for message in [*messages.values(), *repeated]:
        outcome = outcomes[message.id]
        if outcome.state == "refused":
            rejections.append(Rejection(message.raw, outcome.error, outcome.permanent))
    _announce(adapter, persisted, rejections)
    return Report(len(persisted), len(entries) - len(persisted) - len(rejections), rejections)


def _parse_all(entries: Sequence[Any]) -> tuple[dict[uuid.UUID, ReceivedMessage], list[ReceivedMessage], list[Rejection]]:
    """Parses all entries. Returns the messages by id, the messages that repeat an id of the
    batch, and the rejections of invalid entries.
    """
    messages: dict[uuid.UUID, ReceivedMessage] = {}
    repeated, rejections = [], []
    for entry in entries:
        try:
            message = parse_message(entry)
        except Malformed as error:
            rejections.append(Rejection(entry, str(error), permanent=True))
            continue
        if messages.setdefault(message.id, message) is not message:
            repeated.append(message)
    return messages, repeated, rejections


def _store(messages: list[ReceivedMessage], adapter: Store) -> dict[uuid.UUID, Outcome]:
    outcomes = adapter.store(messages) if messages else []
    if len(outcomes) != len(messages):
        raise TypeError(f"{type(adapter).__name__}.store returned {len(outcomes)} outcomes for {len(messages)} messages")
    return {message.id: outcome for message, outcome in zip(messages, outcomes)}


def _announce(
    adapter: Store,
    persisted: list[tuple[ReceivedMessage, Optional[models.Model]]],
    rejections: list[Rejection],
) -> None:
    """Sends the signals after the commit. That is now, unless the caller has opened a
    transaction.
    """
    sender = type(adapter)
    if persisted:
        transaction.on_commit(partial(announce_persisted, sender, persisted), using=adapter.database)
    if rejections:
        transaction.on_commit(partial(announce_rejected, sender, rejections), using=adapter.database)


def parse_batch(body: bytes) -> list[Any]:
    """Returns the entries in the body of a request. Raises :class:`Malformed`."""
    try:
        document = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None
    entries = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Malformed('the body is not {"messages": [...]}')
    return entries


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_message(raw: Any) -> ReceivedMessage:
    """Parses one entry of a batch. Raises :class:`Malformed`."""
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
        raise Malformed(f"{name} has a character that a database cannot store")
    return value


def _is_unicode(value: str) -> bool:
    """False for a lone surrogate, which JSON can spell and no encoding has."""
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
    raise Malformed(f"{name} must be a time with a time zone, such as 2026-01-31T12:00:00.000Z")


def _as_configured(moment: datetime.datetime) -> datetime.datetime:
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())
