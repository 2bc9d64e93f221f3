"""The pages for dead letters: the list, one dead letter, and actions."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, Dict, List, Mapping
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from ..client import MessagingClient
from ..errors import NotFound
from .forms import LETTER, DeadLetterAction, DeadLetterFilter
from .pages import ServicePages

PAGE = 50


class DeadLetterPages(ServicePages):
    """Messages that the service has stopped delivering."""

    def dead_letters(self, request: HttpRequest) -> HttpResponse:
        form = DeadLetterFilter(request.GET)
        form.is_valid()
        chosen = {name: value for name, value in form.cleaned_data.items() if value}
        with closing(self.connect()) as client:
            try:
                page = client.dead_letters(limit=PAGE, **query(client, chosen))
            except NotFound:
                return self._gone(request)
        first = {name: value for name, value in chosen.items() if name != "after"}
        return self.page(
            request,
            "dead_letters",
            "Dead letters",
            form=form,
            letters=page.dead_letters,
            total=page.total,
            like=chosen.get("like", ""),
            reason=page.dead_letters[0].reason if "like" in chosen and page.dead_letters else chosen.get("reason", ""),
            first_page=self._list_url(first) if "after" in chosen else "",
            next_page=self._list_url({**first, "after": page.next}) if page.next else "",
        )

    def _list_url(self, query: Dict[str, Any]) -> str:
        return self.url("dead_letters") + ("?" + urlencode(query) if query else "")

    def _gone(self, request: HttpRequest) -> HttpResponse:
        self.message_user(request, "The dead letter no longer exists: it was redriven or dropped.", messages.WARNING)
        return HttpResponseRedirect(self.url("dead_letters"))

    def dead_letter(self, request: HttpRequest, letter: str) -> HttpResponse:
        if not LETTER.fullmatch(letter):
            raise Http404
        with closing(self.connect()) as client:
            try:
                found = client.dead_letter(letter)
            except NotFound:
                return self._gone(request)
        return self.page(
            request,
            "dead_letter",
            "Dead letter",
            letter=found,
            message=json.dumps(found.message.raw, indent=2, ensure_ascii=False),
        )

    @method_decorator(require_POST)
    def act_on_dead_letters(self, request: HttpRequest) -> HttpResponse:
        form = DeadLetterAction(request.POST)
        if not form.is_valid():
            self.message_user(request, " ".join(form.non_field_errors()) or "Unknown action.", messages.ERROR)
            return HttpResponseRedirect(self.url("dead_letters"))
        if not form.cleaned_data["confirmed"] and form.cleaned_data["action"] in QUESTIONS:
            question, button = QUESTIONS[form.cleaned_data["action"]]
            return self.confirm(request, question.format(count=len(form.ids)), button)
        with closing(self.connect()) as client:
            try:
                return self._act(request, client, form)
            except NotFound:
                return self._gone(request)

    def _act(self, request: HttpRequest, client: MessagingClient, form: DeadLetterAction) -> HttpResponse:
        action = form.cleaned_data["action"]
        if action == form.DROP:
            dropped = drop(client, form.ids)
            self.note(request, f"Dropped {dropped} dead letters", ", ".join(form.ids))
            return HttpResponseRedirect(self.url("dead_letters"))
        if action == form.REDRIVE:
            job, which, details = client.redrive(ids=form.ids), f"{len(form.ids)} dead letters", ", ".join(form.ids)
        elif action == form.BY_REASON:
            reason = query(client, form.cleaned_data)["reason"]
            job, which, details = client.redrive(reason=reason), "dead letters with one reason", reason
        else:
            job, which, details = client.redrive(all=True), "all dead letters", ""
        self.note(request, f"Redriving {which} by job {job.id}", details)
        return HttpResponseRedirect(self.url("jobs"))


def query(client: MessagingClient, chosen: Mapping[str, Any]) -> Dict[str, Any]:
    """Converts the filter to the service's parameters. `like` names a dead letter with the reason. Raises NotFound."""
    asked = {name: chosen[name] for name in ("after", "kind", "reason") if chosen.get(name)}
    if chosen.get("like"):
        asked["reason"] = client.dead_letter(chosen["like"]).reason
    return asked


def drop(client: MessagingClient, ids: List[str]) -> int:
    """Drops dead letters. Returns how many of them still existed."""
    dropped = 0
    for letter in ids:
        try:
            client.drop_dead_letter(letter)
        except NotFound:
            continue
        dropped += 1
    return dropped


QUESTIONS = {
    DeadLetterAction.DROP: (
        "{count} dead letters will be dropped. The service deletes their messages permanently, and Django never receives them.",
        "Drop them",
    ),
    DeadLetterAction.ALL: (
        "All dead letters will be sent again: the refused ones to Django, the undeliverable ones to their queues.",
        "Redrive all",
    ),
}
