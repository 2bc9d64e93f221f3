"""A circuit breaker: after a failure it lets nobody try for some seconds."""

from __future__ import annotations

import threading
import time


class Breaker:
    """Closed at first. A failure opens it for a while, after which one caller may
    try: its success closes it, its failure or silence leaves it open for as long
    again. Safe to share between threads.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._retry_at = 0.0  # on the monotonic clock; 0 while closed

    def allows(self) -> bool:
        """Whether the caller may try now."""
        with self._lock:
            now = time.monotonic()
            if self._retry_at > now:
                return False
            if self._retry_at:
                self._retry_at = now + self.seconds  # this caller tries for all
            return True

    def succeeded(self) -> bool:
        """Closes it; says whether it was open."""
        with self._lock:
            was_open, self._retry_at = self._retry_at > 0, 0.0
            return was_open

    def failed(self, seconds: float = 0.0) -> bool:
        """Opens it, for longer than usual where the service asked for that; says whether it was closed."""
        with self._lock:
            was_closed = self._retry_at == 0
            self._retry_at = time.monotonic() + max(self.seconds, seconds)
            return was_closed
