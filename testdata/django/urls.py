from django.urls import path

from chat import views

urlpatterns = [
    path("api/messaging/erlang/persist/", views.persist),
    path("rows/", views.rows),
]
