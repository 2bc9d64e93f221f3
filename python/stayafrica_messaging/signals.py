"""Signals of the receiving endpoint.

Receivers run in the service's request, after the database has committed: what
takes long belongs in a task queue. Django logs the exception of a receiver, which
changes nothing: the messages are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Optional, Sequence

from django.dispatch import Signal

if TYPE_CHECKING:
    from django.db import models

    from .receive import ReceivedMessage, Rejection

#: A message was stored that was not there before. Sent after the commit, once for
#: each message, in the service's order. ``sender`` is the adapter's class,
#: ``message`` the :class:`~stayafrica_messaging.receive.ReceivedMessage`,
#: ``instance`` the row (its primary key is set where the database gives it back
#: from a bulk insert).
message_persisted = Signal()

#: Messages of a batch were not stored. Sent once a batch: ``sender`` is the
#: adapter's class, ``rejections`` a list of
#: :class:`~stayafrica_messaging.receive.Rejection`. Those that are not permanent
#: will come again.
messages_rejected = Signal()


def announce_persisted(sender: type, persisted: Iterable[tuple[ReceivedMessage, Optional[models.Model]]]) -> None:
    """Sends :data:`message_persisted` for each; never raises."""
    if not message_persisted.has_listeners(sender):
        return
    for message, instance in persisted:
        message_persisted.send_robust(sender, message=message, instance=instance)


def announce_rejected(sender: type, rejections: Sequence[Rejection]) -> None:
    """Sends :data:`messages_rejected`; never raises."""
    messages_rejected.send_robust(sender, rejections=rejections)
