"""Encodes requests as JSON in UTF-8, once for all tries of a call.

The service compares two requests with the same idempotency key byte for byte. So the
bytes are made once, and every try sends the same bytes.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Mapping, Union
from uuid import UUID

try:
    from django.utils.functional import Promise
except ImportError:  # the clients work without Django

    class Promise:  # type: ignore[no-redef]
        """Placeholder for the type of gettext_lazy."""


def encode(value: Any) -> bytes:
    """Encode a request.

    In addition to the JSON types it accepts UUIDs, decimals and lazy translations (as
    text), aware datetimes, and all mappings. Raises TypeError for any other type.
    Raises ValueError for NaN, naive datetimes and lone surrogates.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def moment(value: Union[datetime, str]) -> str:
    """Format a time. Text is returned unchanged. Raises ValueError for a naive datetime."""
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ValueError("a datetime must be aware: it has no time zone (see django.utils.timezone.make_aware)")
    return value.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, (UUID, Decimal, Promise)):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
