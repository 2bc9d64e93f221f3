"""The shared parts of the service's pages: permissions, layout, and errors of the service."""

from __future__ import annotations

from functools import update_wrapper
from typing import Any, Callable

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from ..client import MessagingClient
from ..errors import MessagingError
from ..service_models import Service
from ..service_status import explain, quick_client, shown_url

View = Callable[..., HttpResponse]


class ServicePages(admin.ModelAdmin):
    """An admin page without rows."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def viewing(self, view: View) -> View:
        """A page for users with the view permission."""
        return self._guard(view, self.has_view_permission)

    def acting(self, view: View) -> View:
        """A page for users with the change permission."""
        return self._guard(view, self.has_change_permission)

    def _guard(self, view: View, allowed: Callable[[HttpRequest], bool]) -> View:
        def guarded(request: HttpRequest, **path: Any) -> HttpResponse:
            if not allowed(request):
                raise PermissionDenied
            try:
                return view(request, **path)
            except MessagingError as error:
                return self.out_of_reach(request, error)

        return self.admin_site.admin_view(update_wrapper(guarded, view))

    def out_of_reach(self, request: HttpRequest, error: MessagingError) -> HttpResponse:
        """The page for a request that the service could not serve.

        Its status is 200, because a proxy may replace a page with another status by its own.
        """
        if request.method == "POST":
            self.message_user(request, explain(error), messages.ERROR)
            return HttpResponseRedirect(self.url("changelist"))
        return self.page(request, "unavailable", "Messaging service", problem=explain(error))

    def page(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        """Renders a template as a page of the admin."""
        request.current_app = self.admin_site.name
        shared = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": title,
            "service_url": shown_url(),
            "may_change": self.has_change_permission(request),
        }
        return TemplateResponse(request, f"admin/stayafrica_messaging/service/{template}.html", {**shared, **context})

    def confirm(self, request: HttpRequest, question: str, button: str) -> TemplateResponse:
        """Asks for confirmation, then posts the same form with `confirmed`."""
        again = [
            (name, value)
            for name, values in request.POST.lists()
            for value in values
            if name not in ("csrfmiddlewaretoken", "confirmed")
        ]
        return self.page(request, "confirm", "Are you sure?", question=question, button=button, fields=again)

    def connect(self) -> MessagingClient:
        """Returns a client for one request."""
        return quick_client()

    def note(self, request: HttpRequest, what: str, details: str = "") -> None:
        """Shows the user what was done, and writes it, with the details, to the admin's log."""
        self.log_change(request, Service(pk=1), f"{what}: {details}" if details else what)
        self.message_user(request, f"{what}.", messages.SUCCESS)

    def url_name(self, page: str) -> str:
        return f"{self.model._meta.app_label}_{self.model._meta.model_name}_{page}"

    def url(self, page: str, *args: Any) -> str:
        return reverse(f"admin:{self.url_name(page)}", args=args, current_app=self.admin_site.name)
