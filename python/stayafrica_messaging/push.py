"""Pushes claimed rows to the service, lane by lane, and records the outcomes."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from django.db import transaction

from . import claims, conf, delivery
from .client import MessagingClient
from .delivery import Outcome, Refused, Trouble

if TYPE_CHECKING:  # models cannot be imported before Django has loaded its apps
    from .models import OutboxMessage

Attempts = List[Tuple["OutboxMessage", Outcome]]


@dataclass
class PushResult:
    """The counts of one push.

    ``sent`` and ``refused`` rows are final. ``held`` rows failed for now and back off.
    ``trouble`` is the last failure, or None.
    """

    sent: int = 0
    refused: int = 0
    held: int = 0
    trouble: Optional[Trouble] = None

    def count(self, outcome: Outcome) -> None:
        """Counts the outcome of a row."""
        if isinstance(outcome, Trouble):
            self.held += 1
            self.trouble = outcome
        elif isinstance(outcome, Refused):
            self.refused += 1
        else:
            self.sent += 1


def push_claimed(
    claimed: List[OutboxMessage],
    client: MessagingClient,
    stop: Callable[[], bool],
    max_failures: int,
    workers: int = 1,
) -> PushResult:
    """Pushes the rows of a claim. Releases the rows that it does not try.

    It stops after ``max_failures`` failures in a row, or at the first failure if the
    service is unreachable.
    """
    result = PushResult()
    untried = {row.pk: row for row in claimed}
    pusher = _Pusher(client, stop, max_failures)
    try:
        for attempts in pusher.in_parallel(claimed, workers) if workers > 1 else pusher.in_order(claimed):
            for row, _ in attempts:
                del untried[row.pk]
            # The rows are claimed until this transaction commits. After a crash before that they
            # are pushed again, which stores nothing twice.
            with transaction.atomic(using=claims.database()):
                for row, outcome in attempts:
                    delivery.record(row, outcome)
                    result.count(outcome)
    finally:
        pusher.cancel()
        claims.release(untried.values())
    return result


class _Pusher:
    """The calls of one push. Its threads do not use the database."""

    def __init__(self, client: MessagingClient, stop: Callable[[], bool], max_failures: int) -> None:
        self._client = client
        self._stop = stop
        self._max_failures = max_failures
        self._max_attempts = conf.get("OUTBOX_MAX_ATTEMPTS")
        self._failures = 0  # consecutive failures
        self._cancelled = False

    def cancel(self) -> None:
        """Stops further tries."""
        self._cancelled = True

    def in_order(self, rows: Iterable[OutboxMessage]) -> Iterator[Attempts]:
        """Tries rows one at a time. After a failure it skips the later rows of the lane."""
        attempts: Attempts = []
        held: Set[str] = set()
        for row in rows:
            if self._cancelled or self._stop():
                break
            if row.lane not in held:
                outcome = self._attempt(row)
                attempts.append((row, outcome))
                if isinstance(outcome, Trouble):
                    held.add(row.lane)
        yield attempts

    def in_parallel(self, rows: Iterable[OutboxMessage], workers: int) -> Iterator[Attempts]:
        """Tries several lanes concurrently. Yields the lanes that finished since the last step."""
        by_lane: Dict[str, List[OutboxMessage]] = {}
        for row in rows:
            by_lane.setdefault(row.lane, []).append(row)
        with ThreadPoolExecutor(min(workers, len(by_lane))) as pool:
            waiting = {pool.submit(self._lane, lane) for lane in by_lane.values()}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield [attempts for lane in done for attempts in lane.result()]

    def _lane(self, rows: List[OutboxMessage]) -> Attempts:
        return next(self.in_order(rows))

    def _attempt(self, row: OutboxMessage) -> Outcome:
        outcome = delivery.attempt(self._client, row, self._max_attempts)
        failed = isinstance(outcome, Trouble)
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= self._max_failures or (isinstance(outcome, Trouble) and outcome.unreachable):
            self.cancel()
        return outcome
