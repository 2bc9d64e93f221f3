"""The relay pushes the pending rows of the outbox, continuously."""

from __future__ import annotations

import logging
import random
import select
import socket
import time
from typing import Optional

from django.db import Error, close_old_connections

from . import claims, outbox
from .push import PushResult

logger = logging.getLogger("stayafrica_messaging.relay")

#: Maximum pause between pushes, in seconds, while the service or the database is unreachable.
MAX_PAUSE = 10.0
#: Interval between deletions of old rows, in seconds.
PRUNE_INTERVAL = 600.0


class Relay:
    """Pushes due rows every ``interval`` seconds, up to ``limit`` at a time, with ``workers`` threads.

    Pauses have jitter, so that several relays do not run in lockstep. They grow while the
    service or the database is unreachable. Outages of either do not end the relay.
    """

    def __init__(self, interval: float = 1.0, limit: int = 200, workers: int = 8) -> None:
        self.interval = interval
        self.workers = workers
        self.limit = min(limit, claims.MAX_ROWS)
        self.total = PushResult()
        self._stopped = False
        # A byte on this socket ends a pause. A threading.Event would not do: it has a lock,
        # and a signal handler could deadlock on it with the thread that it interrupts.
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._failures = 0  # consecutive pushes that found the service or the database unreachable
        self._last_reported: Optional[str] = None
        self._prune_at = 0.0

    def stop(self) -> None:
        """Make :meth:`run` or :meth:`drain` return after the current row. Any thread or signal handler may call it."""
        self._stopped = True
        self._wake_sender.send(b".")

    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def run(self) -> None:
        """Push until :meth:`stop`."""
        while not self._stopped:
            select.select([self._wake_receiver], [], [], self._pause(self.step()))

    def drain(self) -> PushResult:
        """Push until no more rows can be sent now. Returns the totals. Raises database errors."""
        trouble = None
        while not self._stopped:
            result = self._push()
            trouble = result.trouble or trouble
            if not result.sent and not result.refused:
                break
        self.total.trouble = trouble
        outbox.prune(stop=self.stopped)
        return self.total

    def step(self) -> Optional[PushResult]:
        """Push once. Returns None if the database is unreachable."""
        close_old_connections()
        try:
            result = self._push()
            self._prune()
        except Error as error:
            self._report(f"the outbox cannot be read: {error}")
            self._failures += 1
            close_old_connections()
            return None
        self._count_failures(result)
        return result

    def _count_failures(self, result: PushResult) -> None:
        """Counts consecutive failures to reach the service. A push without due rows halves the count."""
        if result.trouble is not None and result.trouble.unreachable:
            self._failures += 1
        elif result == PushResult():
            self._failures = min(self._failures, 8) // 2
        else:
            self._failures = 0

    def _push(self) -> PushResult:
        result = outbox.relay_once(self.limit, workers=self.workers, stop=self.stopped)
        self.total.sent += result.sent
        self.total.refused += result.refused
        self.total.held += result.held
        self.total.trouble = result.trouble
        if result.trouble is not None:
            self._report(f"messages are pending: {result.trouble.reason}")
        elif result.sent:
            self._report_recovery()
        return result

    def _prune(self) -> None:
        if time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_INTERVAL
        deleted = outbox.prune(stop=self.stopped)
        if deleted:
            logger.info("relay: deleted %d old rows that were sent", deleted)

    def _pause(self, result: Optional[PushResult]) -> float:
        if self._failures:
            bound = min(max(MAX_PAUSE, self.interval), self.interval * 2.0 ** min(self._failures, 16))
            return random.uniform(bound / 2, bound)
        if result is not None and result.trouble is None and result != PushResult():
            return 0.0  # more rows may be due
        return self.interval * random.uniform(0.8, 1.2)

    def _report(self, problem: str) -> None:
        """Logs a problem when it begins and when it changes, not after each push."""
        if problem != self._last_reported:
            self._last_reported = problem
            logger.warning("relay: %s", problem)

    def _report_recovery(self) -> None:
        if self._last_reported is not None:
            self._last_reported = None
            logger.info("relay: messages are sent again")
