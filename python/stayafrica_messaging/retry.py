"""Which failures are tried again, and when."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .calls import Call
from .errors import MessagingError, ServiceError, ServiceUnreachable

#: Bound of the pause after the first failure, in seconds; each further failure doubles it.
FIRST_PAUSE = 0.2
#: What that bound grows to.
LONGEST_PAUSE = 5.0
#: A call is not tried again that may come back only after more seconds than this.
LONGEST_RETRY_AFTER = 10.0

# The service says these before it does anything, so any call may be made again.
_DID_NOTHING = frozenset({"not_ready", "overloaded", "request_timeout", "shutting_down", "too_many_requests"})
# These pass, but what was asked for may have been done, where a proxy says so.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """Tries a call up to ``times`` times again, after pauses with full jitter.

    A pause is drawn evenly from zero to a bound that doubles, behind what the
    service asked for in ``Retry-After``: so many callers that failed together do
    not come back together. No try begins later than ``within`` seconds after the
    first.
    """

    times: int
    within: float = math.inf
    draw: Callable[[], float] = field(default=random.random, repr=False)

    def pause(self, call: Call[Any], failures: int, elapsed: float, error: MessagingError) -> Optional[float]:
        """Seconds to wait before the next try of a call, or None to give up.

        It has failed so often, last with this error, in so many seconds.
        """
        if failures > self.times or not repeatable(call, error):
            return None
        asked = (error.retry_after or 0.0) if isinstance(error, ServiceError) else 0.0
        if asked > LONGEST_RETRY_AFTER:
            return None
        pause = asked + self.draw() * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1))
        return pause if elapsed + pause <= self.within else None


def repeatable(call: Call[Any], error: MessagingError) -> bool:
    """Whether a call that failed so may succeed when it is made again, and does no harm.

    Where nobody knows whether the service did it, only a call that is safe is.
    """
    if isinstance(error, ServiceUnreachable):
        return call.safe or not error.sent
    if isinstance(error, ServiceError):
        return error.code in _DID_NOTHING or (call.safe and error.status in _PASSING)
    return False
