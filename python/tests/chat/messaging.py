"""The adapters of the test project."""

from __future__ import annotations

from stayafrica_messaging.adapters import BaseAdapter, Refused

from .models import ChatMessage, Note, Room


class ChatAdapter(BaseAdapter):
    """A minimal adapter."""

    model = ChatMessage

    def build(self, message):
        return ChatMessage(
            uuid=message.id,
            room_id=message.conversation_id,
            sender_id=message.sender_id,
            receiver_id=message.receiver_id,
            body=message.text,
            stars=message.metadata.get("stars", 0),
            sent_at=message.created_at,
        )


class RoomAdapter(ChatAdapter):
    """Stores the time of the last message in each room."""

    def after_insert(self, pairs):
        rooms = {row.room_id: Room(pk=row.room_id, last_message_at=row.sent_at) for _, row in pairs if row.room_id}
        Room.objects.bulk_update(rooms.values(), ["last_message_at"])


class NoteAdapter(BaseAdapter):
    model = Note
    unique_field = "id"

    def build(self, message):
        if message.message_type != "note":
            raise Refused("only notes are kept here")
        return Note(id=str(message.id), body=message.text)


class CarelessAdapter(ChatAdapter):
    """An invalid adapter, whose unique field is not unique."""

    unique_field = "body"
