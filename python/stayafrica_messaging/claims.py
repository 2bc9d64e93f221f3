"""Claims on rows of the outbox.

A lane is an ordering key: the rows of one lane are pushed one at a time, in the order
of their ids, by any number of processes. The column ``next_attempt_at`` implements
this. A pending row is *due* if the column is null or in the past. It is in the future
if a process has claimed the row, or if a push failed and the row backs off. A row that
is not due blocks the later rows of its lane.

1. A short transaction claims rows. It ends before the service is called, so no lock
   is held during network calls.
2. A claim on a row includes all earlier pending rows of its lane.
3. A claim expires. If its process dies, another process claims the rows. It may push a
   row again, under the same idempotency key, which the service stores once.

Two concurrent transactions in one lane are ordered by their commits. The rows of the
later commit may have smaller ids than rows that were pushed already.

A row is always read from the database before it is pushed. PostgreSQL and MySQL reorder
the members of JSON objects, and the service compares two requests with the same key
byte for byte.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Collection, Dict, Iterator, List, Optional, Tuple

from django.apps import apps
from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from . import conf

if TYPE_CHECKING:  # models cannot be imported before Django has loaded its apps
    from .models import OutboxMessage

PENDING, SENT, FAILED = "pending", "sent", "failed"

#: Maximum number of rows in a claim. SQLite allows 999 parameters in a query.
MAX_ROWS = 500
#: Maximum number of broadcasts in a claim. A broadcast may have a million receivers.
MAX_BROADCASTS = 4


def database() -> str:
    """The alias of the database with the outbox."""
    return str(conf.get("OUTBOX_DATABASE"))


def rows() -> QuerySet[OutboxMessage]:
    """All rows of the outbox."""
    # The model is looked up on each call. A project's models.py may import outbox.send
    # before Django has loaded all models.
    return apps.get_model("stayafrica_messaging", "OutboxMessage")._default_manager.using(database())


def claim(limit: int, seconds: float, lanes: Optional[Collection[str]] = None) -> List[OutboxMessage]:
    """Claims up to ``limit`` due rows, oldest first, for ``seconds``.

    ``lanes`` limits the claim to these lanes. The rows are in the order of their ids.
    The caller must pass each row to :func:`sent`, :func:`refused`, :func:`hold` or
    :func:`release`.
    """
    now = timezone.now()
    candidates = list(_limit_broadcasts(_sendable(now, lanes)[: min(limit, MAX_ROWS)]))
    if not candidates:
        return []
    with transaction.atomic(using=database()):
        locked = {row.pk: row for row in _locked(_due(now).filter(pk__in=[pk for pk, _, _ in candidates]))}
        claimed = [locked[pk] for pk in _claimed_prefix(candidates, locked)]
        until = now + timedelta(seconds=seconds)
        rows().filter(pk__in=[row.pk for row in claimed]).update(next_attempt_at=until)
    for row in claimed:
        row.next_attempt_at = until
    return claimed


def _due(now: datetime) -> QuerySet[OutboxMessage]:
    return rows().filter(Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now), state=PENDING)


def _sendable(now: datetime, lanes: Optional[Collection[str]]) -> QuerySet[Any]:
    """Due rows that no earlier row of their lane blocks."""
    ahead = rows().filter(state=PENDING, next_attempt_at__gt=now, lane=OuterRef("lane"), pk__lt=OuterRef("pk"))
    due = _due(now).filter(~Exists(ahead)).order_by("pk")
    if lanes is not None:
        due = due.filter(lane__in=list(lanes)[:MAX_ROWS])
    return due.values_list("pk", "lane", "kind")


def _limit_broadcasts(candidates: QuerySet[Any]) -> Iterator[Tuple[int, str, str]]:
    broadcasts = 0
    for pk, lane, kind in candidates:
        broadcasts += kind == "broadcast"
        if broadcasts > MAX_BROADCASTS:
            return
        yield pk, lane, kind


def _locked(wanted: QuerySet[OutboxMessage]) -> QuerySet[OutboxMessage]:
    """Locks the rows. Skips rows that another claim has locked."""
    features = connections[wanted.db].features
    if features.has_select_for_update:
        return wanted.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
    # SQLite has one writer at a time. After its first write, this transaction is the
    # writer, and no other transaction changes what it reads. It must not read before
    # that write, because then it could not wait for another writer.
    rows().filter(pk__lt=0).update(state=F("state"))
    return wanted


def _claimed_prefix(candidates: List[Tuple[int, str, str]], locked: Dict[int, OutboxMessage]) -> Iterator[int]:
    """Returns the candidates of each lane before the first one that another claim has."""
    interrupted = set()
    for pk, lane, _ in candidates:
        if pk not in locked:
            interrupted.add(lane)
        elif lane not in interrupted:
            yield pk


def sent(row: OutboxMessage, note: str = "", **receipt: Any) -> None:
    """Records that the service has the message. ``receipt`` has ``message_id``, ``sequence``, ``recipients``."""
    _finish(row, state=SENT, sent_at=timezone.now(), last_error=note, **receipt)


def refused(row: OutboxMessage, reason: str) -> None:
    """Records that the service refused the message permanently. The row does not block its lane."""
    _finish(row, state=FAILED, last_error=reason)


def _finish(row: OutboxMessage, **changes: Any) -> None:
    # The state is final, even if the claim has expired.
    _change(rows().filter(pk=row.pk, state=PENDING), row, next_attempt_at=None, attempts=row.attempts + 1, **changes)


def hold(row: OutboxMessage, reason: str, seconds: float) -> None:
    """Records a failed push. The row backs off for ``seconds`` and blocks its lane."""
    _change(
        _still_claimed(row).filter(pk=row.pk),
        row,
        next_attempt_at=timezone.now() + timedelta(seconds=seconds),
        attempts=row.attempts + 1,
        last_error=reason,
    )


def release(claimed: Collection[OutboxMessage]) -> None:
    """Releases the rows of one claim that were not tried."""
    for row in claimed:
        _still_claimed(row).filter(pk__in=[other.pk for other in claimed]).update(next_attempt_at=None)
        return


def _still_claimed(row: OutboxMessage) -> QuerySet[OutboxMessage]:
    # After the claim expired, another one may have taken the row, with another end.
    return rows().filter(state=PENDING, next_attempt_at=row.next_attempt_at)


def _change(wanted: QuerySet[OutboxMessage], row: OutboxMessage, **changes: Any) -> None:
    wanted.update(**changes)
    for name, value in changes.items():
        setattr(row, name, value)
