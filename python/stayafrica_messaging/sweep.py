"""A sweep: claimed rows are pushed, lane by lane, and what came of them is written down."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from django.db import transaction

from . import conf, delivery, lanes
from .delivery import Outcome, Refused, Trouble

if TYPE_CHECKING:
    from .client import MessagingClient
    from .models import OutboxMessage

Tried = List[Tuple["OutboxMessage", Outcome]]


@dataclass
class Sweep:
    """What became of the rows of one sweep.

    ``sent`` and ``refused`` are dealt with. ``held`` were tried in vain; ``trouble`` is
    the last reason, or None.
    """

    sent: int = 0
    refused: int = 0
    held: int = 0
    trouble: Optional[Trouble] = None

    def count(self, outcome: Outcome) -> None:
        """Counts a row."""
        if isinstance(outcome, Trouble):
            self.held += 1
            self.trouble = outcome
        elif isinstance(outcome, Refused):
            self.refused += 1
        else:
            self.sent += 1


def deliver(
    claimed: List[OutboxMessage],
    client: MessagingClient,
    stop: Callable[[], bool],
    patience: int,
    workers: int = 1,
) -> Sweep:
    """Pushes the rows of a claim and gives back those that it does not try.

    After ``patience`` rows in a row that were tried in vain it gives up, and at once
    where the service cannot be reached.
    """
    sweep = Sweep()
    untried = {row.pk: row for row in claimed}
    push = _Push(client, stop, patience)
    try:
        for tried in push.side_by_side(claimed, workers) if workers > 1 else push.in_order(claimed):
            for row, _ in tried:
                del untried[row.pk]
            # Until then the rows are claimed: a crash has them pushed again, which
            # stores nothing twice.
            with transaction.atomic(using=lanes.database()):
                for row, outcome in tried:
                    delivery.settle(row, outcome)
                    sweep.count(outcome)
    finally:
        push.end()
        lanes.release(untried.values())
    return sweep


class _Push:
    """The calls of a sweep. Its threads touch no database."""

    def __init__(self, client: MessagingClient, stop: Callable[[], bool], patience: int) -> None:
        self._client = client
        self._stop = stop
        self._patience = patience
        self._most_attempts = conf.get("OUTBOX_MAX_ATTEMPTS")
        self._vain = 0  # tries since the last that was not in vain
        self._ended = False

    def end(self) -> None:
        """Nothing more is tried."""
        self._ended = True

    def in_order(self, rows: Iterable[OutboxMessage]) -> Iterator[Tried]:
        """Tries rows one after another, but for those behind one that was tried in vain."""
        tried: Tried = []
        held: Set[str] = set()
        for row in rows:
            if self._ended or self._stop():
                break
            if row.lane not in held:
                outcome = self._attempt(row)
                tried.append((row, outcome))
                if isinstance(outcome, Trouble):
                    held.add(row.lane)
        yield tried

    def side_by_side(self, rows: Iterable[OutboxMessage], workers: int) -> Iterator[Tried]:
        """Tries several lanes at once; gives the lanes that were done since it was last asked."""
        by_lane: Dict[str, List[OutboxMessage]] = {}
        for row in rows:
            by_lane.setdefault(row.lane, []).append(row)
        with ThreadPoolExecutor(min(workers, len(by_lane))) as pool:
            waiting = {pool.submit(self._lane, lane) for lane in by_lane.values()}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield [tried for lane in done for tried in lane.result()]

    def _lane(self, rows: List[OutboxMessage]) -> Tried:
        return next(self.in_order(rows))

    def _attempt(self, row: OutboxMessage) -> Outcome:
        outcome = delivery.attempt(self._client, row, self._most_attempts)
        in_vain = isinstance(outcome, Trouble)
        self._vain = self._vain + 1 if in_vain else 0
        if self._vain >= self._patience or (isinstance(outcome, Trouble) and outcome.gone):
            self.end()
        return outcome
