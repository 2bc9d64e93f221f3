"""The calls on the queue of one user."""

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
    """Take up to ``max_count`` (1 to 1000) messages out of a user's queue, for good.

    ``wait`` (up to 60 seconds) waits for the first one. What is lost between the
    service and here is gone; who cannot have that uses :func:`lease`. So this is
    made again only where the request certainly did not arrive.
    """
    return _queue(user_id, {"max_count": max_count}, wait)


def peek(user_id: Identifier, max_count: int = 10) -> Call[List[Message]]:
    """Read what a take would give, and leave it there."""
    return _queue(user_id, {"max_count": max_count, "peek": "true"}, None, safe=True)


def lease(
    user_id: Identifier, seconds: float, max_count: int = 10, *, wait: Optional[float] = None
) -> Call[List[Message]]:
    """Take messages for so many seconds (1 to 3600).

    Those whose ``receipt`` is not acknowledged by then (:func:`ack`) come back to
    their place in the queue. Fractions of a second are rounded up.
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
        # As the service says it. Some of these would be the path of another call.
        raise InvalidMessage(
            400, "invalid_field", "user_id must be 1 to 64 characters out of A-Z a-z 0-9 _ . : @ -", "user_id"
        )
    return f"/api/messages/queue/{name}"


def ack(user_id: Identifier, receipts: Iterable[Union[str, Message]]) -> Call[Dict[str, str]]:
    """Say that leased messages were dealt with, so that they leave the queue.

    ``receipts`` are up to 10,000 receipts, or the messages that have them. The
    outcome of each receipt is ``"acked"``, ``"expired"`` (the lease is over; the
    message comes again or has come) or ``"unknown"`` (it has left the queue).
    """
    return _receipts("ack", user_id, receipts)


def nack(
    user_id: Identifier, receipts: Iterable[Union[str, Message]], delay_seconds: Optional[float] = None
) -> Call[Dict[str, str]]:
    """Give leased messages back to the queue, due at once or after ``delay_seconds`` (up to a day).

    The outcome of each receipt is ``"nacked"``, ``"expired"`` or ``"unknown"``.
    """
    return _receipts("nack", user_id, receipts, {} if delay_seconds is None else {"delay_seconds": delay_seconds})


def extend(user_id: Identifier, receipts: Iterable[Union[str, Message]], seconds: float) -> Call[Dict[str, str]]:
    """Let leases last for so many seconds (1 to 3600) from now.

    The outcome of each receipt is ``"extended"``, ``"expired"`` or ``"unknown"``.
    """
    return _receipts("extend", user_id, receipts, {"lease": seconds}, safe=True)


def _receipts(
    verb: str,
    user_id: Identifier,
    receipts: Iterable[Union[str, Message]],
    options: Optional[Dict[str, Any]] = None,
    safe: bool = False,
) -> Call[Dict[str, str]]:
    # An ack or a nack that is made twice answers "unknown" or "expired" the
    # second time, which would not be true: only extending is safe.
    names = [receipt.receipt if isinstance(receipt, Message) else receipt for receipt in receipts]
    body = {"user_id": user_id, "receipts": names, **(options or {})}
    return Call("POST", f"/api/messages/{verb}", success(types.outcomes_from_json), body=encode(body), safe=safe)


def queue_size(user_id: Identifier) -> Call[QueueSize]:
    """Count a user's queue."""
    return Call("GET", _queue_path(user_id) + "/size", success(QueueSize.from_json), safe=True)


def clear(user_id: Identifier) -> Call[int]:
    """Empty a user's queue, leased and delayed messages included; gives how many those were.

    They still go to Django.
    """
    return Call("DELETE", _queue_path(user_id), success(lambda answer: types.number(answer, "cleared")))
