"""The settings of the package, all read here.

They are in one dictionary in the project's settings::

    STAYAFRICA_MESSAGING = {
        "URL": "http://messaging:8765",
        "SECRET": os.environ["ERLANG_SHARED_SECRET"],
    }

:func:`get` reads a setting on each call, so tests can override settings. If the
dictionary lacks them, ``ERLANG_MESSAGING_URL`` and ``ERLANG_SHARED_SECRET`` are read
from the settings or the environment.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Union

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

#: The name of the dictionary in the project's settings.
SETTING = "STAYAFRICA_MESSAGING"

#: All settings with their defaults. Times are in seconds, sizes in bytes.
DEFAULTS: Mapping[str, Any] = {
    # The service, as the client calls it.
    "URL": "http://127.0.0.1:8765",
    "TOKEN": "",  # one of the service's API_TOKENS
    "TIMEOUT": 5.0,
    "CONNECT_TIMEOUT": 2.0,
    "RETRIES": 3,
    "POOL": 10,
    # The credentials that the service must send.
    "SECRET": "",
    "SIGNING_KEYS": [],  # if not empty, a valid signature is required
    "SIGNATURE_TOLERANCE": 300,
    "SIGNED_PATH": None,  # the path that the service requests, if a proxy changes it
    "ALLOW_UNSIGNED": False,  # True, for development: the endpoint is open without a secret and signing keys
    # The address that the service uses for this Django (its DJANGO_API_URL), for the checks.
    "DJANGO_URL": "",
    # The receiving endpoint.
    "ADAPTER": "stayafrica_messaging.adapters.ModelAdapter",
    "MAX_BODY": 16 * 1024 * 1024,
    # The outbox.
    "OUTBOX_PUSH": True,  # push when the transaction commits; False leaves it to the relay
    "OUTBOX_KEEP_DAYS": 7,
    "OUTBOX_MAX_ATTEMPTS": 0,  # 0: no limit
    "OUTBOX_DATABASE": "default",
}

#: The names of the earlier system, in the settings or the environment.
FORMER_NAMES: Mapping[str, str] = {
    "URL": "ERLANG_MESSAGING_URL",
    "SECRET": "ERLANG_SHARED_SECRET",
}


def get(name: str) -> Any:
    """Returns the current value of a setting in :data:`DEFAULTS`. Raises KeyError for another name."""
    default = DEFAULTS[name]
    configured = _dictionary()
    if name in configured:
        return _checked(name, configured[name])
    if name in FORMER_NAMES:
        former = FORMER_NAMES[name]
        return getattr(settings, former, None) or os.environ.get(former) or default
    return default


#: Why a closed endpoint refuses a message, and what to do. The endpoint and the checks use the same words.
CLOSED = "the endpoint has neither a secret nor signing keys, so it refuses every message"
CLOSED_REMEDY = (
    "set SECRET here and DJANGO_SHARED_SECRET at the service to the same long random string, or SIGNING_KEYS in both; "
    "ALLOW_UNSIGNED = True opens the endpoint for development"
)


def has_credentials() -> bool:
    """Whether the receiving endpoint can authenticate the service. An empty secret counts as none."""
    return bool(get("SECRET") or get("SIGNING_KEYS"))


def closed() -> bool:
    """Whether the receiving endpoint refuses every message.

    Only the value True opens an endpoint without credentials. A text such as "false",
    from an environment variable, must not.
    """
    return get("ALLOW_UNSIGNED") is not True and not has_credentials()


def unknown() -> list[str]:
    """Returns names in the project's dictionary that are not settings, such as misspelled ones."""
    return sorted(name for name in _dictionary() if name not in DEFAULTS)


def _dictionary() -> Mapping[str, Any]:
    configured = getattr(settings, SETTING, None) or {}
    if not isinstance(configured, Mapping):
        raise ImproperlyConfigured(f"{SETTING} must be a dictionary")
    return configured


def _checked(name: str, value: Any) -> Any:
    return _keys(value) if name == "SIGNING_KEYS" else value


def _keys(value: Any) -> list[Union[str, bytes]]:
    """Returns the keys as a list. A single key is a list of one.

    An empty key, such as from an unset variable, is an error: every caller could sign
    with it. Dropping it could leave no key, and then no signature would be required.
    """
    if value is None:
        return []
    keys = [value] if isinstance(value, (str, bytes)) else list(value)
    if not all(keys):
        raise ImproperlyConfigured(f'{SETTING}["SIGNING_KEYS"] contains an empty key')
    return keys
