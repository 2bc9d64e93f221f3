"""The adapters of this project."""

from __future__ import annotations

from stayafrica_messaging.adapters import BaseAdapter, Refused

from .models import ChatMessage, Note, Room


class ChatAdapter(BaseAdapter):
    """As small as an adapter gets."""

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
    """Keeps in each room when something was last said."""

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
    """Nothing keeps it from storing a message twice."""

    unique_field = "body"
