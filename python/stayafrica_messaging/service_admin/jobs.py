"""The pages for redrives and replays: progress, cancelling, and starting a replay."""

from __future__ import annotations

from contextlib import closing

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_POST

from ..errors import InvalidMessage, NotFound
from .forms import ReplayForm
from .pages import ServicePages


class JobPages(ServicePages):
    """Jobs that run in the service."""

    def jobs(self, request: HttpRequest) -> HttpResponse:
        with closing(self.connect()) as client:
            jobs = client.jobs()
        return self.page(request, "jobs", "Jobs", jobs=jobs, running=any(job.state == "running" for job in jobs))

    @method_decorator(require_POST)
    def cancel_job(self, request: HttpRequest, job: str) -> HttpResponse:
        with closing(self.connect()) as client:
            try:
                found = client.cancel_job(job)
            except NotFound:
                self.message_user(request, "The job no longer exists.", messages.WARNING)
            else:
                was = "was removed" if "forget" in request.POST else f"is {found.state}"
                self.note(request, f"Job {found.id} ({found.kind}) {was}")
        return HttpResponseRedirect(self.url("jobs"))

    def replay(self, request: HttpRequest) -> HttpResponse:
        form = ReplayForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._replay_form(request, form)
        if not form.cleaned_data["confirmed"]:
            return self.confirm(request, f"Messages will be sent to Django again: {describe(form)}.", "Replay")
        with closing(self.connect()) as client:
            try:
                job = client.replay(**form.request())
            except InvalidMessage as error:
                form.add_error(None, str(error))
                return self._replay_form(request, form)
        self.note(request, f"Replaying {describe(form)} by job {job.id}")
        return HttpResponseRedirect(self.url("jobs"))

    def _replay_form(self, request: HttpRequest, form: ReplayForm) -> HttpResponse:
        return self.page(request, "replay", "Replay", form=form)


def describe(form: ReplayForm) -> str:
    """Describes the chosen part of the log."""
    return ", ".join(f"{form[name].label.lower()} {value}" for name, value in form.request().items())
