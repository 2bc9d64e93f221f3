"""The checks of `manage.py messaging_check` that make requests: to the service, and to this project's endpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

import requests
from django.db import DatabaseError
from django.utils.module_loading import import_string

from . import conf, signature
from .checks import closed_endpoint, project_endpoints, public_url, sentence
from .errors import Forbidden, Unauthorized
from .models import Message
from .endpoints import DEFAULT_PATH
from .service_status import ServiceStatus, explain, fetch_status

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"

# The service retries at least every 30 seconds, so an older message indicates a problem.
LAG_SECONDS = 60.0
ENDPOINT_TIMEOUT = 10.0


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    name: str
    level: str
    text: str
    hint: str = ""


def live_findings(url: str = "") -> List[Finding]:
    """Runs all checks. `url` is the address that the service uses for this Django; the default is the setting DJANGO_URL.
    """
    status = fetch_status()
    return [*service_findings(status), *endpoint_findings(url or public_url())]


def service_findings(status: ServiceStatus) -> List[Finding]:
    """Whether the service is up, accepts the token, and delivers its messages."""
    if not status.reachable:
        return [Finding("service", ERROR, explain(error)) for error in status.errors]
    found = [Finding("service", OK, f"responds at {status.url}"), readiness(status), token(status)]
    if status.known:
        found += [lag(status), dead_letters(status), arrival(status)]
    return found


def readiness(status: ServiceStatus) -> Finding:
    if status.ready:
        return Finding("ready", OK, "accepts messages")
    wrong = [
        text
        for name, bad, text in (
            ("recovered", False, "it is still recovering"),
            ("disk", False, "its disk is full or failing"),
            ("draining", True, "it is stopping"),
        )
        if status.readiness.get(name) is bad
    ]
    return Finding("ready", ERROR, "accepts no messages: " + (", ".join(wrong) or "no reason given"))


def token(status: ServiceStatus) -> Finding:
    """Whether the service accepts the token. Every call except health checks the token."""
    for error in status.errors:
        if isinstance(error, (Unauthorized, Forbidden)):
            return Finding("token", ERROR, explain(error))
    if not status.known:
        return Finding("token", NOTE, "cannot be checked now: " + "; ".join(map(str, status.errors)))
    return Finding("token", OK, "accepted" if conf.get("TOKEN") else "not required")


def lag(status: ServiceStatus) -> Finding:
    text = f"{status.lag_messages} messages, the oldest {status.lag_seconds:.0f} s old"
    if status.off:
        hint = (
            "Start the service with DJANGO_API_URL set to this Django's address: "
            "it continues with the pending messages, except trimmed ones."
        )
        return Finding("drain lag", WARNING, f"the drain is off (DJANGO_API_URL=off), so Django receives nothing; {text}", hint)
    if status.waiting and status.lag_messages:
        text += "; the service has paused until Django accepts messages again"
        return Finding("drain lag", ERROR, text, causes(status))
    if status.lag_seconds > LAG_SECONDS:
        return Finding("drain lag", WARNING, text, causes(status))
    return Finding("drain lag", OK, text)


def causes(status: ServiceStatus) -> str:
    """The kinds of failures that the service has counted, each with a remedy."""
    return " ".join(f"{kind} ({n}): {REMEDIES.get(kind, 'see its log')}." for kind, n in status.failures.items())


REMEDIES = {
    "message_error": "Django reported errors for single messages; see its log and the dead letters",
    "mismatched": "the counts in Django's response did not add up",
    "rejected": "Django refused (400, 413, 422); is the host of DJANGO_API_URL in ALLOWED_HOSTS?",
    "misconfigured": "the endpoint was not found, denied access, or redirected; compare DJANGO_API_URL, "
    "DJANGO_PERSIST_PATH and DJANGO_SHARED_SECRET",
    "throttled": "Django throttled the service (429); remove the throttle from the endpoint",
    "timed_out": "Django did not respond in time",
    "unavailable": "Django failed (5xx); see its log, and check for missing migrations",
    "unreached": "no connection to DJANGO_API_URL",
}


def dead_letters(status: ServiceStatus) -> Finding:
    if not status.dead_total:
        return Finding("dead letters", OK, "none")
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(status.dead_letters.items()) if n)
    return Finding("dead letters", WARNING, kinds, "See the reasons in the admin, fix the cause, and redrive them.")


def arrival(status: ServiceStatus) -> Finding:
    """Whether the messages that the service counts as stored are in this project's database."""
    name, persisted = "arrival", int(status.stats.get("messages_persisted") or 0)
    if not persisted:
        what = "Django has stored no message" if status.lag_messages else "there was nothing to store"
        return Finding(name, NOTE, f"unknown: since the service started, {what}")
    counted = f"the service counts {persisted} messages as stored"
    try:
        here = rows_here()
    except DatabaseError as error:
        return Finding(name, ERROR, f"this project's messages cannot be read: {str(error).strip()}", "Run manage.py migrate.")
    if here is None:
        return Finding(name, NOTE, f"{counted}; this project's adapter has no model to look them up in")
    if not here:
        hint = "Does the service's DJANGO_API_URL lead to another installation? (Or were all messages deleted?)"
        return Finding(name, ERROR, f"{counted}, and this database has none", hint)
    return Finding(name, OK, f"{counted}, and this database has {here}")


