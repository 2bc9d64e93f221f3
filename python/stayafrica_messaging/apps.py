"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig


class MessagingConfig(AppConfig):
    """Receives messages of the service, and keeps those that are on their way to it."""

    name = "stayafrica_messaging"
    label = "stayafrica_messaging"
    verbose_name = "Messaging"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  # they register themselves
