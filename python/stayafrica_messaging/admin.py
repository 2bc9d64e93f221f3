"""Django's admin: what was received, what is on its way out, and the service itself."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Tuple
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import Truncator

from . import conf, outbox
from .models import Conversation, Message, OutboxMessage
from .service_admin import ServiceAdmin
from .service_models import Service
from .service_status import PATIENCE

PREVIEW = 80
LONGEST_JSON = 100_000

admin.site.register(Service, ServiceAdmin)


class CappedPaginator(Paginator):
    """Counts no further than `cap`: otherwise a table of millions is counted as a whole for every page."""

    cap = 10_000

    @cached_property
    def _seen(self) -> int:
        return self.object_list.order_by()[: self.cap + 1].count()

    @property
    def count(self) -> int:
        return min(self._seen, self.cap)

    @property
    def capped(self) -> bool:
        """Whether there are more than it counts."""
        return self._seen > self.cap


class Rows(admin.ModelAdmin):
    """Rows that programs write: to look at, and to delete for those who may."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(Rows):
    """Conversations that messages were received in."""

    list_display = ("key", "created_at", "its_messages")
    search_fields = ("^key",)
    search_help_text = "the beginning of its id"
    list_filter = ("created_at",)
    ordering = ("key",)  # which has an index

    @admin.display(description="messages")
    def its_messages(self, conversation: Conversation) -> str:
        url = reverse("admin:stayafrica_messaging_message_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?{}">show</a>', url, urlencode({"conversation__exact": conversation.pk}))


@admin.register(Message)
class MessageAdmin(Rows):
    """Messages that the service brought."""

    list_display = ("sequence", "preview", "conversation_id", "sender_id", "receiver_id", "created_at", "uuid")
    list_filter = ("priority", "created_at")
    search_fields = ("text",)
    search_help_text = "an id of a message, conversation, sender or receiver, a sequence, else a part of the text"
    ordering = ("-sequence", "-id")
    exclude = ("metadata", "extra")
    readonly_fields = ("metadata_shown", "extra_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("metadata", "extra")  # the list does not show them

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> Tuple[QuerySet, bool]:
        """By the ids first, because these have indexes or are compared whole; the text is read only where no id fits."""
        term = search_term.strip()
        if term:
            named = queryset.filter(ids_like(term))
            if named.exists():
                return named, False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="text")
    def preview(self, message: Message) -> str:
        return Truncator(message.text).chars(PREVIEW)

    @admin.display(description="metadata")
    def metadata_shown(self, message: Message) -> str:
        return as_json(message.metadata)

    @admin.display(description="other fields")
    def extra_shown(self, message: Message) -> str:
        return as_json(message.extra)


def ids_like(term: str) -> Q:
    """Messages that a text names by one of their ids."""
    found = Q(conversation=term) | Q(sender_id=term) | Q(receiver_id=term)
    if term.isdecimal() and len(term) < 20 and int(term) < 2**63:
        found |= Q(sequence=int(term))
    try:
        found |= Q(uuid=uuid.UUID(term))
    except ValueError:
        pass
    return found


@admin.register(OutboxMessage)
class OutboxMessageAdmin(Rows):
    """Messages on their way to the service."""

    list_display = ("key", "kind", "lane", "state", "attempts", "next_attempt_at", "short_error", "created_at", "sent_at")
    list_filter = ("state", "kind", "created_at")
    search_fields = ("=lane", "=message_id", "=key")
    search_help_text = "a key, a lane, or the id that the service gave"
    ordering = ("-id",)
    exclude = ("payload",)
    readonly_fields = ("key", "payload_shown")
    actions = ("send_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).using(conf.get("OUTBOX_DATABASE"))
        return rows.defer("payload")  # a broadcast's may be megabytes

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Whether a user may send rows again: those with `change_outboxmessage`, which changes nothing else here."""
        return request.user.has_perm("stayafrica_messaging.change_outboxmessage")

    @admin.action(description="Send again now", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Makes failed and pending rows due, and pushes what is due, theirs and others'. Each keeps its key: what the
        service has already it takes once. What does not go out within a moment is the relay's."""
        pending = queryset.filter(state=OutboxMessage.State.PENDING).update(next_attempt_at=None)
        due = pending + outbox.retry(queryset)
        ends = time.monotonic() + PATIENCE
        sweep = outbox.relay_once(stop=lambda: time.monotonic() >= ends)
        what = f"{due} made due. Of all that were due {sweep.sent} were sent, {sweep.refused} refused."
        if sweep.trouble:
            what += f" The rest is left to manage.py messaging_relay: {sweep.trouble.reason}"
        good = sweep.trouble is None and not sweep.refused
        self.message_user(request, what, messages.SUCCESS if good else messages.WARNING)

    @admin.display(description="last error")
    def short_error(self, row: OutboxMessage) -> str:
        return Truncator(row.last_error).chars(PREVIEW)

    @admin.display(description="payload")
    def payload_shown(self, row: OutboxMessage) -> str:
        return as_json(row.payload)


def as_json(value: Any) -> str:
    """A JSON value to read, the beginning of a long one."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html("<pre>{}</pre>", Truncator(text).chars(LONGEST_JSON))
