"""The tables: received messages, and the outbox."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from .service_models import Service  # noqa: F401  # registers the model without the admin, too


class Conversation(models.Model):
    """A conversation, identified by the id that senders use.

    The id is the primary key. So a message can reference its conversation without a
    query, and ``message.conversation_id`` is the sender's value.
    """

    key = models.CharField("id", max_length=64, primary_key=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["created_at", "key"]

    def __str__(self) -> str:
        return self.key


class Message(models.Model):
    """A message received from the service. Each id is stored once.

    Senders and receivers are not foreign keys. Projects key users by integers or UUIDs,
    and may delete a user before a message arrives.
    """

    class Priority(models.TextChoices):
        HIGH = "high"
        NORMAL = "normal"
        LOW = "low"

    uuid = models.UUIDField("id", unique=True)
    #: The position in the service's log. All copies of a broadcast have the same one.
    sequence = models.BigIntegerField(db_index=True)
    #: None for a broadcast without a conversation. It is the first column of the index below.
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, null=True, blank=True, db_index=False, related_name="messages"
    )
    sender_id = models.CharField("sender", max_length=64)
    receiver_id = models.CharField("receiver", max_length=64)
    text = models.TextField()
    message_type = models.CharField("type", max_length=64, default="text")
    priority = models.CharField(max_length=8, choices=Priority.choices, default=Priority.NORMAL)
    metadata = models.JSONField(default=dict, blank=True)
    #: Fields unknown to the service, as the sender wrote them.
    extra = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    deliver_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    stored_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["sequence", "id"]
        indexes = [models.Index(fields=["conversation", "sequence"], name="messaging_in_order")]

    def __str__(self) -> str:
        return str(self.uuid)


class OutboxMessage(models.Model):
    """A message to send to the service, written in the sender's transaction."""

    class Kind(models.TextChoices):
        SEND = "send"
        BROADCAST = "broadcast"

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    #: The idempotency key. The service stores the message once, however often the row is pushed.
    key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.SEND)
    #: The arguments of the client's method.
    payload = models.JSONField()
    #: The ordering key. Rows of one lane are pushed one at a time, in the order of their ids.
    lane = models.CharField(max_length=130, db_index=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    #: From the service's response: the message's id and sequence, and the receivers of a broadcast.
    message_id = models.CharField(max_length=64, blank=True, default="")
    sequence = models.BigIntegerField(null=True, blank=True)
    recipients = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["state", "next_attempt_at"], name="messaging_outbox_due")]
        verbose_name = "outbox message"

    def __str__(self) -> str:
        return str(self.key)
