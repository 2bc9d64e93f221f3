"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class MessagingConfig(AppConfig):
    """The messages received from the service, and the outbox of messages to send."""

    name = "stayafrica_messaging"
    label = "stayafrica_messaging"
    verbose_name = "Messaging"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  # registers the checks; Django allows this import only here
