"""Signatures of the service's requests.

A request is signed in a header::

    X-Messaging-Signature: t=1767225600,v1=<hex>[,v1=<hex>]

``t`` is the moment of signing in Unix seconds, and each ``v1`` the HMAC-SHA256,
in hexadecimal digits, of the bytes ``<t>.<path>.<body>`` under one of the
service's keys. The path is that of the request line, without the query string.
While a key is replaced both sides may hold two: one match is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Iterable, Optional, Sequence, Union

#: The name of the header.
HEADER = "X-Messaging-Signature"

Key = Union[str, bytes]

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: How many signatures are looked at: the service sends one for each of its keys,
#: which are two at most.
_MAX_SIGNATURES = 4


class BadSignature(Exception):
    """The request is not signed as it must be; the text says why, and no secret."""


def sign(key: Key, timestamp: Union[int, str], path: str, body: bytes) -> str:
    """The signature of a request under one key, in hexadecimal digits."""
    return _digest(key, f"{timestamp}.{path}.".encode(), body)


def header(keys: Iterable[Key], path: str, body: bytes, timestamp: Optional[int] = None) -> str:
    """The header's value for a request that is signed now, or at `timestamp` (Unix seconds)."""
    moment = int(time.time()) if timestamp is None else timestamp
    return ",".join([f"t={moment}", *(f"v1={sign(key, moment, path, body)}" for key in keys)])


def verify(
    value: str,
    path: str,
    body: bytes,
    keys: Sequence[Key],
    tolerance: float = 300,
    now: Optional[float] = None,
) -> None:
    """Checks the header's value; raises :class:`BadSignature`.

    `tolerance` is how far the moment of signing may be from `now` (the present),
    in seconds, before or after: clocks differ.
    """
    timestamp, signatures = _read(value)
    if not _matches(signatures, f"{timestamp}.{path}.".encode(), body, keys):
        raise BadSignature("none of its signatures is by a key that is known here, for this path and body")
    away = int(timestamp) - (time.time() if now is None else now)
    if abs(away) > tolerance:
        when = "ahead" if away > 0 else "ago"
        raise BadSignature(f"it was signed {abs(away):.0f} seconds {when}; {tolerance:.0f} are allowed")


def _read(value: str) -> tuple[str, list[str]]:
    """The timestamp, as it was written, and the signatures."""
    if not value:
        raise BadSignature(f"it has no {HEADER}")
    fields = [field.strip().partition("=") for field in value.split(",")]
    timestamps = [text for name, _, text in fields if name == "t"]
    signatures = [text for name, _, text in fields if name == "v1" and _DIGEST.fullmatch(text)]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]) or not signatures:
        raise BadSignature(f"its {HEADER} does not read as t=<seconds>,v1=<hex>")
    return timestamps[0], signatures[:_MAX_SIGNATURES]


def _matches(signatures: Sequence[str], head: bytes, body: bytes, keys: Sequence[Key]) -> bool:
    """Compares every signature with every key, so that the time tells nothing."""
    good = False
    for key in keys:
        expected = _digest(key, head, body)
        for signature in signatures:
            good |= hmac.compare_digest(expected, signature)
    return good


def _digest(key: Key, head: bytes, body: bytes) -> str:
    secret = key.encode() if isinstance(key, str) else key
    signed = hmac.new(secret, head, hashlib.sha256)
    signed.update(body)
    return signed.hexdigest()
