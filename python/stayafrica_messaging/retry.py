"""Decides which failures are retried, and when."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .calls import Call
from .errors import MessagingError, ServiceError, ServiceUnreachable

#: Maximum pause after the first failure, in seconds. It doubles with each further failure.
FIRST_PAUSE = 0.2
#: The limit for that maximum.
MAX_PAUSE = 5.0
#: A call is not retried if the service asks for a longer pause than this, in seconds.
MAX_RETRY_AFTER = 10.0

# The service sends these codes before it processes a request, so any call may be repeated.
_NOT_PROCESSED = frozenset({"not_ready", "overloaded", "request_timeout", "shutting_down", "too_many_requests"})
# Temporary failures. If a proxy sends the status, the service may have processed the request.
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """Retries a call up to ``times`` times, after pauses with full jitter.

    A pause is the service's ``Retry-After`` plus a random time. That is drawn evenly from
    zero to a bound that doubles, which spreads the retries of callers that failed
    together. No retry starts later than ``within`` seconds after the first try.
    """

    times: int
    within: float = math.inf
    draw: Callable[[], float] = field(default=random.random, repr=False)

    def pause(self, call: Call[Any], failures: int, elapsed: float, error: MessagingError) -> Optional[float]:
        """Returns the seconds to wait before the next try, or None to give up.

        ``failures`` counts the failed tries of the call, ``elapsed`` is the time since the
        first one began, and ``error`` is the last error.
        """
        if failures > self.times or not repeatable(call, error):
            return None
        asked = (error.retry_after or 0.0) if isinstance(error, ServiceError) else 0.0
        if asked > MAX_RETRY_AFTER:
            return None
        pause = asked + self.draw() * min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1))
        return pause if elapsed + pause <= self.within else None


def repeatable(call: Call[Any], error: MessagingError) -> bool:
    """Whether a call may succeed, and does no harm, when it is repeated after this error.

    If it is unknown whether the service processed the call, only a safe call is repeated.
    """
    if isinstance(error, ServiceUnreachable):
        return call.safe or not error.sent
    if isinstance(error, ServiceError):
        return error.code in _NOT_PROCESSED or (call.safe and error.status in _TRANSIENT)
    return False
