"""Permissions for the service's pages in the admin. No table is created."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("stayafrica_messaging", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="Service",
            fields=[("id", models.BigAutoField(primary_key=True, serialize=False))],
            options={
                "verbose_name": "messaging service",
                "verbose_name_plural": "messaging service",
                "managed": False,
                "default_permissions": ("view", "change"),
                "base_manager_name": "objects",
            },
        ),
    ]
