"""A circuit breaker. After a failure it blocks attempts for some seconds."""

from __future__ import annotations

import threading
import time


class Breaker:
    """A circuit breaker that threads may share. It is closed at first.

    A failure opens it for ``seconds``. Then one caller may try. A success closes the
    breaker. A failure, or no result, keeps it open for another ``seconds``.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._retry_at = 0.0  # on the monotonic clock; 0 means closed

    def allows(self) -> bool:
        """Whether the caller may try now."""
        with self._lock:
            now = time.monotonic()
            if self._retry_at > now:
                return False
            if self._retry_at:
                self._retry_at = now + self.seconds  # until then only this caller tries
            return True

    def succeeded(self) -> bool:
        """Closes the breaker. Returns whether it was open."""
        with self._lock:
            was_open, self._retry_at = self._retry_at > 0, 0.0
            return was_open

    def failed(self, seconds: float = 0.0) -> bool:
        """Opens the breaker, for longer if the service asked for that. Returns whether it was closed."""
        with self._lock:
            was_closed = self._retry_at == 0
            self._retry_at = time.monotonic() + max(self.seconds, seconds)
            return was_closed
