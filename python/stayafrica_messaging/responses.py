"""Converts HTTP responses to results or errors.

Both clients use :func:`read`, so they treat responses alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Dict, Mapping, Optional, TypeVar

from .calls import Call
from .errors import BadAnswer, MessagingError, NotFound, ServiceError, class_for

T = TypeVar("T")


@dataclass(frozen=True)
class Response:
    """An HTTP response. The look-up in ``headers`` ignores case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], response: Response) -> T:
    """Returns the result of a call, or raises the error in its response."""
    if response.status != 200 and response.status not in call.responses:
        raise refusal(response)
    try:
        return call.parse(response.body.decode() if call.text else _object(response.body))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if response.status in call.responses:
            return call.parse(call.responses[response.status])
        raise BadAnswer(
            f"the response to {call.method} {call.path} is not from the messaging service: is the URL right?", response.status
        ) from error


def refusal(response: Response) -> MessagingError:
    """Returns the error for a response with a status other than 200.

    A proxy may respond in place of the service. Such a response has no error code, so the
    error class depends on the status. A redirect or an unknown path means that the URL
    does not lead to the service.
    """
    said = _said(response.body)
    code, message = said.get("code"), said.get("message")
    if isinstance(code, str) and isinstance(message, str):
        field, index = said.get("field"), said.get("index")
        return class_for(response.status)(
            response.status,
            code,
            message,
            field if isinstance(field, str) else None,
            index if isinstance(index, int) else None,
            retry_after(response.headers.get("Retry-After")),
        )
    kind = class_for(response.status)
    if response.status < 400 or kind in (NotFound, ServiceError):
        return BadAnswer(
            f"a response with status {response.status} is not from the messaging service: is the URL right?", response.status
        )
    return kind(
        response.status,
        "",
        "a proxy refused the request, or the service gave no reason",
        retry_after=retry_after(response.headers.get("Retry-After")),
    )


def retry_after(value: Optional[str]) -> Optional[float]:
    """Returns the seconds until the time in a Retry-After header, or None if it is invalid."""
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
    response = json.loads(body)
    if not isinstance(response, dict):
        raise ValueError("the response is not an object")
    return response


def _said(body: bytes) -> Dict[str, Any]:
    try:
        return _object(body)
    except (ValueError, RecursionError):
        return {}
