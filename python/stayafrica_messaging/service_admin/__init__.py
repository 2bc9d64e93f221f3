"""The messaging service's pages in Django's admin.

`pages` has the shared parts. `dead_letters`, `jobs` and `overview` have one section each. No page has a table: each
requests its data from the service, and shows the error if the service does not respond.
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
    """Health, lag, dead letters and jobs. `view_service` allows a user to see the pages, `change_service` to act on them.
    """

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
            # The link target of recent actions.
            path("<int:object_id>/change/", view(self.from_log), name=self.url_name("change")),
        ]

    def from_log(self, request: HttpRequest, object_id: int) -> HttpResponse:
        return HttpResponseRedirect(self.url("changelist"))
