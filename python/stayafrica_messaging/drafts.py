"""Validates messages before they are stored in the outbox.

The outbox sends a message after the caller has returned. So the caller gets the
service's refusal here, inside its transaction, as the same error with the same text.
Only the service can make two checks: how far in the future a message may be due, and
whether an idempotency key is in use. Arguments that cannot be written as JSON raise
TypeError or ValueError, as with the clients.

The result is plain JSON. Times are absolute, because a delay counts from the call and
not from the push.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Iterable, Iterator, List, Mapping, NoReturn, Optional, Tuple, Union

from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise

from .encoding import encode, moment
from .errors import InvalidMessage
from .types import Identifier, JSONObject, Moment

MAX_ID = 2**63 - 1
MAX_TEXT = 64 << 10
MAX_METADATA = 64 << 10
MAX_TYPE = 64
MAX_DEPTH = 32
MAX_MESSAGE = 1 << 20
MAX_BROADCAST = 64 << 20
MAX_RECIPIENTS = 1_000_000
MAX_SECONDS = 100 * 365.25 * 24 * 3600
PRIORITIES = ("high", "normal", "low")

#: Fields that only the service sets.
RESERVED = frozenset({"id", "sequence", "created_at", "receipt", "deliveries"})
#: Fields with an argument of their own. They are not allowed in ``extra``.
KNOWN = frozenset(
    "conversation_id sender_id receiver_id text message_type priority metadata persist idempotency_key "
    "delay_seconds deliver_at ttl_seconds expires_at".split()
)

#: An idempotency key from a caller.
Key = Union[str, uuid.UUID]

# The namespace for the row keys of idempotency keys that callers choose.
_KEYS = uuid.UUID("8b0f3a46-6f0c-4b0e-9d43-5d6c0a7d9b11")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:@-]{1,64}", re.ASCII)
_VISIBLE = re.compile(r"[!-~]{1,255}", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Draft:
    """The content of a new row of the outbox.

    ``payload`` has the arguments of the client's method ``kind``. ``lane`` is the
    ordering key. ``key`` is unique in the outbox. ``chosen`` is True if the caller
    chose the idempotency key.
    """

    kind: str
    payload: JSONObject
    lane: str
    key: uuid.UUID
    chosen: bool


def send(
    conversation_id: Identifier,
    sender_id: Identifier,
    receiver_id: Identifier,
    text: str,
    *,
    idempotency_key: Optional[Key] = None,
    extra: Optional[Mapping[str, Any]] = None,
    **options: Any,
) -> Draft:
    """Validates the arguments of a send. Raises InvalidMessage."""
    payload: JSONObject = {
        "conversation_id": _identifier("conversation_id", conversation_id),
        "sender_id": _identifier("sender_id", sender_id),
        "receiver_id": _identifier("receiver_id", receiver_id),
        "text": _text(text),
        **_options(depth=1, **options),
        **_extra(extra, depth=1),
    }
    _size("a message", payload, MAX_MESSAGE)
    return _draft("send", payload, f"conversation:{payload['conversation_id']}", idempotency_key)


def broadcast(
    sender_id: Identifier,
    user_ids: Iterable[Identifier],
    text: str,
    *,
    conversation_id: Optional[Identifier] = None,
    idempotency_key: Optional[Key] = None,
    extra: Optional[Mapping[str, Any]] = None,
    **options: Any,
) -> Draft:
    """Validates the arguments of a broadcast. Raises InvalidMessage."""
    payload: JSONObject = {"sender_id": _identifier("sender_id", sender_id), "text": _text(text)}
    if conversation_id is not None:
        payload["conversation_id"] = _identifier("conversation_id", conversation_id)
    payload.update(_options(depth=2, **options))
    payload.update(_extra(extra, depth=2))
    _size("a message", payload, MAX_MESSAGE)
    payload["user_ids"] = _receivers(user_ids)
    _size("a broadcast", payload, MAX_BROADCAST)
    lane = f"sender:{payload['sender_id']}" if conversation_id is None else f"conversation:{conversation_id}"
    return _draft("broadcast", payload, lane, idempotency_key)


def _draft(kind: str, payload: JSONObject, lane: str, chosen: Optional[Key]) -> Draft:
    if chosen is None:
        return Draft(kind, payload, lane, uuid.uuid4(), False)
    text = str(chosen)
    if not _VISIBLE.fullmatch(text):
        _refuse("idempotency_key", "idempotency_key must be a string of 1 to 255 visible characters")
    return Draft(kind, {**payload, "idempotency_key": text}, lane, uuid.uuid5(_KEYS, f"{kind}:{text}"), True)


def _options(
    depth: int,
    message_type: str,
    priority: str,
    metadata: Optional[Mapping[str, Any]],
    persist: bool,
    delay_seconds: Optional[float],
    deliver_at: Optional[Moment],
    ttl_seconds: Optional[float],
    expires_at: Optional[Moment],
) -> JSONObject:
    """Validates the fields that a send and a broadcast have in common."""
    if not isinstance(persist, bool):
        _refuse("persist", "persist must be true or false")
    options: JSONObject = {
        "message_type": _message_type(message_type),
        "priority": _priority(priority),
        "metadata": _metadata(metadata, depth),
        "persist": persist,
    }
    due = _moment("deliver_at", deliver_at, "delay_seconds", delay_seconds)
    expires = _moment("expires_at", expires_at, "ttl_seconds", ttl_seconds)
    if due and expires and expires <= due:
        _refuse("expires_at", "the message would expire before it is due")
    for name, at in (("deliver_at", due), ("expires_at", expires)):
        if at:
            options[name] = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return options


def _identifier(field: str, value: Any) -> Union[int, str]:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID:
        return int(value)
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return str.__str__(value)
    _refuse(field, f"{field} must be an integer from 0 to 2^63-1 or a string of 1 to 64 characters out of A-Z a-z 0-9 _ . : @ -")


def _receivers(user_ids: Iterable[Identifier]) -> List[Union[int, str]]:
    if isinstance(user_ids, (str, bytes, Mapping)) or not isinstance(user_ids, Iterable):
        _refuse("user_ids", "user_ids must be an array of user ids")
    receivers = [_identifier("user_ids", user) for user in user_ids]
    if not receivers:
        _refuse("user_ids", "user_ids names no user")
    if len(receivers) > MAX_RECIPIENTS:
        _refuse("user_ids", f"user_ids has more than {MAX_RECIPIENTS} ids", "too_large")
    return receivers


def _text(value: Any) -> str:
    if isinstance(value, Promise):
        value = str(value)  # translate now, in the caller's language
    return _string("text", value, MAX_TEXT)


def _message_type(value: Any) -> str:
    name = _string("message_type", value, MAX_TYPE)
    if not name:
        _refuse("message_type", "message_type must not be empty")
    return name


def _priority(value: Any) -> str:
    if not isinstance(value, str) or value not in PRIORITIES:
        _refuse("priority", 'priority must be "high", "normal" or "low"')
    return str.__str__(value)


def _string(field: str, value: Any, limit: int) -> str:
    if not isinstance(value, str):
        _refuse(field, f"{field} must be a string")
    if len(_encoded(field, value)) > limit:
        _refuse(field, f"{field} is longer than {limit} bytes", "too_large")
    return str.__str__(value)


def _encoded(field: str, value: str) -> bytes:
    """Encodes a text. Refuses characters that the service and PostgreSQL cannot store."""
    if "\0" in value:
        _refuse(field, f"{field} contains \\u0000, which the backend cannot store", "invalid_text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        _refuse(field, f"{field} has half of a surrogate pair", "invalid_text")


def _metadata(value: Optional[Mapping[str, Any]], depth: int) -> JSONObject:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _refuse("metadata", "metadata must be a JSON object")
    metadata = _plain("metadata", value, depth)
    if len(encode(metadata)) > MAX_METADATA:
        _refuse("metadata", f"metadata is larger than {MAX_METADATA} bytes", "too_large")
    return metadata


def _extra(value: Optional[Mapping[str, Any]], depth: int) -> JSONObject:
    """Validates fields unknown to the service. Returns them as an argument of the client's method."""
    if not value:
        return {}
    for name in value:
        if name in RESERVED:
            _refuse(name, f"{name} is set by the service and cannot be sent", "reserved_field")
        if name in KNOWN:
            raise ValueError(f"{name} has its own argument and must not be in extra")
    return {"extra": _plain("extra", value, depth - 1)}  # its members are on the level of the message's fields


