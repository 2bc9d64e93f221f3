"""The URLs of the chat, the admin, and the endpoints for the service."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(url="/chat/alice/")),
    path("chat/", include("chat.urls")),
    path("admin/", admin.site.urls),
    path("api/messaging/", include("stayafrica_messaging.urls")),
]
