"""Django admin pages for received messages, the outbox, and the service itself."""

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
from .service_status import PAGE_TIMEOUT

PREVIEW = 80
MAX_JSON = 100_000

admin.site.register(Service, ServiceAdmin)


class CappedPaginator(Paginator):
    """Counts at most `cap` rows. Counting a table of millions would slow down every page."""

    cap = 10_000

    @cached_property
    def _seen(self) -> int:
        return self.object_list.order_by()[: self.cap + 1].count()

    @property
    def count(self) -> int:
        return min(self._seen, self.cap)

    @property
    def capped(self) -> bool:
        """Whether there are more rows than `count`."""
        return self._seen > self.cap


class Rows(admin.ModelAdmin):
    """Rows written by programs: read-only, but users with permission may delete them."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(Rows):
    """Conversations of received messages."""

    list_display = ("key", "created_at", "its_messages")
    search_fields = ("^key",)
    search_help_text = "the beginning of its id"
    list_filter = ("created_at",)
    ordering = ("key",)  # the indexed column

    @admin.display(description="messages")
    def its_messages(self, conversation: Conversation) -> str:
        url = reverse("admin:stayafrica_messaging_message_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?{}">show</a>', url, urlencode({"conversation__exact": conversation.pk}))


@admin.register(Message)
class MessageAdmin(Rows):
    """Messages received from the service."""

    list_display = ("sequence", "preview", "conversation_id", "sender_id", "receiver_id", "created_at", "uuid")
    list_filter = ("priority", "created_at")
    search_fields = ("text",)
    search_help_text = "the id of a message, conversation, sender or receiver, a sequence, or a part of the text"
    ordering = ("-sequence", "-id")
    exclude = ("metadata", "extra")
    readonly_fields = ("metadata_shown", "extra_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return super().get_queryset(request).defer("metadata", "extra")  # the list does not show them

    def get_search_results(self, request: HttpRequest, queryset: QuerySet, search_term: str) -> Tuple[QuerySet, bool]:
        """Searches by id first. The ids are indexed or compared as a whole. The text is searched only if no id matches.
        """
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
    """Matches messages that have the term as one of their ids."""
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
    """Messages to send to the service."""

    list_display = ("key", "kind", "lane", "state", "attempts", "next_attempt_at", "short_error", "created_at", "sent_at")
    list_filter = ("state", "kind", "created_at")
    search_fields = ("=lane", "=message_id", "=key")
    search_help_text = "a key, a lane, or the message id from the service"
    ordering = ("-id",)
    exclude = ("payload",)
    readonly_fields = ("key", "payload_shown")
    actions = ("send_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        rows = super().get_queryset(request).using(conf.get("OUTBOX_DATABASE"))
        return rows.defer("payload")  # the payload of a broadcast may have megabytes

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Whether the user may send rows again. The permission is `change_outboxmessage`, which allows nothing else here.
        """
        return request.user.has_perm("stayafrica_messaging.change_outboxmessage")

    @admin.action(description="Send again now", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet) -> None:
        """Makes the selected failed and pending rows due, then pushes due rows for a few seconds.

        The push takes all due rows, not only the selected ones. Each row keeps its idempotency key, so
        the service stores it once. The relay pushes the rest.
        """
        pending = queryset.filter(state=OutboxMessage.State.PENDING).update(next_attempt_at=None)
        due = pending + outbox.retry(queryset)
        ends = time.monotonic() + PAGE_TIMEOUT
        result = outbox.relay_once(stop=lambda: time.monotonic() >= ends)
        what = f"{due} rows made due. Of all due rows, {result.sent} were sent and {result.refused} refused."
        if result.trouble:
            what += f" manage.py messaging_relay sends the rest: {result.trouble.reason}"
        good = result.trouble is None and not result.refused
        self.message_user(request, what, messages.SUCCESS if good else messages.WARNING)

    @admin.display(description="last error")
    def short_error(self, row: OutboxMessage) -> str:
        return Truncator(row.last_error).chars(PREVIEW)

    @admin.display(description="payload")
    def payload_shown(self, row: OutboxMessage) -> str:
        return as_json(row.payload)


def as_json(value: Any) -> str:
    """Formats a JSON value, and truncates a long one."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html("<pre>{}</pre>", Truncator(text).chars(MAX_JSON))