def _plain(field: str, value: Any, depth: int) -> JSONObject:
    """Converts the value to plain JSON, as the database returns it and the service reads it."""
    try:
        plain = json.loads(encode(value), object_pairs_hook=_distinct)
    except RecursionError:
        _too_deep()
    except UnicodeEncodeError:
        _refuse(field, f"{field} has half of a surrogate pair", "invalid_text")
    for text in _strings(plain, depth):
        _encoded(field, text)
    return plain


def _distinct(pairs: List[Tuple[str, Any]]) -> JSONObject:
    """Makes an object. Refuses duplicate keys: 1 and "1" are two keys in Python and one in JSON."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return members


def _strings(value: Any, depth: int) -> Iterator[str]:
    """Yields all names and strings in a value. Refuses values nested too deep."""
    waiting = [(value, depth)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (dict, list)):
            if depth >= MAX_DEPTH:
                _too_deep()
            if isinstance(value, dict):
                yield from value
                value = value.values()
            waiting.extend((inner, depth + 1) for inner in value)


def _too_deep() -> NoReturn:
    _refuse(None, f"nested deeper than {MAX_DEPTH} levels", "too_deep")


def _moment(field: str, at: Optional[Moment], relative: str, seconds: Optional[float]) -> Optional[datetime]:
    """Converts an absolute or relative time to UTC."""
    if seconds is None:
        return None if at is None else _absolute(field, at)
    if at is not None:
        _refuse(relative, f"{relative} sets a time that another field has set: give a time or a number of seconds, not both")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_SECONDS:
        _refuse(relative, f"{relative} must be a number of seconds from 0 to a hundred years")
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def _absolute(field: str, given: Moment) -> datetime:
    text = moment(given) if isinstance(given, datetime) else given
    try:
        at = parse_datetime(text.upper()) if isinstance(text, str) and _RFC3339.fullmatch(text) else None
        if at is not None and at.astimezone(timezone.utc).year >= 1970:
            return at.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        pass  # February 30 or the year 0, for example
    _refuse(field, f"{field} must be a time such as 2026-12-31T23:59:59Z (RFC 3339), not before 1970")


def _size(what: str, payload: JSONObject, limit: int) -> None:
    if len(encode(payload)) > limit:
        _refuse(None, f"{what} is larger than {limit} bytes", "too_large")


def _refuse(field: Optional[str], message: str, code: str = "invalid_field") -> NoReturn:
    raise InvalidMessage(413 if code == "too_large" else 400, code, message, field)
