"""Signatures of the service's requests.

A request has its signature in a header::

    X-Messaging-Signature: t=1767225600,v1=<hex>[,v1=<hex>]

``t`` is the time of signing in Unix seconds. Each ``v1`` is the HMAC-SHA256 of the bytes
``<t>.<path>.<body>`` under one of the service's keys, in hexadecimal. The path is that
of the request line, without the query string, in the form of :func:`signed_path`. To
replace a key, both sides may have two keys; one match is enough.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Iterable, Optional, Sequence, Union
from urllib.parse import quote

#: The name of the header.
HEADER = "X-Messaging-Signature"

Key = Union[str, bytes]

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
#: Maximum number of signatures to check. The service sends one per key, and has at most
#: two keys.
_MAX_SIGNATURES = 4


class BadSignature(Exception):
    """The signature of a request is missing or invalid. The text is the reason and contains no secret."""


def signed_path(path: str) -> str:
    """Returns the form of a decoded path that is signed, however the request line spells it.

    The slash and the unreserved characters of RFC 3986 stay; all others are
    percent-encoded.
    """
    return quote(path, safe="/")


def sign(key: Key, timestamp: Union[int, str], path: str, body: bytes) -> str:
    """Returns the signature of a request under one key, in hexadecimal."""
    return _digest(key, f"{timestamp}.{path}.".encode(), body)


def header(keys: Iterable[Key], path: str, body: bytes, timestamp: Optional[int] = None) -> str:
    """Returns the header value for a request signed now, or at `timestamp` (Unix seconds)."""
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
    """Checks the header value. Raises :class:`BadSignature`.

    `tolerance` is the maximum difference between the time of signing and `now` (the
    current time), in seconds, in both directions, because clocks differ.
    """
    timestamp, signatures = _read(value)
    if not _matches(signatures, f"{timestamp}.{path}.".encode(), body, keys):
        raise BadSignature("no signature matches a known key, the path and the body")
    away = int(timestamp) - (time.time() if now is None else now)
    if abs(away) > tolerance:
        when = "in the future" if away > 0 else "ago"
        raise BadSignature(f"it was signed {abs(away):.0f} seconds {when}; at most {tolerance:.0f} are allowed")


def _read(value: str) -> tuple[str, list[str]]:
    """Returns the timestamp, as written, and the signatures."""
    if not value:
        raise BadSignature(f"it has no {HEADER}")
    fields = [field.strip().partition("=") for field in value.split(",")]
    timestamps = [text for name, _, text in fields if name == "t"]
    signatures = [text for name, _, text in fields if name == "v1" and _DIGEST.fullmatch(text)]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]) or not signatures:
        raise BadSignature(f"its {HEADER} does not have the format t=<seconds>,v1=<hex>")
    return timestamps[0], signatures[:_MAX_SIGNATURES]


def _matches(signatures: Sequence[str], head: bytes, body: bytes, keys: Sequence[Key]) -> bool:
    """Compares every signature with every key, so that the time taken reveals nothing."""
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
