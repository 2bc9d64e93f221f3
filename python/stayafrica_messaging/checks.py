"""Django's system checks for this package, under the tag `messaging`.

Errors and warnings appear with every command of manage.py. Notes appear only with `manage.py check --deploy` and
`manage.py messaging_check`, to keep the output of other commands short.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, List, Optional, Sequence, Set
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http.request import validate_host
from django.utils.module_loading import import_string

from . import conf
from .adapters import BaseAdapter
from .endpoints import DEFAULT_PATH, Endpoint, find_endpoints

TAG = "messaging"
LABEL = "stayafrica_messaging"

MIN_KEY_LENGTH = 16
# A batch from the service has 1 MiB by default, plus the fields that the service adds to each message.
MIN_MAX_BODY = 2 * 1024 * 1024
ABOVE_ZERO = ("TIMEOUT", "CONNECT_TIMEOUT", "POOL", "MAX_BODY")
ZERO_OR_MORE = ("RETRIES", "SIGNATURE_TOLERANCE", "OUTBOX_KEEP_DAYS", "OUTBOX_MAX_ATTEMPTS")

Check = Callable[..., List[CheckMessage]]
Find = Callable[..., Iterator[CheckMessage]]


def readable() -> bool:
    """Whether all settings can be read. If not, `check_settings` reports it and the other checks return nothing."""
    try:
        for name in conf.DEFAULTS:
            conf.get(name)
    except ImproperlyConfigured:
        return False
    return True


def check(*tags: str, deploy: bool = False) -> Callable[[Find], Check]:
    """Registers a generator as a system check. The check returns nothing if the settings cannot be read."""

    def registered(find: Find) -> Check:
        def run(app_configs: Any = None, **options: Any) -> List[CheckMessage]:
            return list(find(**options)) if readable() else []

        run.__name__, run.__doc__ = find.__name__, find.__doc__
        register(run, TAG, *tags, deploy=deploy)
        return run

    return registered


def check_settings(app_configs: Any = None, **options: Any) -> List[CheckMessage]:
    """The setting is a dictionary with known names."""
    try:
        for name in conf.DEFAULTS:
            conf.get(name)
        unknown = conf.unknown()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See the table of settings in docs/reference/django-package.md.", id=f"{LABEL}.E001")]
    return [
        Warning(
            f"{conf.SETTING} has an unknown setting: {name}.",
            hint="Is it misspelled? The settings are " + ", ".join(sorted(conf.DEFAULTS)) + ".",
            id=f"{LABEL}.W001",
        )
        for name in unknown
    ]


register(check_settings, TAG)


@check()
def check_url(**options: Any) -> Iterator[CheckMessage]:
    """The addresses of the service and of this Django."""
    for name in ("URL", "DJANGO_URL"):
        problem = wrong_with_url(str(public_url() if name == "DJANGO_URL" else conf.get(name)))
        if problem and (name == "URL" or public_url()):
            yield Error(
                f'{conf.SETTING}["{name}"] {problem}.',
                hint="An address has a scheme, a host and optionally a port, such as http://messaging:8765.",
                id=f"{LABEL}.E002",
            )


def wrong_with_url(url: str) -> Optional[str]:
    """Returns the problem with an address, as the end of a sentence, or None."""
    try:
        parts = urlsplit(url)
        parts.port
    except ValueError as error:
        return f"is not an address ({error})"
    if parts.scheme not in ("http", "https"):
        return "has no scheme: it must begin with http:// or https://"
    if not parts.hostname or re.search(r"\s", url):
        return "is not an address"
    if parts.username is not None:
        return 'must not contain a user: the token has its own setting, "TOKEN"'
    if parts.query or parts.fragment:
        return "must end with the host, the port or a path"
    return None


@check()
def check_numbers(**options: Any) -> Iterator[CheckMessage]:
    """Settings that must be numbers."""
    for name in (*ABOVE_ZERO, *ZERO_OR_MORE):
        value = conf.get(name)
        if name == "OUTBOX_KEEP_DAYS" and value is None:
            continue  # None keeps rows forever
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or value < 0 or (value == 0 and name in ABOVE_ZERO):
            yield Error(
                f'{conf.SETTING}["{name}"] must be a number, {"more than 0" if name in ABOVE_ZERO else "0 or more"}.',
                hint="See the table of settings in docs/reference/django-package.md.",
                id=f"{LABEL}.E003",
            )
        elif name == "MAX_BODY" and value < MIN_MAX_BODY:
            yield Warning(
                f'{conf.SETTING}["MAX_BODY"] is smaller than the largest batch of the service.',
                hint=f"Set it to at least {MIN_MAX_BODY} bytes, or lower PERSIST_MAX_BATCH_BYTES at the service.",
                id=f"{LABEL}.W008",
            )


@check()
def check_database(**options: Any) -> Iterator[CheckMessage]:
    """The database of the outbox."""
    if conf.get("OUTBOX_DATABASE") not in list(connections):
        yield Error(
            f'{conf.SETTING}["OUTBOX_DATABASE"] is not in DATABASES.',
            hint="The databases are " + ", ".join(connections) + ".",
            id=f"{LABEL}.E006",
        )


@check()
def check_adapter(**options: Any) -> Iterator[CheckMessage]:
    """The adapter class."""
    path = conf.get("ADAPTER")
    try:
        adapter = import_string(path) if isinstance(path, str) else path
    except Exception as error:  # the import of a project's module may raise anything
        yield Error(
            f'{conf.SETTING}["ADAPTER"] cannot be imported: {error}',
            hint='It is a dotted path, such as "chat.messaging.ChatAdapter".',
            id=f"{LABEL}.E004",
        )
        return
    if not (isinstance(adapter, type) and issubclass(adapter, BaseAdapter)):
        yield Error(
            f'{conf.SETTING}["ADAPTER"] is not an adapter.',
            hint="It must be a class that inherits from stayafrica_messaging.adapters.BaseAdapter.",
            id=f"{LABEL}.E005",
        )


@check(Tags.security)
def check_access(**options: Any) -> Iterator[CheckMessage]:
    """Who can use the receiving endpoint."""
    allowed = conf.get("ALLOW_UNSIGNED")
    if not isinstance(allowed, bool):
        yield Error(
            f'{conf.SETTING}["ALLOW_UNSIGNED"] must be True or False.',
            hint="Remove it. Only True opens an endpoint without a secret and signing keys, and only development needs that.",
            id=f"{LABEL}.E007",
        )
    if allowed is True and not conf.has_credentials():
        yield Warning(
            "ALLOW_UNSIGNED opens the receiving endpoint, which has neither a secret nor signing keys: "
            "anyone who can reach it can store messages from any sender.",
            hint="Set SECRET here and DJANGO_SHARED_SECRET at the service to the same long random string, "
            "or SIGNING_KEYS in both, and remove ALLOW_UNSIGNED.",
            id=f"{LABEL}.W002",
        )
    if closed_endpoint():
        yield Warning(
            "The receiving endpoint has neither a secret nor signing keys: it refuses every message with 403.",
            hint=sentence(conf.CLOSED_REMEDY),
            id=f"{LABEL}.W009",
        )


@check(Tags.security)
def check_keys(**options: Any) -> Iterator[CheckMessage]:
    """The signing keys."""
    if any(len(key) < MIN_KEY_LENGTH for key in conf.get("SIGNING_KEYS")):
        yield Warning(
            f"A signing key is shorter than {MIN_KEY_LENGTH} characters: it can be guessed.",
            hint="`python -c 'import secrets; print(secrets.token_urlsafe(32))'` generates one.",
            id=f"{LABEL}.W003",
        )


@check()
def check_endpoint(**options: Any) -> Iterator[CheckMessage]:
    """The URLconf includes the receiving endpoint."""
    if project_endpoints() == []:
        yield Warning(
            "The service's messages cannot arrive: no URLconf includes the receiving endpoint.",
            hint='Add path("api/messaging/", include("stayafrica_messaging.urls")) to the root URLconf, or silence '
            f"{LABEL}.W007 if this project only sends.",
            id=f"{LABEL}.W007",
        )


@check()
def check_redirects(**options: Any) -> Iterator[CheckMessage]:
    """Redirects of the service's requests. The service follows no redirect."""
    for endpoint in project_endpoints() or []:
        if redirected_to_https(endpoint):
            yield Warning(
                f"SECURE_SSL_REDIRECT redirects the service's requests to {endpoint.path}. The service follows no redirect.",
                hint="Use https in the service's DJANGO_API_URL, or add "
                f'r"^{endpoint.path.lstrip("/")}" to SECURE_REDIRECT_EXEMPT, or send the header of SECURE_PROXY_SSL_HEADER '
                '(DJANGO_HEADERS at the service, such as "X-Forwarded-Proto: https").',
                id=f"{LABEL}.W004",
            )
    bare = not host_of(public_url()).startswith("www.")
    if settings.PREPEND_WWW and bare and "django.middleware.common.CommonMiddleware" in settings.MIDDLEWARE:
        yield Warning(
            "PREPEND_WWW redirects the service's requests unless DJANGO_API_URL begins with www. "
            "The service follows no redirect.",
            hint="Use the host with www. in DJANGO_API_URL, or replace PREPEND_WWW by a redirect in the proxy.",
            id=f"{LABEL}.W005",
        )


