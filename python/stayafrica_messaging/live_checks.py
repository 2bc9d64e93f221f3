"""What `manage.py messaging_check` finds out by asking: the service, and this project's endpoint as the service sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional
from urllib.parse import urlsplit

import requests
from django.db import DatabaseError
from django.utils.module_loading import import_string

from . import conf, signature
from .checks import mounted, public_url
from .errors import Forbidden, Unauthorized
from .mounting import DEFAULT_PATH
from .service_status import ServiceStatus, explain, look

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"

# Older than this a message should have been stored long ago: the service tries at least every 30 seconds.
LAG_SECONDS = 60.0
ENDPOINT_PATIENCE = 10.0


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    name: str
    level: str
    text: str
    hint: str = ""


def live_findings(url: str = "") -> List[Finding]:
    """All of them. `url` is this Django's address as the service calls it, else the setting DJANGO_URL's."""
    status = look()
    return [*service_findings(status), *endpoint_findings(url or public_url())]


def service_findings(status: ServiceStatus) -> List[Finding]:
    """Whether the service is there, knows our token, and gets rid of its messages."""
    if not status.reachable:
        return [Finding("service", ERROR, explain(error)) for error in status.errors]
    found = [Finding("service", OK, f"answers at {status.url}"), readiness(status), token(status)]
    if status.known:
        found += [lag(status), dead_letters(status), arrival(status)]
    return found


def readiness(status: ServiceStatus) -> Finding:
    if status.ready:
        return Finding("ready", OK, "takes messages")
    wrong = [
        text
        for name, bad, text in (
            ("recovered", False, "it is still reading its store"),
            ("disk", False, "its disk is full or failing"),
            ("draining", True, "it is about to stop"),
        )
        if status.readiness.get(name) is bad
    ]
    return Finding("ready", ERROR, "takes no messages: " + (", ".join(wrong) or "it does not say why"))


def token(status: ServiceStatus) -> Finding:
    """Any call but health says whether the token is right."""
    for error in status.errors:
        if isinstance(error, (Unauthorized, Forbidden)):
            return Finding("token", ERROR, explain(error))
    if not status.known:
        return Finding("token", NOTE, "cannot be tried now: " + "; ".join(map(str, status.errors)))
    return Finding("token", OK, "is accepted" if conf.get("TOKEN") else "none is needed")


def lag(status: ServiceStatus) -> Finding:
    text = f"{status.lag_messages} messages, the oldest {status.lag_seconds:.0f} s old"
    if status.waiting and status.lag_messages:
        text += "; the service has stopped sending until Django takes messages again"
        return Finding("drain lag", ERROR, text, causes(status))
    if status.lag_seconds > LAG_SECONDS:
        return Finding("drain lag", WARNING, text, causes(status))
    return Finding("drain lag", OK, text)


def causes(status: ServiceStatus) -> str:
    """What kinds of failures the service has counted, and what to do about each."""
    return " ".join(f"{kind} ({n}): {REMEDIES.get(kind, 'see its log')}." for kind, n in status.failures.items())


REMEDIES = {
    "message_error": "Django answered with errors for single messages; its log and the dead letters say which",
    "mismatched": "the numbers of Django's answer did not add up",
    "rejected": "Django refused (400, 413, 422); is the host of DJANGO_API_URL in ALLOWED_HOSTS?",
    "misconfigured": "the endpoint was not found, did not let the service in, or redirected; compare DJANGO_API_URL, "
    "DJANGO_PERSIST_PATH and DJANGO_SHARED_SECRET",
    "throttled": "Django wants fewer requests (429); take the throttle off the endpoint",
    "timed_out": "Django did not answer in time",
    "unavailable": "Django was out of order (5xx); see its log, and whether migrations are missing",
    "unreached": "there was no connection to DJANGO_API_URL",
}


def dead_letters(status: ServiceStatus) -> Finding:
    if not status.dead_total:
        return Finding("dead letters", OK, "none")
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(status.dead_letters.items()) if n)
    return Finding("dead letters", WARNING, kinds, "Look at their reasons in the admin, mend the cause, and redrive them.")


def arrival(status: ServiceStatus) -> Finding:
    """Whether what the service counts as stored is in this project's database."""
    name, persisted = "arrival", int(status.stats.get("messages_persisted") or 0)
    if not persisted:
        what = "Django has stored none of them" if status.lag_messages else "there was nothing to store"
        return Finding(name, NOTE, f"cannot be told: since the service started {what}")
    counted = f"the service counts {persisted} messages as stored"
    try:
        here = rows_here()
    except DatabaseError as error:
        return Finding(name, ERROR, f"this project's messages cannot be read: {str(error).strip()}", "Run manage.py migrate.")
    if here is None:
        return Finding(name, NOTE, f"{counted}; this project's adapter keeps them where this cannot look")
    if not here:
        hint = "Does the service's DJANGO_API_URL lead to another installation? (Deleting all messages looks alike.)"
        return Finding(name, ERROR, f"{counted}, and this database has none", hint)
    return Finding(name, OK, f"{counted}, and this database has {here}")


