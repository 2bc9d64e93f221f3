"""`manage.py messaging_check`: is everything between this project and the messaging service as it should be?"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, List

from django.core import checks
from django.core.management.base import BaseCommand, CommandError

from stayafrica_messaging import conf
from stayafrica_messaging.checks import TAG, readable, wrong_with_url
from stayafrica_messaging.live_checks import ERROR, NOTE, OK, WARNING, Finding, live_findings


class Command(BaseCommand):
    """Runs the system checks of the package, then asks the service and the endpoint."""

    help = (
        "Checks the settings, the service and the receiving endpoint, and prints a table. "
        "Ends with status 1 where something is wrong."
    )
    requires_system_checks: List[str] = []  # they are part of the table

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url",
            default="",
            help="this Django's address as the service calls it (its DJANGO_API_URL), where an empty batch is posted; "
            f'by default {conf.SETTING}["DJANGO_URL"]',
        )

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        problem = url and wrong_with_url(url)
        if problem:
            raise CommandError(f"--url {problem}.", returncode=2)
        findings = system_findings()
        if readable():
            findings += live_findings(url)
        for finding in findings:
            self.show(finding)
        wrong = sum(finding.level == ERROR for finding in findings)
        if wrong:
            raise CommandError("one thing is wrong" if wrong == 1 else f"{wrong} things are wrong")

    def show(self, finding: Finding) -> None:
        style = {OK: self.style.SUCCESS, NOTE: str, WARNING: self.style.WARNING, ERROR: self.style.ERROR}[finding.level]
        self.stdout.write(f"{finding.name:<14}{style(f'{finding.level:<9}')}{finding.text}")
        if finding.hint:
            self.stdout.write(f"{'':<23}{finding.hint}")


def system_findings() -> List[Finding]:
    """The system checks, as rows; one row that says so where they find nothing."""
    databases = [conf.get("OUTBOX_DATABASE")] if readable() else None
    found = checks.run_checks(tags=[TAG], include_deployment_checks=True, databases=databases)
    rows = [Finding(short(m), level(m), m.msg, m.hint or "") for m in found if not m.is_silenced()]
    return rows or [Finding("settings", OK, "as they should be")]


def short(message: checks.CheckMessage) -> str:
    return "check " + str(message.id).rpartition(".")[2]


def level(message: checks.CheckMessage) -> str:
    if message.level >= checks.ERROR:
        return ERROR
    return WARNING if message.level >= checks.WARNING else NOTE
