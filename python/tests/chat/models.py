"""A project's own models, with foreign keys and database constraints."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Room(models.Model):
    last_message_at = models.DateTimeField(null=True)


class ChatMessage(models.Model):
    uuid = models.UUIDField(unique=True)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, null=True)
    sender = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    receiver = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    body = models.TextField()
    stars = models.PositiveIntegerField(default=0)  # below zero: IntegrityError; 70 bits: DataError
    sent_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]


class Note(models.Model):
    """A model whose primary key is the message's id as text. Its body is short."""

    id = models.CharField(max_length=36, primary_key=True)
    body = models.CharField(max_length=20)
