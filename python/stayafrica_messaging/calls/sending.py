"""The calls that store messages. Each has an idempotency key, so retries store a message once."""

from __future__ import annotations

import re
import uuid
from typing import Any, Callable, Iterable, List, Mapping, Optional, Sequence, TypeVar, Union

from .. import types
from ..encoding import encode
from ..types import BroadcastReceipt, Identifier, JSONObject, Moment, Receipt
from .call import Call, success

T = TypeVar("T")


def send(
    conversation_id: Identifier,
    sender_id: Identifier,
    receiver_id: Identifier,
    text: str,
    *,
    message_type: str = "text",
    priority: str = "normal",
    metadata: Optional[Mapping[str, Any]] = None,
    persist: bool = True,
    idempotency_key: Optional[Union[str, uuid.UUID]] = None,
    delay_seconds: Optional[float] = None,
    deliver_at: Optional[Moment] = None,
    ttl_seconds: Optional[float] = None,
    expires_at: Optional[Moment] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Call[Receipt]:
    """Send a message. When this returns, the service has stored it on disk.

    ``priority`` is ``"high"``, ``"normal"`` or ``"low"``. ``persist=False`` means that
    Django already has the message: the service delivers it to the receiver, but not to
    Django. ``delay_seconds`` or ``deliver_at`` set when the message is due.
    ``ttl_seconds`` or ``expires_at`` set when it expires. ``extra`` has further fields,
    which are passed on unchanged.

    Each call gets a new idempotency key, so its retries store the message once. Pass
    your own ``idempotency_key`` (1 to 255 visible characters) to make a later call with
    the same arguments the same send.
    """
    message = _message(
        {"conversation_id": conversation_id, "sender_id": sender_id, "receiver_id": receiver_id, "text": text},
        {
            "message_type": message_type,
            "priority": priority,
            "metadata": metadata,
            "persist": persist,
            "delay_seconds": delay_seconds,
            "deliver_at": deliver_at,
            "ttl_seconds": ttl_seconds,
            "expires_at": expires_at,
        },
        extra,
    )
    return _store("/api/messages/send", message, idempotency_key, Receipt.from_json)


def send_batch(
    messages: Sequence[Mapping[str, Any]],
    *,
    idempotency_key: Optional[Union[str, uuid.UUID]] = None,
) -> Call[List[Receipt]]:
    """Send 1 to 10,000 messages atomically and in order: all of them are stored, or none.

    Each message is a mapping with the arguments of :func:`send` and any extra fields.
    ``conversation_id``, ``sender_id``, ``receiver_id`` and ``text`` are required. The
    idempotency key is for the whole batch. The receipts are in the order of the
    messages. The ``index`` of an InvalidMessage is the position of the bad message.
    """
    messages = list(messages)

    def parse(response: JSONObject) -> List[Receipt]:
        receipts = types.receipts_from_json(response)
        if len(receipts) != len(messages):
            raise ValueError("not one receipt per message")
        return receipts

    return _store("/api/messages/batch", {"messages": messages}, idempotency_key, parse)


def broadcast(
    sender_id: Identifier,
    user_ids: Iterable[Identifier],
    text: str,
    *,
    message_type: str = "system",
    conversation_id: Optional[Identifier] = None,
    priority: str = "normal",
    metadata: Optional[Mapping[str, Any]] = None,
    persist: bool = True,
    idempotency_key: Optional[Union[str, uuid.UUID]] = None,
    delay_seconds: Optional[float] = None,
    deliver_at: Optional[Moment] = None,
    ttl_seconds: Optional[float] = None,
    expires_at: Optional[Moment] = None,
    extra: Optional[Mapping[str, Any]] = None,
) -> Call[BroadcastReceipt]:
    """Send one message to 1 to 1,000,000 users atomically.

    Each user gets the message once, even if listed twice. The other arguments are those
    of :func:`send`.
    """
    message = _message(
        {"sender_id": sender_id, "text": text},
        {
            "conversation_id": conversation_id,
            "message_type": message_type,
            "priority": priority,
            "metadata": metadata,
            "persist": persist,
            "delay_seconds": delay_seconds,
            "deliver_at": deliver_at,
            "ttl_seconds": ttl_seconds,
            "expires_at": expires_at,
        },
        extra,
    )
    body = {"message": message, "user_ids": list(user_ids)}
    return _store("/api/messages/broadcast", body, idempotency_key, BroadcastReceipt.from_json)


def _message(
    required: JSONObject, options: JSONObject, extra: Optional[Mapping[str, Any]]
) -> JSONObject:
    message = dict(required)
    for name, value in options.items():
        if value is not None and (name, value) != ("persist", True):
            message[name] = value
    for name, value in (extra or {}).items():
        if name in required or name in options:
            raise ValueError(f"{name} has its own argument and must not be in extra")
        message[name] = value
    return message


def _store(path: str, body: Any, key: Optional[Union[str, uuid.UUID]], parse: Callable[[Any], T]) -> Call[T]:
    return Call(
        "POST",
        path,
        success(parse),
        body=encode(body),
        headers={"Idempotency-Key": _key(key)},
        safe=True,
    )


def _key(given: Optional[Union[str, uuid.UUID]]) -> str:
    key = str(uuid.uuid4() if given is None else given)
    if not re.fullmatch("[!-~]{1,255}", key):
        raise ValueError("an idempotency key must have 1 to 255 visible ASCII characters")
    return key
