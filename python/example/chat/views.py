"""A chat between two users. The address names the user, because this is an example. A real
chat uses the session.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

import stayafrica_messaging as messaging
from stayafrica_messaging.models import Message

CONVERSATION = "alice-bob"
OTHER = {"alice": "bob", "bob": "alice"}

# How long a page waits for messages, and how long it may take to show them before another
# page of the same user gets them, in seconds.
WAIT, LEASE = 10, 30

client = messaging.MessagingClient(timeout=WAIT + 5)


def person(name: str) -> Any:
    """Returns the account of a user."""
    if name not in OTHER:
        raise Http404("there are only Alice and Bob")
    return get_user_model().objects.get(username=name)


def shown(id: Any, sender: Any, text: str, created_at: Any) -> dict[str, Any]:
    """Returns the fields of a message that the page shows."""
    return {"id": str(id), "sender": str(sender), "text": text, "at": str(created_at)}


@require_GET
@ensure_csrf_cookie
def page(request: HttpRequest, name: str) -> HttpResponse:
    """Shows the messages that Django has received. Messages in the user's queue follow by
    `receive`. The page recognizes repeated messages by their ids.
    """
    me, other = person(name), person(OTHER[name])
    rows = Message.objects.filter(conversation_id=CONVERSATION).order_by("-sequence")[:100]
    history = [shown(m.uuid, m.sender_id, m.text, m.created_at.isoformat()) for m in reversed(rows)]
    return render(request, "chat/page.html", {"name": name, "other": other, "me": me, "history": history})


@require_POST
def send(request: HttpRequest, name: str) -> JsonResponse:
    """Sends a message. The transaction writes it to the outbox. It is pushed to the service
    after the commit, or later if the service is unreachable.
    """
    me, other = person(name), person(OTHER[name])
    with transaction.atomic():
        messaging.send(CONVERSATION, me.pk, other.pk, json.loads(request.body)["text"])
    return JsonResponse({"status": "success"})


@require_GET
def receive(request: HttpRequest, name: str) -> JsonResponse:
    """Waits for messages and leases them. If the page closes before it shows them, they are
    delivered again.
    """
    me = person(name)
    try:
        messages = client.lease(me.pk, LEASE, 50, wait=WAIT)
    except messaging.MessagingError as error:
        return JsonResponse({"messages": [], "away": str(error)})
    return JsonResponse({
        "messages": [{**shown(m.id, m.sender_id, m.text, m.created_at), "receipt": m.receipt} for m in messages],
    })


@require_POST
def ack(request: HttpRequest, name: str) -> JsonResponse:
    """Acknowledges messages that were shown."""
    receipts = json.loads(request.body)["receipts"]
    try:
        return JsonResponse({"results": client.ack(person(name).pk, receipts)})
    except messaging.MessagingError as error:
        return JsonResponse({"results": {}, "away": str(error)})
