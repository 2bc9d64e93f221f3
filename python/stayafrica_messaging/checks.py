"""Django's system checks for this package, under the tag `messaging`.

Errors and warnings appear with every command of manage.py; notes only with `manage.py check --deploy` and
`manage.py messaging_check`, because a project that is well should not have to read them each time.
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
from .mounting import DEFAULT_PATH, Endpoint, endpoints

TAG = "messaging"
LABEL = "stayafrica_messaging"

SHORTEST_KEY = 16
# The service's batches are 1 MiB by default, and a little more with what it adds to each message.
SMALLEST_BODY = 2 * 1024 * 1024
ABOVE_ZERO = ("TIMEOUT", "CONNECT_TIMEOUT", "POOL", "MAX_BODY")
ZERO_OR_MORE = ("RETRIES", "SIGNATURE_TOLERANCE", "OUTBOX_KEEP_DAYS", "OUTBOX_MAX_ATTEMPTS")

Check = Callable[..., List[CheckMessage]]
Find = Callable[..., Iterator[CheckMessage]]


def readable() -> bool:
    """Whether the settings can be read at all; where not, `check_settings` says so and the others have nothing to say."""
    try:
        for name in conf.DEFAULTS:
            conf.get(name)
    except ImproperlyConfigured:
        return False
    return True


def check(*tags: str, deploy: bool = False) -> Callable[[Find], Check]:
    """Registers a system check that is written as a generator. It is silent while the settings cannot be read."""

    def registered(find: Find) -> Check:
        def run(app_configs: Any = None, **options: Any) -> List[CheckMessage]:
            return list(find(**options)) if readable() else []

        run.__name__, run.__doc__ = find.__name__, find.__doc__
        register(run, TAG, *tags, deploy=deploy)
        return run

    return registered


def check_settings(app_configs: Any = None, **options: Any) -> List[CheckMessage]:
    """The dictionary itself: a dictionary, with names that mean something."""
    try:
        for name in conf.DEFAULTS:
            conf.get(name)
        unknown = conf.unknown()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See the table of settings in docs/django.md.", id=f"{LABEL}.E001")]
    return [
        Warning(
            f"{conf.SETTING} has a setting that means nothing: {name}.",
            hint="Is it misspelled? The settings are " + ", ".join(sorted(conf.DEFAULTS)) + ".",
            id=f"{LABEL}.W001",
        )
        for name in unknown
    ]


register(check_settings, TAG)


@check()
def check_url(**options: Any) -> Iterator[CheckMessage]:
    """The service's address."""
    for name in ("URL", "DJANGO_URL"):
        problem = wrong_with_url(str(public_url() if name == "DJANGO_URL" else conf.get(name)))
        if problem and (name == "URL" or public_url()):
            yield Error(
                f'{conf.SETTING}["{name}"] {problem}.',
                hint="It looks like http://messaging:8765: scheme, host, and port if need be.",
                id=f"{LABEL}.E002",
            )


def wrong_with_url(url: str) -> Optional[str]:
    """What is wrong with an address of a service, as the end of a sentence; None where nothing is."""
    try:
        parts = urlsplit(url)
        parts.port
    except ValueError as error:
        return f"is no address ({error})"
    if parts.scheme not in ("http", "https"):
        return "has no scheme: it must begin with http:// or https://"
    if not parts.hostname or re.search(r"\s", url):
        return "is no address"
    if parts.username is not None:
        return 'must not have a user in it: the token has a setting of its own, "TOKEN"'
    if parts.query or parts.fragment:
        return "must end with the host, the port or a path"
    return None


