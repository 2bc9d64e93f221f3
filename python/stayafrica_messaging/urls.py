"""The endpoint that the service calls. A project includes it with
``path("api/messaging/", include("stayafrica_messaging.urls"))``.
"""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "stayafrica_messaging"

urlpatterns = [
    path("erlang/persist/", views.persist, name="persist"),
    path("erlang/health/", views.health, name="health"),
]
