from django.db import models


class Member(models.Model):
    """Someone who writes and reads messages."""


class Conversation(models.Model):
    """What messages belong to."""


class Message(models.Model):
    """A message as the service delivered it, once for each of its ids."""

    uuid = models.UUIDField(unique=True)
    sequence = models.BigIntegerField()
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, null=True)
    sender = models.ForeignKey(Member, on_delete=models.CASCADE, related_name="+")
    receiver_id = models.CharField(max_length=64)
    text = models.TextField()
    message_type = models.CharField(max_length=20)
    metadata = models.JSONField()
    created_at = models.DateTimeField()
