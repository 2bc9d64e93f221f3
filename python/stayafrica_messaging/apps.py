"""The Django application."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.utils.module_loading import module_has_submodule


class MessagingConfig(AppConfig):
    """Receives messages of the service, and keeps those that are on their way to it."""

    name = "stayafrica_messaging"
    label = "stayafrica_messaging"
    verbose_name = "Messaging"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        if module_has_submodule(self.module, "checks"):
            import_module(f"{self.name}.checks")
