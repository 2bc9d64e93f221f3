"""The URLs of the chat, for each user."""

from django.urls import path

from . import views

urlpatterns = [
    path("<slug:name>/", views.page, name="chat"),
    path("<slug:name>/send/", views.send, name="chat-send"),
    path("<slug:name>/receive/", views.receive, name="chat-receive"),
    path("<slug:name>/ack/", views.ack, name="chat-ack"),
]
