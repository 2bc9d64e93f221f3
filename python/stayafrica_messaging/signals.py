"""Signals of the receiving endpoint.

Receivers run inside the service's request, after the commit. Long work belongs in a
task queue. Django logs exceptions of receivers; the messages stay stored.
"""

from __future__ import annotations

from typing import Iterable, Optional, Sequence

from django.db import models
from django.dispatch import Signal

from .received import ReceivedMessage, Rejection

__all__ = ["message_persisted", "messages_rejected"]

#: A new message was stored. Sent after the commit, once per message, in the service's
#: order. ``sender`` is the adapter class, ``message`` the
#: :class:`~stayafrica_messaging.received.ReceivedMessage`, ``instance`` the row. The
#: primary key of the row is set if the database returns it from a bulk insert.
message_persisted = Signal()

#: Messages of a batch were refused. Sent once per batch. ``sender`` is the adapter class,
#: ``rejections`` a list of :class:`~stayafrica_messaging.received.Rejection`. The service
#: sends a message again if its rejection is not permanent.
messages_rejected = Signal()


def announce_persisted(sender: type, persisted: Iterable[tuple[ReceivedMessage, Optional[models.Model]]]) -> None:
    """Sends :data:`message_persisted` for each message. Never raises."""
    if not message_persisted.has_listeners(sender):
        return
    for message, instance in persisted:
        message_persisted.send_robust(sender, message=message, instance=instance)


def announce_rejected(sender: type, rejections: Sequence[Rejection]) -> None:
    """Sends :data:`messages_rejected`. Never raises."""
    messages_rejected.send_robust(sender, rejections=rejections)
