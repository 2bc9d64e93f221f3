"""The endpoint that the service brings messages to, and its health.

It speaks to a machine: no session, no login, no cookie, no throttle. Who may call
is told by the shared secret and by the signature, where the settings have them.
"""

from __future__ import annotations

import hmac
import logging
from functools import wraps
from typing import Any, Callable, Optional

from django.db import Error as DatabaseFailure
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.encoding import escape_uri_path
from django.views.decorators.csrf import csrf_exempt

from . import adapters, conf, signature
from .receive import Malformed, parse_batch, receive

logger = logging.getLogger("stayafrica_messaging")

#: When the service is to come again after an outage, in seconds.
RETRY_AFTER = 5

View = Callable[[HttpRequest], HttpResponse]


class Denied(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def for_the_service(view: View) -> View:
    """Makes a view one for a machine. It has its own transaction, whose commit comes
    before the answer, also where the project wraps requests into one."""

    @wraps(view)
    def answer(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except Denied as denied:
            return JsonResponse({"error": str(denied)}, status=denied.status)
        except DatabaseFailure:
            logger.exception("the database is not in order: the service is asked to come again")
            response = JsonResponse({"error": "the database is not in order"}, status=503)
            response["Retry-After"] = str(RETRY_AFTER)
            return response

    answer.login_required = False  # type: ignore[attr-defined]  # of LoginRequiredMiddleware
    return csrf_exempt(transaction.non_atomic_requests(answer))


@for_the_service
def persist(request: HttpRequest) -> HttpResponse:
    """``POST erlang/persist/``: stores a batch and says what became of every message.

    ``{"messages": [...]}`` is answered with ``{"persisted": n, "duplicates": n,
    "errors": [{"message": {"id": ...}, "error": "...", "permanent": true}]}``. 503
    says that the database is not in order and that nothing was stored.
    """
    if request.method != "POST":
        return _not_allowed("POST")
    _admit(request)
    body = _read(request, conf.get("MAX_BODY"))
    _check_signature(request, body)
    try:
        entries = parse_batch(body)
    except Malformed as error:
        raise Denied(400, str(error)) from None
    return JsonResponse(receive(entries, adapters.load()()).as_json())


@for_the_service
def health(request: HttpRequest) -> HttpResponse:
    """``GET erlang/health/``: whether messages could be stored now."""
    if request.method not in ("GET", "HEAD"):
        return _not_allowed("GET, HEAD")
    adapters.load()().check()
    return JsonResponse({"status": "ok"})


def _not_allowed(methods: str) -> HttpResponse:
    response = JsonResponse({"error": f"only {methods}"}, status=405)
    response["Allow"] = methods
    return response


def _admit(request: HttpRequest) -> None:
    """Lets the service in before a byte of the body is read."""
    if request.headers.get("X-Erlang-Service") != "messaging":
        raise Denied(403, "only for the messaging service")
    secret = conf.get("SECRET")
    if secret and not hmac.compare_digest(_bytes(request.headers.get("X-Erlang-Secret", "")), secret.encode()):
        raise Denied(403, "X-Erlang-Secret is not the shared secret")


def _bytes(header: str) -> bytes:
    """The bytes of a header as they came: a server decodes them as Latin-1."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return header.encode()


def _check_signature(request: HttpRequest, body: bytes) -> None:
    keys = conf.get("SIGNING_KEYS")
    if not keys:
        return
    value = request.headers.get(signature.HEADER, "")
    path = conf.get("SIGNED_PATH") or escape_uri_path(request.path)
    try:
        signature.verify(value, path, body, keys, conf.get("SIGNATURE_TOLERANCE"))
    except signature.BadSignature as bad:
        raise Denied(403, f"the signature is not good: {bad}") from None


def _read(request: HttpRequest, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes: Django's own limit is meant for forms."""
    declared = _declared_length(request)
    if declared is not None and declared > limit:
        raise Denied(413, f"the body is larger than {limit} bytes")
    stream = _stream(request, declared)
    body = bytearray()
    try:
        while len(body) <= limit:
            piece = stream.read(limit + 1 - len(body))
            if not piece:
                break
            body += piece
    except OSError:  # UnreadablePostError among them
        raise Denied(400, "the body broke off") from None
    if len(body) > limit:
        raise Denied(413, f"the body is larger than {limit} bytes")
    if declared is not None and len(body) < declared:
        raise Denied(400, "the body broke off")
    return bytes(body)


def _declared_length(request: HttpRequest) -> Optional[int]:
    text = request.META.get("CONTENT_LENGTH") or None
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise Denied(400, "Content-Length is not a number") from None


def _stream(request: HttpRequest, declared: Optional[int]) -> Any:
    """What the body is read from. Django under WSGI takes a body without a length for
    an empty one; a server that marks its end (gunicorn, uWSGI, mod_wsgi) may be
    read until then, and another would wait for ever."""
    environ = getattr(request, "environ", None)
    if environ is None or declared is not None or "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        return request
    if not environ.get("wsgi.input_terminated"):
        raise Denied(411, "the body must come with its length")
    return environ["wsgi.input"]
