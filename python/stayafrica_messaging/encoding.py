"""How requests are written: JSON in UTF-8, once for all tries of a call.

The service compares the bodies of two calls with one idempotency key byte for
byte, so the bytes are made once and sent as they are each time.
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
        """What gettext_lazy gives."""


def encode(value: Any) -> bytes:
    """Write a request.

    Beside what JSON has it takes UUIDs, decimals and lazy translations (as text),
    aware datetimes and mappings of any kind. Raises TypeError for anything else, ValueError for NaN,
    naive datetimes and halves of surrogate pairs.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def moment(value: Union[datetime, str]) -> str:
    """Write a point in time; text is taken as it is. Raises ValueError for a naive datetime."""
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
