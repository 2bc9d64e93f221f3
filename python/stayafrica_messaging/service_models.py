"""The messaging service as a model. It gives the service a place and permissions in Django's admin.

The model has no table. The admin pages request their data from the service.
"""

from __future__ import annotations

from django.db import models


class NoRows(models.Manager):
    """An empty result without a query, so that `dumpdata` and similar commands skip the model."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().none()


class Service(models.Model):
    """The messaging service. `view_service` allows a user to see its admin pages, `change_service` to act on them."""

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
