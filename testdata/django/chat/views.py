"""The endpoint, in the manner of the original: it looks rows up one by one and
answers 200 whatever happened, with what went wrong under `errors`."""

from django.conf import settings
from rest_framework.decorators import api_view
from rest_framework.response import Response

from .models import Conversation, Member, Message


@api_view(["POST"])
def persist(request):
    if (settings.BACKEND_DIR / "outage").exists():
        return Response({"detail": "out of order"}, status=503)
    if request.headers.get("X-Erlang-Service") != "messaging":
        return Response({"error": "Forbidden"}, status=403)
    persisted, errors = 0, []
    for data in request.data["messages"]:
        try:
            conversation = None
            if "conversation_id" in data:
                conversation = Conversation.objects.get(id=data["conversation_id"])
            Message.objects.get_or_create(
                uuid=data["id"],
                defaults={
                    "sequence": data["sequence"],
                    "conversation": conversation,
                    "sender": Member.objects.get(id=data["sender_id"]),
                    "receiver_id": data["receiver_id"],
                    "text": data["text"],
                    "message_type": data["message_type"],
                    "metadata": data["metadata"],
                    "created_at": data["created_at"],
                },
            )
            persisted += 1
        except Exception as error:  # as the original does
            errors.append({"message": data, "error": str(error)})
    return Response({"persisted": persisted, "errors": errors})


@api_view(["GET"])
def rows(request):
    """All that was stored, in the order in which it was."""
    return Response(list(Message.objects.order_by("id").values("uuid", "sequence", "conversation_id", "receiver_id", "text")))
