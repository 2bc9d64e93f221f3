"""The relay: pushes, again and again, what waits in the outbox."""

from __future__ import annotations

import logging
import random
import select
import socket
import time
from typing import Optional

from django.db import Error, close_old_connections

from . import lanes, outbox
from .outbox import Sweep

logger = logging.getLogger("stayafrica_messaging.relay")

#: What the pause between sweeps grows to, in seconds, while the service or the database cannot be reached.
LONGEST_PAUSE = 10.0
#: How often old rows are deleted, in seconds.
PURGE_EVERY = 600.0


class Relay:
    """Sweeps every ``interval`` seconds, up to ``limit`` rows at a time, with ``workers`` threads.

    Pauses are drawn, so that several relays do not stay in step, and grow while
    nothing can be reached. It outlives outages of the service and of the database.
    """

    def __init__(self, interval: float = 1.0, limit: int = 200, workers: int = 8) -> None:
        self.interval = interval
        self.workers = workers
        self.limit = min(limit, lanes.MOST_ROWS)
        self.total = Sweep()
        self._stopped = False
        # What wakes it from a pause. An Event has a lock, on which a signal handler
        # could wait for the very thread that it interrupts.
        self._bell, self._ear = socket.socketpair()
        self._vain = 0  # how many sweeps in a row found the service or the database out of reach
        self._complaint: Optional[str] = None
        self._purge_at = 0.0

    def stop(self) -> None:
        """Let :meth:`run` or :meth:`drain` return after the row in hand; any thread or signal handler may call it."""
        self._stopped = True
        self._bell.send(b".")

    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped

    def run(self) -> None:
        """Sweep until :meth:`stop`."""
        while not self._stopped:
            select.select([self._ear], [], [], self._pause(self.step()))

    def drain(self) -> Sweep:
        """Sweep until nothing more can be sent now; gives what became of all. Raises what the database raises."""
        trouble = None
        while not self._stopped:
            sweep = self._sweep()
            trouble = sweep.trouble or trouble
            if not sweep.sent and not sweep.refused:
                break
        self.total.trouble = trouble
        outbox.purge(stop=self.stopped)
        return self.total

    def step(self) -> Optional[Sweep]:
        """Sweep once; None where the database cannot be reached."""
        close_old_connections()
        try:
            sweep = self._sweep()
            self._purge()
        except Error as error:
            self._complain(f"the outbox cannot be read: {error}")
            self._vain += 1
            close_old_connections()
            return None
        self._learn(sweep)
        return sweep

    def _learn(self, sweep: Sweep) -> None:
        """Whether the service is in reach; a sweep that found nothing to push says little."""
        if sweep.trouble is not None and sweep.trouble.gone:
            self._vain += 1
        elif sweep == Sweep():
            self._vain = min(self._vain, 8) // 2
        else:
            self._vain = 0

    def _sweep(self) -> Sweep:
        sweep = outbox.relay_once(self.limit, workers=self.workers, stop=self.stopped)
        self.total.sent += sweep.sent
        self.total.refused += sweep.refused
        self.total.held += sweep.held
        self.total.trouble = sweep.trouble
        if sweep.trouble is not None:
            self._complain(f"messages wait: {sweep.trouble.reason}")
        elif sweep.sent:
            self._content()
        return sweep

    def _purge(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        self._purge_at = time.monotonic() + PURGE_EVERY
        deleted = outbox.purge(stop=self.stopped)
        if deleted:
            logger.info("relay: deleted %d rows that were sent long ago", deleted)

    def _pause(self, sweep: Optional[Sweep]) -> float:
        if self._vain:
            bound = min(max(LONGEST_PAUSE, self.interval), self.interval * 2.0 ** min(self._vain, 16))
            return random.uniform(bound / 2, bound)
        if sweep is not None and sweep.trouble is None and sweep != Sweep():
            return 0.0  # there may be more
        return self.interval * random.uniform(0.8, 1.2)

    def _complain(self, complaint: str) -> None:
        """Says it when it begins and when it changes, not at each sweep."""
        if complaint != self._complaint:
            self._complaint = complaint
            logger.warning("relay: %s", complaint)

    def _content(self) -> None:
        if self._complaint is not None:
            self._complaint = None
            logger.info("relay: messages are sent again")