def rows_here() -> Optional[str]:
    """Describes the rows in this project's message table.

    Returns an empty string for an empty table, and None if the adapter has no model.
    """
    try:
        model = getattr(import_string(conf.get("ADAPTER")), "model", None)
    except ImportError:
        return None
    if model is None:
        return None
    if model is not Message:
        return "some" if model._default_manager.exists() else ""
    newest = Message.objects.order_by("-sequence").values_list("sequence", flat=True).first()
    return "" if newest is None else f"them up to sequence {newest}"


def endpoint_findings(url: str) -> List[Finding]:
    """Posts an empty batch to the endpoint, at the address that the service uses."""
    if not url:
        hint = f'Give --url or set {conf.SETTING}["DJANGO_URL"]: the DJANGO_API_URL of the service.'
        return [Finding("endpoint", NOTE, "not checked: the address that the service uses for this Django is unknown", hint)]
    found = project_endpoints() or []
    path = found[0].path if found else DEFAULT_PATH
    return [post_empty_batch(url.rstrip("/"), path)]


def post_empty_batch(url: str, path: str) -> Finding:
    name, where = "endpoint", url + path
    body = b'{"messages":[]}'
    try:
        response = requests.post(
            where, data=body, headers=headers(urlsplit(where).path, body), timeout=ENDPOINT_TIMEOUT, allow_redirects=False
        )
    except (requests.RequestException, ValueError) as error:
        return Finding(name, ERROR, f"{where} cannot be reached: {cause(error)}", "Is it the address that the service uses?")
    if response.status_code == 200 and is_empty_report(response):
        return Finding(name, OK, f"{where} accepts messages")
    said = f"{where} responds with {response.status_code}"
    if response.is_redirect or 300 <= response.status_code < 400:
        hint = "SECURE_SSL_REDIRECT, PREPEND_WWW, APPEND_SLASH or a login page; the service follows no redirect."
        return Finding(name, ERROR, f"{said}, a redirect to {response.headers.get('Location', 'nowhere')}", hint)
    return Finding(name, ERROR, said, hint_for(response))


def hint_for(response: Any) -> str:
    """What to do about a response that reports no stored batch."""
    unknown = "The response is not from the endpoint. Which view has this path?"
    hint = BY_STATUS.get(response.status_code, unknown)
    # The process that serves the endpoint may have other settings than this command.
    if response.status_code == 403 and (closed_endpoint() or conf.CLOSED in response.text):
        return f"{sentence(f'{conf.CLOSED}: {conf.CLOSED_REMEDY}')} Otherwise: {hint}"
    return hint


def cause(error: BaseException) -> str:
    """The text of the first error in a chain. The other errors only wrap it."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


BY_STATUS: Dict[int, str] = {
    400: "Is the host in ALLOWED_HOSTS?",
    401: "The project's own endpoint requires a token: set DJANGO_API_TOKEN at the service.",
    403: "The request was refused by the CSRF check of the project's own endpoint, by a proxy, or, if a proxy changes "
    "the path, by the signature check (SIGNED_PATH).",
    404: "The URLconf has no endpoint at this path, or the address leads to another server.",
    405: "The view at this path does not accept POST.",
    429: "The endpoint or a proxy throttles requests.",
    502: "The proxy cannot reach Django.",
    503: "The endpoint cannot store messages. Is the database up, and have the migrations been run?",
}


def headers(path: str, body: bytes) -> Dict[str, str]:
    """The headers that the service sends, with this project's secret and signing keys."""
    sent = {"Content-Type": "application/json", "X-Erlang-Service": "messaging"}
    if conf.get("SECRET"):
        sent["X-Erlang-Secret"] = conf.get("SECRET")
    if conf.get("SIGNING_KEYS"):
        sent[signature.HEADER] = signature.header(conf.get("SIGNING_KEYS"), path, body)
    return sent


def is_empty_report(response: Any) -> bool:
    """Whether a response is a valid report on an empty batch."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("persisted") == 0 and body.get("errors") == []
