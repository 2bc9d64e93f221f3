"""An endpoint like the original's: it looks rows up one by one."""

from __future__ import annotations

import json

from django.contrib.auth import get_user_model
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from .models import ChatMessage, Room


@csrf_exempt
def one_by_one(request: HttpRequest) -> JsonResponse:
    users = get_user_model().objects
    persisted, errors = 0, []
    for data in json.loads(request.body)["messages"]:
        try:
            ChatMessage.objects.get_or_create(
                uuid=data["id"],
                defaults={
                    "room": Room.objects.get(id=data["conversation_id"]),
                    "sender": users.get(id=data["sender_id"]),
                    "receiver": users.get(id=data["receiver_id"]),
                    "body": data["text"],
                    "sent_at": data["created_at"],
                },
            )
            persisted += 1
        except Exception as error:  # as the original does
            errors.append({"message": data, "error": str(error)})
    return JsonResponse({"persisted": persisted, "errors": errors})
