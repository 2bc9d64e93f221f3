"""From the bytes of an answer to what a call gives, or to its error.

Both clients go through :func:`read`, so that they judge alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, TypeVar

from .errors import BadAnswer, MessagingError, NotFound, ServiceError, class_for

if TYPE_CHECKING:
    from .calls import Call

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. ``headers`` finds names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], answer: Answer) -> T:
    """Give what the call asked for, or raise what the answer means."""
    if answer.status != 200 and answer.status not in call.answers:
        raise refusal(answer)
    try:
        return call.parse(answer.body.decode() if call.text else _object(answer.body))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if answer.status in call.answers:
            return call.parse(call.answers[answer.status])
        raise BadAnswer(
            f"the answer to {call.method} {call.path} is not the service's: is the URL right?", answer.status
        ) from error


def refusal(answer: Answer) -> MessagingError:
    """The error that an answer with another status than 200 is.

    A proxy may answer in the service's place while that is away or in its way;
    those answers are told by their status. One that redirects, or knows no such
    path, is no way to the service at all.
    """
    said = _said(answer.body)
    code, message = said.get("code"), said.get("message")
    if isinstance(code, str) and isinstance(message, str):
        field, index = said.get("field"), said.get("index")
        return class_for(answer.status)(
            answer.status,
            code,
            message,
            field if isinstance(field, str) else None,
            index if isinstance(index, int) else None,
            retry_after(answer.headers.get("Retry-After")),
        )
    kind = class_for(answer.status)
    if answer.status < 400 or kind in (NotFound, ServiceError):
        return BadAnswer(f"what answers with {answer.status} is not the service: is the URL right?", answer.status)
    return kind(
        answer.status,
        "",
        "something in the service's place refused the request",
        retry_after=retry_after(answer.headers.get("Retry-After")),
    )


def retry_after(value: Optional[str]) -> Optional[float]:
    """Seconds until the time that a Retry-After header names; None where it names none."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=timezone.utc)
    return max(0.0, (at - datetime.now(timezone.utc)).total_seconds())


def _object(body: bytes) -> Dict[str, Any]:
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not an object")
    return answer


def _said(body: bytes) -> Dict[str, Any]:
    try:
        return _object(body)
    except (ValueError, RecursionError):
        return {}
