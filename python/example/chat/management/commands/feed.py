"""`manage.py feed`: creates accounts and a first conversation."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction

import stayafrica_messaging as messaging
from chat.views import CONVERSATION

TALK = (
    ("alice", "Are you in Harare already?"),
    ("bob", "Since this morning. The house is lovely."),
    ("alice", "Then see you at the market at ten!"),
)


class Command(BaseCommand):
    """Creates Alice, Bob and an administrator, and sends the first messages."""

    help = "Creates the accounts of the example and sends the first messages."

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model().objects
        people = {name: users.get_or_create(username=name)[0] for name in ("alice", "bob")}
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", "admin@example.com", "admin")
        with transaction.atomic():
            for sender, text in TALK:
                receiver = "bob" if sender == "alice" else "alice"
                messaging.send(CONVERSATION, people[sender].pk, people[receiver].pk, text)
            messaging.broadcast(0, [p.pk for p in people.values()], "Welcome to the example.")
