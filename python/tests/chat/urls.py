from __future__ import annotations

from django.urls import include, path

from . import views

urlpatterns = [
    path("api/messaging/", include("stayafrica_messaging.urls")),
    path("one-by-one/", views.one_by_one),
]
