"""The calls that store messages. Each has an idempotency key, so that its retries store once."""

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
    """Send a message; when this returns, the service has it on disk.

    ``priority`` is ``"high"``, ``"normal"`` or ``"low"``. ``persist=False`` says
    that Django has the message already, so that it is delivered but does not come
    back. ``delay_seconds`` or ``deliver_at`` say when it is due, ``ttl_seconds``
    or ``expires_at`` until when it may be handed out. ``extra`` are further
    fields, handed on as they are.

    A key is made for each call, so that its retries store once. Give an
    ``idempotency_key`` (1 to 255 visible characters) of your own to make a later
    call with the same arguments the same send.
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
    """Send 1 to 10,000 messages at once: all of them or none, one behind the other.

    Each is a mapping with the fields that :func:`send` has as arguments and those
    of its ``extra``; ``conversation_id``, ``sender_id``, ``receiver_id`` and
    ``text`` are needed, an idempotency key belongs to the batch. The receipts come
    in the order of the messages. The ``index`` of an InvalidMessage says which one
    it was.
    """
    messages = list(messages)

    def parse(answer: JSONObject) -> List[Receipt]:
        receipts = types.receipts_from_json(answer)
        if len(receipts) != len(messages):
            raise ValueError("not one receipt a message")
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
    """Send one message to 1 to 1,000,000 users: to all of them or to none.

    Each user gets it once, however often named. The other arguments are those of
    :func:`send`.
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
            raise ValueError(f"{name} is an argument of its own and does not belong in extra")
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
        raise ValueError("an idempotency key must have 1 to 255 visible characters of ASCII")
    return key
