"""The endpoint that receives the service's messages, and its health check.

The caller is a program: there is no session, login, cookie or throttle. The shared secret
and the signature authenticate it, whichever the settings have. With neither, the endpoint
is closed, unless ALLOW_UNSIGNED opens it.
"""

from __future__ import annotations

import hmac
import logging
from functools import wraps
from typing import Any, Callable, Optional
from urllib.parse import unquote

from django.db import Error as DatabaseFailure
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from . import adapters, conf, signature
from .receive import parse_batch, receive
from .received import Malformed

logger = logging.getLogger("stayafrica_messaging")

#: Seconds until the service should retry after a database failure.
RETRY_AFTER = 5

View = Callable[[HttpRequest], HttpResponse]


class Denied(Exception):
    """A refused request, with the status and error text of its response."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


def for_the_service(view: View) -> View:
    """Makes a view for the service.

    The view manages its own transaction, which commits before the response, even if the
    project wraps requests in transactions.
    """

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except Denied as denied:
            return JsonResponse({"error": str(denied)}, status=denied.status)
        except DatabaseFailure:
            logger.exception("the database failed: the service is asked to retry")
            response = JsonResponse({"error": "the database failed"}, status=503)
            response["Retry-After"] = str(RETRY_AFTER)
            return response

    wrapped.login_required = False  # type: ignore[attr-defined]  # read by LoginRequiredMiddleware
    return csrf_exempt(transaction.non_atomic_requests(wrapped))


@for_the_service
def persist(request: HttpRequest) -> HttpResponse:
    """``POST erlang/persist/``: stores a batch and reports the result for every message.

    The response to ``{"messages": [...]}`` is ``{"persisted": n, "duplicates": n,
    "errors": [{"message": {"id": ...}, "error": "...", "permanent": true}]}``. 503 means
    that the database failed and nothing was stored.
    """
    if request.method != "POST":
        return _not_allowed("POST")
    _authenticate(request)
    body = _read(request, conf.get("MAX_BODY"))
    _check_signature(request, body)
    try:
        entries = parse_batch(body)
    except Malformed as error:
        raise Denied(400, str(error)) from None
    return JsonResponse(receive(entries, adapters.load()()).as_json())


@for_the_service
def health(request: HttpRequest) -> HttpResponse:
    """``GET erlang/health/``: whether messages can be stored now."""
    if request.method not in ("GET", "HEAD"):
        return _not_allowed("GET, HEAD")
    adapters.load()().check()
    return JsonResponse({"status": "ok"})


def _not_allowed(methods: str) -> HttpResponse:
    response = JsonResponse({"error": f"only {methods}"}, status=405)
    response["Allow"] = methods
    return response


def _authenticate(request: HttpRequest) -> None:
    """Authenticates the service before any byte of the body is read."""
    if request.headers.get("X-Erlang-Service") != "messaging":
        raise Denied(403, "only the messaging service may call this")
    if conf.closed():
        raise Denied(403, f"{conf.CLOSED}: {conf.CLOSED_REMEDY}")
    secret = conf.get("SECRET")
    if secret and not hmac.compare_digest(_bytes(request.headers.get("X-Erlang-Secret", "")), secret.encode()):
        raise Denied(403, "X-Erlang-Secret does not match the shared secret")


def _bytes(header: str) -> bytes:
    """The original bytes of a header. Servers decode them as Latin-1."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return header.encode()


def _check_signature(request: HttpRequest, body: bytes) -> None:
    keys = conf.get("SIGNING_KEYS")
    if not keys:
        return
    value = request.headers.get(signature.HEADER, "")
    requested = conf.get("SIGNED_PATH")
    path = signature.signed_path(unquote(requested) if requested else request.path)
    try:
        signature.verify(value, path, body, keys, conf.get("SIGNATURE_TOLERANCE"))
    except signature.BadSignature as bad:
        raise Denied(403, f"the signature is invalid: {bad}") from None


def _read(request: HttpRequest, limit: int) -> bytes:
    """Reads the whole body, up to `limit` bytes. Django's own limit is for forms."""
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
    except OSError:  # includes UnreadablePostError
        raise Denied(400, "the body was cut off") from None
    if len(body) > limit:
        raise Denied(413, f"the body is larger than {limit} bytes")
    if declared is not None and len(body) < declared:
        raise Denied(400, "the body was cut off")
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
    """Returns the stream with the body.

    Django under WSGI treats a body without a length as empty. Some servers (gunicorn,
    uWSGI, mod_wsgi) signal the end of the stream, so it can be read until then. With any
    other server such a read would never return.
    """
    environ = getattr(request, "environ", None)
    if environ is None or declared is not None or "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        return request
    if not environ.get("wsgi.input_terminated"):
        raise Denied(411, "the request needs a Content-Length")
    return environ["wsgi.input"]
