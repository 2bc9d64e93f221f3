"""The pages of the messaging service inside Django's admin.

`pages` has what they share, `dead_letters`, `jobs` and `overview` one section each. Nothing here has a table: each page asks
the service, and shows what is wrong where that does not answer.
"""

from __future__ import annotations

from typing import List

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path

from .dead_letters import DeadLetterPages
from .jobs import JobPages
from .overview import OverviewPage

__all__ = ["ServiceAdmin"]


class ServiceAdmin(OverviewPage, DeadLetterPages, JobPages):
    """Health, lag, dead letters and jobs of the service, for those with `view_service`; actions for `change_service`."""

    def get_urls(self) -> List[URLPattern]:
        view, act = self.viewing, self.acting
        return [
            path("", view(self.overview), name=self.url_name("changelist")),
            path("dead-letters/", view(self.dead_letters), name=self.url_name("dead_letters")),
            path("dead-letters/act/", act(self.act_on_dead_letters), name=self.url_name("dead_letters_act")),
            path("dead-letters/<str:letter>/", view(self.dead_letter), name=self.url_name("dead_letter")),
            path("replay/", act(self.replay), name=self.url_name("replay")),
            path("jobs/", view(self.jobs), name=self.url_name("jobs")),
            path("jobs/<str:job>/cancel/", act(self.cancel_job), name=self.url_name("cancel_job")),
            # Where the log of recent actions links to.
            path("<int:object_id>/change/", view(self.from_log), name=self.url_name("change")),
        ]

    def from_log(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return HttpResponseRedirect(self.url("changelist"))