@check()
def check_numbers(**options: Any) -> Iterator[CheckMessage]:
    """Settings that must be numbers."""
    for name in (*ABOVE_ZERO, *ZERO_OR_MORE):
        value = conf.get(name)
        if name == "OUTBOX_KEEP_DAYS" and value is None:
            continue  # for ever
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or value < 0 or (value == 0 and name in ABOVE_ZERO):
            yield Error(
                f'{conf.SETTING}["{name}"] must be a number, {"more than 0" if name in ABOVE_ZERO else "0 or more"}.',
                hint="See the table of settings in docs/django.md.",
                id=f"{LABEL}.E003",
            )
        elif name == "MAX_BODY" and value < SMALLEST_BODY:
            yield Warning(
                f'{conf.SETTING}["MAX_BODY"] is smaller than the batches of the service may be.',
                hint=f"Let it be {SMALLEST_BODY} bytes at least, or lower PERSIST_MAX_BATCH_BYTES at the service.",
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
    """The class that stores messages."""
    from .adapters import BaseAdapter

    path = conf.get("ADAPTER")
    try:
        adapter = import_string(path) if isinstance(path, str) else path
    except Exception as error:  # importing a project's module may raise anything
        yield Error(
            f'{conf.SETTING}["ADAPTER"] cannot be imported: {error}',
            hint='It is a dotted path, such as "chat.messaging.ChatAdapter".',
            id=f"{LABEL}.E004",
        )
        return
    if not (isinstance(adapter, type) and issubclass(adapter, BaseAdapter)):
        yield Error(
            f'{conf.SETTING}["ADAPTER"] is no adapter.',
            hint="It must be a class that inherits from stayafrica_messaging.adapters.BaseAdapter.",
            id=f"{LABEL}.E005",
        )


@check(Tags.security)
def check_secrets(**options: Any) -> Iterator[CheckMessage]:
    """Who may post to the receiving endpoint."""
    keys = conf.get("SIGNING_KEYS")
    if not settings.DEBUG and not conf.get("SECRET") and not keys:
        yield Warning(
            "Whoever reaches the receiving endpoint can write messages in anybody's name: it has neither a secret nor keys.",
            hint=f'Set {conf.SETTING}["SECRET"] here and DJANGO_SHARED_SECRET at the service to the same long random text.',
            id=f"{LABEL}.W002",
        )
    if any(len(key) < SHORTEST_KEY for key in keys):
        yield Warning(
            f"A signing key is shorter than {SHORTEST_KEY} characters: it can be guessed.",
            hint="`python -c 'import secrets; print(secrets.token_urlsafe(32))'` makes a good one.",
            id=f"{LABEL}.W003",
        )


@check()
def check_mounted(**options: Any) -> Iterator[CheckMessage]:
    """The endpoint is there."""
    if mounted() == []:
        yield Warning(
            "The service's messages do not arrive: the receiving endpoint is in no URLconf.",
            hint='Add path("api/messaging/", include("stayafrica_messaging.urls")) to the root URLconf, or silence '
            f"{LABEL}.W007 if this project only sends.",
            id=f"{LABEL}.W007",
        )


@check()
def check_redirects(**options: Any) -> Iterator[CheckMessage]:
    """Redirects that would swallow what the service posts: it follows none."""
    for endpoint in mounted() or []:
        if swallowed_by_ssl(endpoint):
            yield Warning(
                f"SECURE_SSL_REDIRECT answers the service's posts to {endpoint.path} with a redirect, which it does not follow.",
                hint="Let the service call https (DJANGO_API_URL), or add "
                f'r"^{endpoint.path.lstrip("/")}" to SECURE_REDIRECT_EXEMPT, or let it say what SECURE_PROXY_SSL_HEADER wants '
                '(DJANGO_HEADERS, such as "X-Forwarded-Proto: https").',
                id=f"{LABEL}.W004",
            )
    bare = not host_of(public_url()).startswith("www.")
    if settings.PREPEND_WWW and bare and "django.middleware.common.CommonMiddleware" in settings.MIDDLEWARE:
        yield Warning(
            "PREPEND_WWW redirects the service's posts unless its DJANGO_API_URL begins with www., and it follows no redirect.",
            hint="Let DJANGO_API_URL name the host with www., or let a proxy do what PREPEND_WWW does.",
            id=f"{LABEL}.W005",
        )


def swallowed_by_ssl(endpoint: Endpoint) -> bool:
    """Whether Django sends the service from this path to https. How the service calls is known from DJANGO_URL, else guessed:
    where Django calls it without TLS, it calls Django without TLS."""
    if not settings.SECURE_SSL_REDIRECT or "django.middleware.security.SecurityMiddleware" not in settings.MIDDLEWARE:
        return False
    if (public_url() or str(conf.get("URL"))).startswith("https:"):
        return False
    return not any(re.search(exempt, endpoint.path.lstrip("/")) for exempt in settings.SECURE_REDIRECT_EXEMPT)


@check()
def check_hosts(**options: Any) -> Iterator[CheckMessage]:
    """Django's list of hosts lets the service in."""
    host = host_of(public_url())
    allowed = allowed_hosts()
    if not allowed:
        problem = "ALLOWED_HOSTS is empty"
    elif host and not validate_host(host, allowed):
        problem = f"ALLOWED_HOSTS does not have {host}"
    else:
        return
    yield Warning(
        f"Django answers the service's posts with 400: {problem}.",
        hint="Add the host of the service's DJANGO_API_URL to ALLOWED_HOSTS.",
        id=f"{LABEL}.W006",
    )


def allowed_hosts() -> Sequence[str]:
    """The hosts that Django answers to, as it counts them itself."""
    return settings.ALLOWED_HOSTS or ([".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])


@check(deploy=True)
def note_hosts(**options: Any) -> Iterator[CheckMessage]:
    """A service on this machine that calls Django by a name that is not allowed."""
    allowed = allowed_hosts()
    local = host_of(str(conf.get("URL"))) in ("localhost", "127.0.0.1", "::1")
    if public_url() or not allowed or not local or any(validate_host(host, allowed) for host in ("localhost", "127.0.0.1")):
        return
    yield Info(
        "The service runs on this machine, and ALLOWED_HOSTS has neither localhost nor 127.0.0.1.",
        hint="If the service's DJANGO_API_URL names one of them, add it. If it names another, say so in "
        f'{conf.SETTING}["DJANGO_URL"], which is then checked instead.',
        id=f"{LABEL}.I005",
    )


@check(deploy=True)
def note_path(**options: Any) -> Iterator[CheckMessage]:
    """An endpoint elsewhere than where the service looks for it."""
    found = mounted() or []
    if found and all(endpoint.path != DEFAULT_PATH for endpoint in found):
        yield Info(
            f"The receiving endpoint is at {found[0].path}, and the service posts to {DEFAULT_PATH} if it is not told.",
            hint=f"Set DJANGO_PERSIST_PATH={found[0].path} at the service, slash at the end included: without it APPEND_SLASH "
            "redirects, and the service follows no redirect.",
            id=f"{LABEL}.I001",
        )


@check(deploy=True)
def note_rest_framework(**options: Any) -> Iterator[CheckMessage]:
    """An endpoint of the project's own under REST framework's global throttle or authentication."""
    for endpoint in mounted() or []:
        view = endpoint.view_class
        throttled, guarded = getattr(view, "throttle_classes", None), getattr(view, "permission_classes", None)
        names = [c.__name__ for c in [*(throttled or []), *(guarded or [])] if c.__name__ != "AllowAny"]
        if not endpoint.ours and names:
            yield Info(
                f"The project's own endpoint {endpoint.path} is subject to REST framework's {', '.join(names)}.",
                hint="A throttle makes the service wait up to an hour (429); a permission wants DJANGO_API_TOKEN at the service. "
                "Set throttle_classes = [] on the view, or mount stayafrica_messaging.urls, which has neither.",
                id=f"{LABEL}.I002",
            )


@check(deploy=True)
def note_atomic_requests(**options: Any) -> Iterator[CheckMessage]:
    """ATOMIC_REQUESTS and the outbox; and an endpoint of the project's own within it."""
    atomic = [alias for alias in connections if connections[alias].settings_dict["ATOMIC_REQUESTS"]]
    if not atomic:
        return
    yield Info(
        f"ATOMIC_REQUESTS is on ({', '.join(atomic)}): what a view sends is pushed when the view has returned, "
        "before its answer leaves.",
        hint=f'Set {conf.SETTING}["OUTBOX_PUSH"] to False and run manage.py messaging_relay, if answers must not wait for that.',
        id=f"{LABEL}.I003",
    )
    for endpoint in mounted() or []:
        exempt: Set[str] = getattr(endpoint.view, "_non_atomic_requests", set())
        if not set(atomic) <= exempt:
            yield Info(
                f"ATOMIC_REQUESTS wraps {endpoint.path} in one transaction: an error in it undoes the whole batch.",
                hint="Decorate the view with django.db.transaction.non_atomic_requests.",
                id=f"{LABEL}.I006",
            )


@check(Tags.database)
def note_skip_locked(databases: Optional[Sequence[str]] = None, **options: Any) -> Iterator[CheckMessage]:
    """Whether several relays may sweep the outbox at once. Asks the database, so only where databases are checked."""
    alias = conf.get("OUTBOX_DATABASE")
    if alias not in (databases or []) or alias not in list(connections):
        return
    if not connections[alias].features.has_select_for_update_skip_locked:
        yield Info(
            f"The database {alias} ({connections[alias].vendor}) has no SKIP LOCKED.",
            hint="Run one manage.py messaging_relay, not several.",
            id=f"{LABEL}.I004",
        )


def public_url() -> str:
    """The address of this Django as the service calls it, where the project says so."""
    return str(conf.get("DJANGO_URL") or "")


def host_of(url: str) -> str:
    """The host of an address, empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def mounted() -> Optional[List[Endpoint]]:
    """The endpoints for the service; None where the URLconf does not import, which Django's own checks say."""
    try:
        return endpoints()
    except Exception:  # a project's URLconf may raise anything
        return None