def redirected_to_https(endpoint: Endpoint) -> bool:
    """Whether Django redirects the service's requests for this path to https.

    DJANGO_URL is the address at which the service calls Django. Without it, the check assumes that the service uses TLS if Django
    uses TLS to call the service.
    """
    if not settings.SECURE_SSL_REDIRECT or "django.middleware.security.SecurityMiddleware" not in settings.MIDDLEWARE:
        return False
    if (public_url() or str(conf.get("URL"))).startswith("https:"):
        return False
    return not any(re.search(exempt, endpoint.path.lstrip("/")) for exempt in settings.SECURE_REDIRECT_EXEMPT)


@check()
def check_hosts(**options: Any) -> Iterator[CheckMessage]:
    """ALLOWED_HOSTS has the host that the service uses."""
    host = host_of(public_url())
    allowed = allowed_hosts()
    if not allowed:
        problem = "ALLOWED_HOSTS is empty"
    elif host and not validate_host(host, allowed):
        problem = f"ALLOWED_HOSTS does not have {host}"
    else:
        return
    yield Warning(
        f"Django refuses the service's requests with 400: {problem}.",
        hint="Add the host of the service's DJANGO_API_URL to ALLOWED_HOSTS.",
        id=f"{LABEL}.W006",
    )


def allowed_hosts() -> Sequence[str]:
    """The allowed hosts, with Django's defaults for DEBUG."""
    return settings.ALLOWED_HOSTS or ([".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])


@check(deploy=True)
def note_hosts(**options: Any) -> Iterator[CheckMessage]:
    """A service on this machine that may call Django by a host that is not allowed."""
    allowed = allowed_hosts()
    local = host_of(str(conf.get("URL"))) in ("localhost", "127.0.0.1", "::1")
    if public_url() or not allowed or not local or any(validate_host(host, allowed) for host in ("localhost", "127.0.0.1")):
        return
    yield Info(
        "The service runs on this machine, and ALLOWED_HOSTS has neither localhost nor 127.0.0.1.",
        hint="If the service's DJANGO_API_URL names one of them, add it. If it names another, set "
        f'{conf.SETTING}["DJANGO_URL"] to it: the checks then use that host.',
        id=f"{LABEL}.I005",
    )


@check(deploy=True)
def note_path(**options: Any) -> Iterator[CheckMessage]:
    """An endpoint at another path than the service's default."""
    found = project_endpoints() or []
    if found and all(endpoint.path != DEFAULT_PATH for endpoint in found):
        yield Info(
            f"The receiving endpoint is at {found[0].path}, and the service posts to {DEFAULT_PATH} by default.",
            hint=f"Set DJANGO_PERSIST_PATH={found[0].path} at the service, with the final slash: without it, APPEND_SLASH "
            "redirects, and the service follows no redirect.",
            id=f"{LABEL}.I001",
        )


@check(deploy=True)
def note_rest_framework(**options: Any) -> Iterator[CheckMessage]:
    """The project's own endpoint under a throttle or permission of REST framework."""
    for endpoint in project_endpoints() or []:
        view = endpoint.view_class
        throttled, guarded = getattr(view, "throttle_classes", None), getattr(view, "permission_classes", None)
        names = [c.__name__ for c in [*(throttled or []), *(guarded or [])] if c.__name__ != "AllowAny"]
        if not endpoint.ours and names:
            yield Info(
                f"The project's own endpoint {endpoint.path} is subject to REST framework's {', '.join(names)}.",
                hint="A throttle makes the service wait up to an hour (429); "
                "a permission needs DJANGO_API_TOKEN at the service. "
                "Set throttle_classes = [] on the view, or include stayafrica_messaging.urls, which has neither.",
                id=f"{LABEL}.I002",
            )


@check(deploy=True)
def note_atomic_requests(**options: Any) -> Iterator[CheckMessage]:
    """The effects of ATOMIC_REQUESTS on the outbox and on the project's own endpoint."""
    atomic = [alias for alias in connections if connections[alias].settings_dict["ATOMIC_REQUESTS"]]
    if not atomic:
        return
    yield Info(
        f"ATOMIC_REQUESTS is on ({', '.join(atomic)}): what a view sends is pushed after the view returns and "
        "before the response leaves.",
        hint=f'Set {conf.SETTING}["OUTBOX_PUSH"] to False and run manage.py messaging_relay, '
        "if responses must not wait for the push.",
        id=f"{LABEL}.I003",
    )
    for endpoint in project_endpoints() or []:
        exempt: Set[str] = getattr(endpoint.view, "_non_atomic_requests", set())
        if not set(atomic) <= exempt:
            yield Info(
                f"ATOMIC_REQUESTS wraps {endpoint.path} in one transaction: one error rolls back the whole batch.",
                hint="Decorate the view with django.db.transaction.non_atomic_requests.",
                id=f"{LABEL}.I006",
            )


@check(Tags.database)
def note_skip_locked(databases: Optional[Sequence[str]] = None, **options: Any) -> Iterator[CheckMessage]:
    """Whether several relays can push at once. Queries the database, so it runs only if databases are checked."""
    alias = conf.get("OUTBOX_DATABASE")
    if alias not in (databases or []) or alias not in list(connections):
        return
    if not connections[alias].features.has_select_for_update_skip_locked:
        yield Info(
            f"The database {alias} ({connections[alias].vendor}) has no SKIP LOCKED.",
            hint="Run only one manage.py messaging_relay.",
            id=f"{LABEL}.I004",
        )


def public_url() -> str:
    """The address that the service uses for this Django, if the project sets it."""
    return str(conf.get("DJANGO_URL") or "")


def host_of(url: str) -> str:
    """The host of an address, or an empty string."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def project_endpoints() -> Optional[List[Endpoint]]:
    """The project's endpoints. None if the URLconf cannot be imported, which Django's own checks report."""
    try:
        return find_endpoints()
    except Exception:  # the import of a project's URLconf may raise anything
        return None


def closed_endpoint() -> bool:
    """Whether the project has an endpoint of this package that is closed. A project's own endpoint has its own rules."""
    return conf.closed() and any(endpoint.ours for endpoint in project_endpoints() or [])


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a full stop at its end."""
    return f"{text[:1].upper()}{text[1:]}."
