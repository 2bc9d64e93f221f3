"""The messaging service as a model, so that Django's admin has a place and permissions for it.

There is no table: what the admin shows under it is asked of the service itself.
"""

from __future__ import annotations

from django.db import models


class NoRows(models.Manager):
    """Finds nothing and asks no database, so that `dumpdata` and the like pass over the model."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().none()


class Service(models.Model):
    """The messaging service: `view_service` opens its pages in the admin, `change_service` lets a user act there."""

    id = models.BigAutoField(primary_key=True)

    objects = NoRows()

    class Meta:
        app_label = "stayafrica_messaging"
        managed = False
        default_permissions = ("view", "change")
        base_manager_name = "objects"
        verbose_name = "messaging service"
        verbose_name_plural = "messaging service"

    def __str__(self) -> str:
        return "Messaging service"
