"""The calls on one user's queue."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, Iterable, List, Optional, Union

from .. import types
from ..encoding import encode
from ..errors import InvalidMessage
from ..types import Identifier, Message, QueueSize
from .call import Call, Query, success


def take(user_id: Identifier, max_count: int = 10, *, wait: Optional[float] = None) -> Call[List[Message]]:
    """Take up to ``max_count`` (1 to 1000) messages from a user's queue, permanently.

    ``wait`` is how many seconds (up to 60) to wait for the first message. A response
    that gets lost on the way loses its messages. If that is not acceptable, use
    :func:`lease`. A take is retried only if the request certainly did not arrive.
    """
    return _queue(user_id, {"max_count": max_count}, wait)


def peek(user_id: Identifier, max_count: int = 10) -> Call[List[Message]]:
    """Read the messages that :func:`take` would return, without taking them."""
    return _queue(user_id, {"max_count": max_count, "peek": "true"}, None, safe=True)


def lease(
    user_id: Identifier, seconds: float, max_count: int = 10, *, wait: Optional[float] = None
) -> Call[List[Message]]:
    """Take messages for a limited time, in seconds (1 to 3600).

    A message whose ``receipt`` is not acknowledged by then (:func:`ack`) returns to its
    position in the queue. Fractions of a second are rounded up.
    """
    return _queue(user_id, {"max_count": max_count, "lease": math.ceil(seconds)}, wait)


def _queue(user_id: Identifier, params: Query, wait: Optional[float], safe: bool = False) -> Call[List[Message]]:
    if wait is not None:
        params["wait"] = math.ceil(wait)
    return Call(
        "GET", _queue_path(user_id), success(types.messages_from_json), params=params, safe=safe, waits=wait or 0.0
    )


def _queue_path(user_id: Identifier) -> str:
    name = str(user_id)
    if not re.fullmatch(r"[A-Za-z0-9_.:@-]{1,64}", name) or name in (".", ".."):
        # The same error as the service's. Some of these ids would form the path of another call.
        raise InvalidMessage(
            400, "invalid_field", "user_id must be 1 to 64 characters out of A-Z a-z 0-9 _ . : @ -", "user_id"
        )
    return f"/api/messages/queue/{name}"


def ack(user_id: Identifier, receipts: Iterable[Union[str, Message]]) -> Call[Dict[str, str]]:
    """Acknowledge leased messages. They leave the queue.

    ``receipts`` has up to 10,000 receipts or leased messages. The result for each
    receipt is ``"acked"``, ``"expired"`` (the lease ended; the message is delivered
    again) or ``"unknown"`` (the message is not in the queue any more).
    """
    return _receipts("ack", user_id, receipts)


def nack(
    user_id: Identifier, receipts: Iterable[Union[str, Message]], delay_seconds: Optional[float] = None
) -> Call[Dict[str, str]]:
    """Return leased messages to the queue, due at once or after ``delay_seconds`` (up to a day).

    The result for each receipt is ``"nacked"``, ``"expired"`` or ``"unknown"``.
    """
    return _receipts("nack", user_id, receipts, {} if delay_seconds is None else {"delay_seconds": delay_seconds})


def extend(user_id: Identifier, receipts: Iterable[Union[str, Message]], seconds: float) -> Call[Dict[str, str]]:
    """Extend leases to end in ``seconds`` (1 to 3600) from now.

    The result for each receipt is ``"extended"``, ``"expired"`` or ``"unknown"``.
    """
    return _receipts("extend", user_id, receipts, {"lease": seconds}, safe=True)


def _receipts(
    verb: str,
    user_id: Identifier,
    receipts: Iterable[Union[str, Message]],
    options: Optional[Dict[str, Any]] = None,
    safe: bool = False,
) -> Call[Dict[str, str]]:
    # A repeated ack or nack returns "unknown" or "expired" although the first one
    # succeeded. Only extend is safe to repeat.
    names = [receipt.receipt if isinstance(receipt, Message) else receipt for receipt in receipts]
    body = {"user_id": user_id, "receipts": names, **(options or {})}
    return Call("POST", f"/api/messages/{verb}", success(types.outcomes_from_json), body=encode(body), safe=safe)


def queue_size(user_id: Identifier) -> Call[QueueSize]:
    """Count the messages in a user's queue."""
    return Call("GET", _queue_path(user_id) + "/size", success(QueueSize.from_json), safe=True)


def clear(user_id: Identifier) -> Call[int]:
    """Delete all messages in a user's queue, including leased and delayed ones.

    Returns how many they were. The messages still go to Django.
    """
    return Call("DELETE", _queue_path(user_id), success(lambda response: types.number(response, "cleared")))
