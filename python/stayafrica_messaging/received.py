"""The types that the receiving side shares.

:mod:`~stayafrica_messaging.receive`, :mod:`~stayafrica_messaging.adapters` and
:mod:`~stayafrica_messaging.signals` import this module. It imports none of them.
"""

from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

from django.db import models

__all__ = [
    "DUPLICATE",
    "Malformed",
    "Outcome",
    "ReceivedMessage",
    "Rejection",
    "Report",
    "refused",
    "stored",
]


class Malformed(Exception):
    """A request or an entry does not have the service's format. The text is the reason."""


@dataclass(frozen=True, eq=False)
class ReceivedMessage:
    """A validated message from the service.

    Ids are strings, whether the sender wrote integers or strings: to the service
    ``789`` and ``"789"`` are the same user. Times are in UTC with millisecond
    precision. In a project with ``USE_TZ = False`` they are naive, in its time zone.
    """

    id: uuid.UUID
    #: The position in the service's log. All copies of a broadcast have the same one.
    sequence: int
    #: None for a broadcast without a conversation.
    conversation_id: Optional[str]
    sender_id: str
    receiver_id: str
    text: str
    message_type: str
    priority: str
    #: Never None. Numbers with a fraction are Python floats.
    metadata: dict[str, Any]
    created_at: datetime.datetime
    deliver_at: Optional[datetime.datetime]
    expires_at: Optional[datetime.datetime]
    #: Fields unknown to the service, as the sender wrote them.
    extra: dict[str, Any]
    #: The whole JSON object as received.
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """The result for one message. See :func:`stored`, :func:`refused` and :data:`DUPLICATE`."""

    state: str
    #: The new row, if there is one.
    instance: Optional[models.Model] = None
    #: The reason for a refusal, as a sentence.
    error: str = ""
    #: True if every later attempt would be refused, too. The service then makes the
    #: message a dead letter without further attempts.
    permanent: bool = False


#: The message was stored before.
DUPLICATE = Outcome("duplicate")


def stored(instance: Optional[models.Model] = None) -> Outcome:
    """The message was stored by this call."""
    return Outcome("stored", instance)


def refused(error: str, permanent: bool) -> Outcome:
    """The message was not stored."""
    return Outcome("refused", error=error, permanent=permanent)


@dataclass(frozen=True)
class Rejection:
    """A message that was not stored."""

    #: The JSON value as received. It is an object if the service sent it.
    message: Any
    error: str
    permanent: bool

    def as_json(self) -> dict[str, Any]:
        """The entry of the response. The service needs only the message's id."""
        named = isinstance(self.message, dict) and isinstance(self.message.get("id"), str)
        message = {"id": self.message["id"]} if named else self.message
        return {"message": message, "error": self.error, "permanent": self.permanent}


@dataclass(frozen=True)
class Report:
    """The result for a batch. The three counts add up to the length of the batch."""

    persisted: int
    duplicates: int
    rejections: Sequence[Rejection]

    def as_json(self) -> dict[str, Any]:
        """The body of the response to the service."""
        return {
            "persisted": self.persisted,
            "duplicates": self.duplicates,
            "errors": [rejection.as_json() for rejection in self.rejections],
        }
