"""Who may push which rows of the outbox, and what became of them.

Rows of one lane are pushed one after another, in the order of their ids, however
many processes push. One column arranges it: a pending row is *due* unless its
``next_attempt_at`` lies ahead, and a row that is not due holds up those behind it
in its lane. It lies ahead for one of two reasons: somebody has claimed the row and
is pushing it, or pushing it failed and it backs off.

1. Rows are claimed in one short transaction, which is over before the service is
   called: no lock is held while the network is waited for.
2. Whoever claims a row has also claimed all pending rows before it in its lane.
3. A claim ends by itself. Whoever dies with one leaves its rows to the next; what
   it had pushed already is pushed again under the same idempotency key, which
   the service stores once.

Two transactions that run at once in one lane have no order but that of their
commits: the ids of one may become visible after the other's rows were pushed.

Rows are always read back before they are pushed. PostgreSQL and MySQL reorder the
members of JSON objects, and the service compares the bodies of two tries byte for
byte.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Collection, Dict, Iterator, List, Optional, Tuple

from django.apps import apps
from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from . import conf

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from .models import OutboxMessage

PENDING, SENT, FAILED = "pending", "sent", "failed"

#: The most rows of one claim: SQLite takes 999 parameters in a query.
MOST_ROWS = 500
#: The most broadcasts of one claim. Each may name a million users.
MOST_BROADCASTS = 4


def database() -> str:
    """The alias of the database that has the outbox."""
    return str(conf.get("OUTBOX_DATABASE"))


def rows() -> QuerySet[OutboxMessage]:
    """All rows of the outbox."""
    # Looked up late: a project's models.py may import the function that sends.
    return apps.get_model("stayafrica_messaging", "OutboxMessage")._default_manager.using(database())


def claim(limit: int, seconds: float, lanes: Optional[Collection[str]] = None) -> List[OutboxMessage]:
    """Claims up to ``limit`` due rows, the oldest first, for so many seconds.

    ``lanes`` restricts it to rows of these. The rows come in the order of their
    ids; all must be given to :func:`sent`, :func:`refused`, :func:`hold` or
    :func:`release`.
    """
    now = timezone.now()
    seen = list(_few_broadcasts(_sendable(now, lanes)[: min(limit, MOST_ROWS)]))
    if not seen:
        return []
    with transaction.atomic(using=database()):
        mine = {row.pk: row for row in _locked(_due(now).filter(pk__in=[pk for pk, _, _ in seen]))}
        claimed = [mine[pk] for pk in _unbroken(seen, mine)]
        until = now + timedelta(seconds=seconds)
        rows().filter(pk__in=[row.pk for row in claimed]).update(next_attempt_at=until)
    for row in claimed:
        row.next_attempt_at = until
    return claimed


def _due(now: datetime) -> QuerySet[OutboxMessage]:
    return rows().filter(Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now), state=PENDING)


def _sendable(now: datetime, lanes: Optional[Collection[str]]) -> QuerySet[Any]:
    """Due rows that nothing before them in their lane holds up."""
    ahead = rows().filter(state=PENDING, next_attempt_at__gt=now, lane=OuterRef("lane"), pk__lt=OuterRef("pk"))
    due = _due(now).filter(~Exists(ahead)).order_by("pk")
    if lanes is not None:
        due = due.filter(lane__in=list(lanes)[:MOST_ROWS])
    return due.values_list("pk", "lane", "kind")


def _few_broadcasts(seen: QuerySet[Any]) -> Iterator[Tuple[int, str, str]]:
    broadcasts = 0
    for pk, lane, kind in seen:
        broadcasts += kind == "broadcast"
        if broadcasts > MOST_BROADCASTS:
            return
        yield pk, lane, kind


def _locked(wanted: QuerySet[OutboxMessage]) -> QuerySet[OutboxMessage]:
    """The rows, or those of them that nobody else is claiming at this moment."""
    features = connections[wanted.db].features
    if features.has_select_for_update:
        return wanted.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
    # SQLite has one writer at a time: after its first write this transaction is
    # the one, and what it reads from now on nobody changes. It must not have read
    # before, or another's write could not be waited for.
    rows().filter(pk__lt=0).update(state=F("state"))
    return wanted


def _unbroken(seen: List[Tuple[int, str, str]], mine: Dict[int, OutboxMessage]) -> Iterator[int]:
    """What was seen of each lane up to the first row that somebody else got."""
    broken = set()
    for pk, lane, _ in seen:
        if pk not in mine:
            broken.add(lane)
        elif lane not in broken:
            yield pk


def sent(row: OutboxMessage, note: str = "", **receipt: Any) -> None:
    """The service has the row's message; ``receipt`` has ``message_id``, ``sequence``, ``recipients``."""
    _settle(row, state=SENT, sent_at=timezone.now(), last_error=note, **receipt)


def refused(row: OutboxMessage, reason: str) -> None:
    """The service will never take the row's message; it holds nobody up."""
    _settle(row, state=FAILED, last_error=reason)


def _settle(row: OutboxMessage, **changes: Any) -> None:
    # Whatever became of the claim: this is so now.
    _change(rows().filter(pk=row.pk, state=PENDING), row, next_attempt_at=None, attempts=row.attempts + 1, **changes)


def hold(row: OutboxMessage, reason: str, seconds: float) -> None:
    """The row was tried in vain; it, and those behind it, wait so long."""
    _change(
        _still_claimed(row).filter(pk=row.pk),
        row,
        next_attempt_at=timezone.now() + timedelta(seconds=seconds),
        attempts=row.attempts + 1,
        last_error=reason,
    )


def release(claimed: Collection[OutboxMessage]) -> None:
    """Gives back rows of one claim that were not tried."""
    for row in claimed:
        _still_claimed(row).filter(pk__in=[other.pk for other in claimed]).update(next_attempt_at=None)
        return


def _still_claimed(row: OutboxMessage) -> QuerySet[OutboxMessage]:
    # A claim that was over may have been followed by another's, whose end is another.
    return rows().filter(state=PENDING, next_attempt_at=row.next_attempt_at)


def _change(wanted: QuerySet[OutboxMessage], row: OutboxMessage, **changes: Any) -> None:
    wanted.update(**changes)
    for name, value in changes.items():
        setattr(row, name, value)
