"""What the calls take and give.

Every ``from_json`` reads an object of the service's JSON. It raises KeyError,
TypeError or ValueError where that is not what it should be; the clients turn
these into :class:`~stayafrica_messaging.errors.BadAnswer`.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Dict, List, Mapping, Optional, Tuple, Type, TypeVar, Union

__all__ = [
    "BroadcastReceipt",
    "DeadLetter",
    "DeadLetterPage",
    "Identifier",
    "JSONObject",
    "Job",
    "Message",
    "Moment",
    "QueueSize",
    "Receipt",
]

#: A user or a conversation: an integer from 0, or 1 to 64 characters out of
#: ``A-Za-z0-9_.:@-``. 789 and "789" are one user. A UUID is written as text.
Identifier = Union[int, str, uuid.UUID]

#: A point in time: an aware datetime, or RFC 3339 text such as
#: ``"2026-12-31T23:59:59Z"``.
Moment = Union[datetime, str]

JSONObject = Dict[str, Any]

T = TypeVar("T")


@dataclass(frozen=True)
class Receipt:
    """A message was stored durably by the service.

    ``duplicate`` says that an earlier request with the same idempotency key had
    stored it: another call's, or an earlier try of this one.
    """

    id: str
    sequence: int
    duplicate: bool = False

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Receipt:
        """Read the answer to a send."""
        return cls(_get(raw, "id", str), _get(raw, "sequence", int), raw.get("duplicate") is True)


@dataclass(frozen=True)
class BroadcastReceipt:
    """A broadcast was stored durably for all of its ``recipients`` (each user counted once)."""

    id: str
    sequence: int
    recipients: int
    duplicate: bool = False

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> BroadcastReceipt:
        """Read the answer to a broadcast."""
        return cls(
            _get(raw, "id", str),
            _get(raw, "sequence", int),
            _get(raw, "recipients", int),
            raw.get("duplicate") is True,
        )


@dataclass(frozen=True)
class Message:
    """A message as its receiver gets it.

    Ids are what the sender gave, an int or a str. ``conversation_id`` is None in a
    broadcast that names none. ``receipt`` and ``deliveries`` are there under a
    lease only, else ``""`` and 0. ``extra`` has the fields that the service does
    not know and hands on as they came, ``raw`` the whole as it was answered.

    Its repr shows no text and no metadata, so that it can be logged.
    """

    id: str
    sequence: int
    created_at: datetime
    sender_id: Union[int, str]
    receiver_id: Union[int, str]
    text: str = field(repr=False)
    message_type: str = "text"
    priority: str = "normal"
    metadata: JSONObject = field(default_factory=dict, repr=False)
    conversation_id: Union[int, str, None] = None
    deliver_at: Optional[datetime] = None
    expires_at: Optional[datetime] = None
    receipt: str = ""
    deliveries: int = 0
    extra: JSONObject = field(default_factory=dict, repr=False)
    raw: JSONObject = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: JSONObject) -> Message:
        """Read a message of a queue, of a dead letter, or of what Django gets."""
        return cls(
            id=_get(raw, "id", str),
            sequence=_get(raw, "sequence", int),
            created_at=_moment(raw["created_at"]),
            sender_id=_identifier(raw["sender_id"]),
            receiver_id=_identifier(raw["receiver_id"]),
            text=_get(raw, "text", str),
            message_type=_get(raw, "message_type", str),
            priority=_get(raw, "priority", str),
            metadata=_get(raw, "metadata", dict),
            conversation_id=_optional(raw, "conversation_id", _identifier),
            deliver_at=_optional(raw, "deliver_at", _moment),
            expires_at=_optional(raw, "expires_at", _moment),
            receipt=_get(raw, "receipt", str) if "receipt" in raw else "",
            deliveries=_get(raw, "deliveries", int) if "deliveries" in raw else 0,
            extra={name: value for name, value in raw.items() if name not in _MESSAGE_FIELDS},
            raw=raw,
        )


_MESSAGE_FIELDS = frozenset(Message.__dataclass_fields__) - {"extra", "raw"}


@dataclass(frozen=True)
class QueueSize:
    """How many messages a queue has: due by priority, under a lease, due later, and all."""

    high: int
    normal: int
    low: int
    leased: int
    delayed: int
    total: int

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> QueueSize:
        """Read the answer to a size."""
        return cls(**{name: _get(raw, name, int) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class DeadLetter:
    """A message that the service has given up, with the reason.

    ``kind`` is ``"refused"`` (Django will not store it) or ``"undeliverable"``
    (nobody acknowledged it). ``status_code`` is what Django answered with, or
    None. ``attempts`` is how often it was tried or delivered. Copies of one
    broadcast with one reason are one dead letter with several ``recipients``;
    ``message`` is the first one's.
    """

    id: str
    kind: str
    reason: str
    status_code: Optional[int]
    attempts: int
    failed_at: datetime
    recipients: int
    message: Message
    raw: JSONObject = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, raw: JSONObject) -> DeadLetter:
        """Read a dead letter of a listing."""
        return cls(
            id=_get(raw, "id", str),
            kind=_get(raw, "kind", str),
            reason=_get(raw, "reason", str),
            status_code=_optional(raw, "status_code", _number),
            attempts=_get(raw, "attempts", int),
            failed_at=_moment(raw["failed_at"]),
            recipients=_get(raw, "recipients", int),
            message=Message.from_json(_get(raw, "message", dict)),
            raw=raw,
        )


@dataclass(frozen=True)
class DeadLetterPage:
    """A part of the dead letters.

    ``total`` is how many there are of the kind that was asked for, whatever their
    reason. ``next`` is what to give as ``after`` for the next page, None at the end.
    """

    dead_letters: Tuple[DeadLetter, ...]
    total: int
    next: Optional[str]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DeadLetterPage:
        """Read a page of the listing."""
        letters = tuple(DeadLetter.from_json(letter) for letter in _get(raw, "dead_letters", list))
        return cls(letters, _get(raw, "total", int), _optional(raw, "next", _text))


@dataclass(frozen=True)
class Job:
    """A redrive or a replay. It goes on behind the calls and survives restarts of the service.

    ``kind`` is ``"redrive"`` or ``"replay"``; ``state`` is ``"running"``,
    ``"done"``, ``"cancelled"`` or ``"failed"``. ``done`` of ``total`` counts
    sequences for a replay and dead letters for a redrive; ``failed`` counts
    messages that are, or stay, dead letters. ``eta_seconds`` is None where it is
    not known or the job has ended; ``error`` says why it failed, or is None.
    """

    id: str
    kind: str
    state: str
    done: int
    total: int
    failed: int
    eta_seconds: Optional[int]
    error: Optional[str]
    created_at: datetime
    finished_at: Optional[datetime] = None
    raw: JSONObject = field(default_factory=dict, repr=False, compare=False)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.state == "running"

    @classmethod
    def from_json(cls, raw: JSONObject) -> Job:
        """Read a job."""
        return cls(
            id=_get(raw, "id", str),
            kind=_get(raw, "kind", str),
            state=_get(raw, "state", str),
            done=_get(raw, "done", int),
            total=_get(raw, "total", int),
            failed=_get(raw, "failed", int),
            eta_seconds=_optional(raw, "eta_seconds", _number),
            error=_optional(raw, "error", _text),
            created_at=_moment(raw["created_at"]),
            finished_at=_optional(raw, "finished_at", _moment),
            raw=raw,
        )


def _get(raw: Mapping[str, Any], name: str, kind: Type[T]) -> T:
    return _of(kind, raw[name])


def _of(kind: Type[T], value: Any) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} should")
    return value


def _optional(raw: Mapping[str, Any], name: str, read: Any) -> Any:
    value = raw.get(name)
    return None if value is None else read(value)


def _number(value: Any) -> int:
    return _of(int, value)


def _text(value: Any) -> str:
    return _of(str, value)


def _identifier(value: Any) -> Union[int, str]:
    return value if isinstance(value, str) else _of(int, value)


def _moment(value: Any) -> datetime:
    # Python before 3.11 does not read the Z.
    return datetime.fromisoformat(_of(str, value).replace("Z", "+00:00"))


def messages_from_json(raw: Mapping[str, Any]) -> List[Message]:
    """Read the answer of a queue."""
    return [Message.from_json(message) for message in _get(raw, "messages", list)]


def receipts_from_json(raw: Mapping[str, Any]) -> List[Receipt]:
    """Read the answer to a batch."""
    duplicate = raw.get("duplicate") is True
    return [
        Receipt(_get(sent, "id", str), _get(sent, "sequence", int), duplicate)
        for sent in _get(raw, "messages", list)
    ]


def outcomes_from_json(raw: Mapping[str, Any]) -> Dict[str, str]:
    """Read the answer of a call on leases."""
    return {_get(entry, "receipt", str): _get(entry, "result", str) for entry in _get(raw, "results", list)}


def jobs_from_json(raw: Mapping[str, Any]) -> List[Job]:
    """Read the list of jobs."""
    return [Job.from_json(job) for job in _get(raw, "jobs", list)]


def number(raw: Mapping[str, Any], name: str) -> int:
    """Read a whole number."""
    return _get(raw, name, int)


def boolean(raw: Mapping[str, Any], name: str) -> bool:
    """Read a truth value."""
    return _get(raw, name, bool)
