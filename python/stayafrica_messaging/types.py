"""Arguments and results of the calls.

Every ``from_json`` parses a JSON object of the service. It raises KeyError, TypeError or
ValueError for an unexpected value. The clients convert these to
:class:`~stayafrica_messaging.errors.BadAnswer`.
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

#: The id of a user or a conversation: an integer from 0, or 1 to 64 characters from
#: ``A-Za-z0-9_.:@-``. 789 and "789" are the same user. A UUID is sent as text.
Identifier = Union[int, str, uuid.UUID]

#: A time: an aware datetime, or RFC 3339 text such as ``"2026-12-31T23:59:59Z"``.
Moment = Union[datetime, str]

JSONObject = Dict[str, Any]

T = TypeVar("T")


@dataclass(frozen=True)
class Receipt:
    """The service has stored a message durably.

    ``duplicate`` is True if an earlier request with the same idempotency key stored the
    message. That is an earlier call, or an earlier try of this call.
    """

    id: str
    sequence: int
    duplicate: bool = False

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Receipt:
        """Parse the response to a send."""
        return cls(_get(raw, "id", str), _get(raw, "sequence", int), raw.get("duplicate") is True)


@dataclass(frozen=True)
class BroadcastReceipt:
    """The service has stored a broadcast durably for all of its ``recipients``. Each user counts once."""

    id: str
    sequence: int
    recipients: int
    duplicate: bool = False

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> BroadcastReceipt:
        """Parse the response to a broadcast."""
        return cls(
            _get(raw, "id", str),
            _get(raw, "sequence", int),
            _get(raw, "recipients", int),
            raw.get("duplicate") is True,
        )


@dataclass(frozen=True)
class Message:
    """A message as its receiver gets it.

    Ids have the sender's type, int or str. ``conversation_id`` is None for a broadcast
    without a conversation. ``receipt`` and ``deliveries`` are set with a lease only, else
    ``""`` and 0. ``extra`` has the fields unknown to the service, unchanged. ``raw`` is the
    whole JSON object.

    The repr has no text and no metadata, so it can be logged.
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
        """Parse a message of a queue, of a dead letter, or of a batch for Django."""
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
    """The number of messages in a queue: due by priority, leased, delayed, and total."""

    high: int
    normal: int
    low: int
    leased: int
    delayed: int
    total: int

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> QueueSize:
        """Parse the response to a size."""
        return cls(**{name: _get(raw, name, int) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class DeadLetter:
    """A message that the service has stopped delivering, with the reason.

    ``kind`` is ``"refused"`` (Django refused the message) or ``"undeliverable"`` (no reader
    acknowledged it). ``status_code`` is the status of Django's response, or None.
    ``attempts`` counts the tries or deliveries. Copies of one broadcast with the same reason
    are one dead letter with several ``recipients``; ``message`` is the copy of the first.
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
        """Parse a dead letter."""
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
    """A page of the list of dead letters.

    ``total`` counts the dead letters of the requested kind, with any reason. ``next`` is the
    value of ``after`` for the next page, or None at the end.
    """

    dead_letters: Tuple[DeadLetter, ...]
    total: int
    next: Optional[str]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DeadLetterPage:
        """Parse a page of the list."""
        letters = tuple(DeadLetter.from_json(letter) for letter in _get(raw, "dead_letters", list))
        return cls(letters, _get(raw, "total", int), _optional(raw, "next", _text))


@dataclass(frozen=True)
class Job:
    """A redrive or a replay. It runs in the service and survives restarts of it.

    ``kind`` is ``"redrive"`` or ``"replay"``. ``state`` is ``"running"``, ``"done"``,
    ``"cancelled"`` or ``"failed"``. ``done`` and ``total`` count sequences for a replay and
    dead letters for a redrive. ``failed`` counts messages that became or stayed dead
    letters. ``eta_seconds`` is None if it is unknown or the job has ended. ``error`` is the
    reason for a failure, or None.
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
        """Whether the job has not ended yet."""
        return self.state == "running"

    @classmethod
    def from_json(cls, raw: JSONObject) -> Job:
        """Parse a job."""
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
        raise TypeError(f"a {kind.__name__} is required, not a {type(value).__name__}")
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
    # Python before 3.11 does not parse the Z.
    return datetime.fromisoformat(_of(str, value).replace("Z", "+00:00"))


def messages_from_json(raw: Mapping[str, Any]) -> List[Message]:
    """Parse the messages of a queue."""
    return [Message.from_json(message) for message in _get(raw, "messages", list)]


def receipts_from_json(raw: Mapping[str, Any]) -> List[Receipt]:
    """Parse the response to a batch."""
    duplicate = raw.get("duplicate") is True
    return [
        Receipt(_get(sent, "id", str), _get(sent, "sequence", int), duplicate)
        for sent in _get(raw, "messages", list)
    ]


def outcomes_from_json(raw: Mapping[str, Any]) -> Dict[str, str]:
    """Parse the response to an ack, nack or extend."""
    return {_get(entry, "receipt", str): _get(entry, "result", str) for entry in _get(raw, "results", list)}


def jobs_from_json(raw: Mapping[str, Any]) -> List[Job]:
    """Parse the list of jobs."""
    return [Job.from_json(job) for job in _get(raw, "jobs", list)]


def number(raw: Mapping[str, Any], name: str) -> int:
    """Parse an integer."""
    return _get(raw, name, int)


def boolean(raw: Mapping[str, Any], name: str) -> bool:
    """Parse a boolean."""
    return _get(raw, name, bool)