def rows_here() -> Optional[str]:
    """What this project's table of messages has, in words, empty where it has none; None where the adapter names no table."""
    from .models import Message

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
    """Posts an empty batch to the endpoint by the address that the service uses."""
    if not url:
        hint = f'Give --url or set {conf.SETTING}["DJANGO_URL"]: the DJANGO_API_URL of the service.'
        return [Finding("endpoint", NOTE, "not tried: the address by which the service calls this Django is not known", hint)]
    found = mounted() or []
    path = found[0].path if found else DEFAULT_PATH
    return [post_empty_batch(url.rstrip("/"), path)]


def post_empty_batch(url: str, path: str) -> Finding:
    name, where = "endpoint", url + path
    body = b'{"messages":[]}'
    try:
        answer = requests.post(
            where, data=body, headers=headers(urlsplit(where).path, body), timeout=ENDPOINT_PATIENCE, allow_redirects=False
        )
    except (requests.RequestException, ValueError) as error:
        return Finding(name, ERROR, f"{where} cannot be reached: {cause(error)}", "Is it the address that the service would use?")
    if answer.status_code == 200 and accounts(answer):
        return Finding(name, OK, f"{where} takes messages")
    said = f"{where} answers {answer.status_code}"
    if answer.is_redirect or 300 <= answer.status_code < 400:
        hint = "SECURE_SSL_REDIRECT, PREPEND_WWW, APPEND_SLASH or a login page; the service follows no redirect."
        return Finding(name, ERROR, f"{said}, a redirect to {answer.headers.get('Location', 'nowhere')}", hint)
    return Finding(name, ERROR, said, BY_STATUS.get(answer.status_code, "That is no answer of the endpoint: what is mounted there?"))


def cause(error: BaseException) -> str:
    """The first of a chain of errors: the others only wrap it in names of classes."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


BY_STATUS: Dict[int, str] = {
    400: "Is the host in ALLOWED_HOSTS?",
    401: "An endpoint of the project's own wants a token: DJANGO_API_TOKEN at the service.",
    403: "Something refuses the service: the CSRF check of an endpoint of the project's own, a proxy, or, where a proxy changes "
    "the path, the signature (SIGNED_PATH).",
    404: "The endpoint is not mounted at this path, or the address leads elsewhere.",
    405: "What is mounted there takes no POST.",
    429: "A throttle is on the endpoint, or on the proxy before it.",
    502: "The proxy does not reach Django.",
    503: "The endpoint cannot store: is the database there, and are the migrations run?",
}


def headers(path: str, body: bytes) -> Dict[str, str]:
    """What the service sends along, with this project's own secret and key."""
    sent = {"Content-Type": "application/json", "X-Erlang-Service": "messaging"}
    if conf.get("SECRET"):
        sent["X-Erlang-Secret"] = conf.get("SECRET")
    if conf.get("SIGNING_KEYS"):
        sent[signature.HEADER] = signature.header(conf.get("SIGNING_KEYS"), path, body)
    return sent


def accounts(answer: Any) -> bool:
    """Whether an answer accounts for a batch, as the service reads it."""
    try:
        body = json.loads(answer.content)
    except ValueError:
        return False
    return isinstance(body, dict) and body.get("persisted") == 0 and body.get("errors") == []
