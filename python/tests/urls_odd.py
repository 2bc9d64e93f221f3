"""The endpoint below paths with characters that have more than one spelling."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path(f"api/{name}/", include("stayafrica_messaging.urls")) for name in ("v=1", "a;b", "caf\u00e9", "a~b")
]
