"""`manage.py messaging_check`: checks the connection between this project and the messaging service."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, List

from django.core import checks
from django.core.management.base import BaseCommand, CommandError

from stayafrica_messaging import conf
from stayafrica_messaging.checks import TAG, readable, wrong_with_url
from stayafrica_messaging.live_checks import ERROR, NOTE, OK, WARNING, Finding, live_findings


class Command(BaseCommand):
    """Runs the system checks of the package, then checks the service and the endpoint."""

    help = (
        "Checks the settings, the service and the receiving endpoint, and prints a table. "
        "Exits with status 1 if there is an error."
    )
    requires_system_checks: List[str] = []  # the table has them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url",
            default="",
            help="the address that the service uses for this Django (its DJANGO_API_URL); an empty batch is posted there; "
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
            raise CommandError("1 check failed" if wrong == 1 else f"{wrong} checks failed")

    def show(self, finding: Finding) -> None:
        style = {OK: self.style.SUCCESS, NOTE: str, WARNING: self.style.WARNING, ERROR: self.style.ERROR}[finding.level]
        self.stdout.write(f"{finding.name:<14}{style(f'{finding.level:<9}')}{finding.text}")
        if finding.hint:
            self.stdout.write(f"{'':<23}{finding.hint}")


def system_findings() -> List[Finding]:
    """The results of the system checks, or one row that reports no problems."""
    databases = [conf.get("OUTBOX_DATABASE")] if readable() else None
    found = checks.run_checks(tags=[TAG], include_deployment_checks=True, databases=databases)
    rows = [Finding(short(m), level(m), m.msg, m.hint or "") for m in found if not m.is_silenced()]
    return rows or [Finding("settings", OK, "no problems found")]


def short(message: checks.CheckMessage) -> str:
    return "check " + str(message.id).rpartition(".")[2]


def level(message: checks.CheckMessage) -> str:
    if message.level >= checks.ERROR:
        return ERROR
    return WARNING if message.level >= checks.WARNING else NOTE
