"""What is stored: messages that the service brought, and those on their way to it."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from .service_models import Service  # noqa: F401  # registered where there is no admin, too


class Conversation(models.Model):
    """What messages belong to, known by the id that senders give it.

    That id is the primary key: messages refer to a conversation without looking
    it up, and ``message.conversation_id`` is what the sender wrote.
    """

    key = models.CharField("id", max_length=64, primary_key=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["created_at", "key"]

    def __str__(self) -> str:
        return self.key


class Message(models.Model):
    """A message as the service brought it, once for each of its ids.

    Senders and receivers are no foreign keys: users are keyed by integers or by
    UUIDs, and may be gone by the time that their messages arrive.
    """

    class Priority(models.TextChoices):
        HIGH = "high"
        NORMAL = "normal"
        LOW = "low"

    uuid = models.UUIDField("id", unique=True)
    #: The place in the service's log; the copies of a broadcast share theirs.
    sequence = models.BigIntegerField(db_index=True)
    #: None in a broadcast that names none. The index below begins with it.
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, null=True, blank=True, db_index=False, related_name="messages"
    )
    sender_id = models.CharField("sender", max_length=64)
    receiver_id = models.CharField("receiver", max_length=64)
    text = models.TextField()
    message_type = models.CharField("type", max_length=64, default="text")
    priority = models.CharField(max_length=8, choices=Priority.choices, default=Priority.NORMAL)
    metadata = models.JSONField(default=dict, blank=True)
    #: Fields that the service does not know, as the sender wrote them.
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
    """A message that was sent in a transaction and that the service is to get."""

    class Kind(models.TextChoices):
        SEND = "send"
        BROADCAST = "broadcast"

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    #: The idempotency key: however often the row is pushed, the service has it once.
    key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.SEND)
    #: The arguments of the client's call.
    payload = models.JSONField()
    #: Rows of one lane are pushed one after another, in the order of their ids.
    lane = models.CharField(max_length=130, db_index=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True, default="")
    #: What the service answered: the message's id and sequence, a broadcast's receivers.
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
