"""The settings of the package, read in one place.

They stand in one dictionary of the project's settings::

    STAYAFRICA_MESSAGING = {
        "URL": "http://messaging:8765",
        "SECRET": os.environ["ERLANG_SHARED_SECRET"],
    }

:func:`get` reads each at the moment it is asked for, so that tests may override
settings. The names ``ERLANG_MESSAGING_URL`` and ``ERLANG_SHARED_SECRET``, as
settings or in the environment, are honoured where the dictionary is silent.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Union

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

#: The name of the dictionary in the project's settings.
SETTING = "STAYAFRICA_MESSAGING"

#: Every setting there is, with its default. Times are in seconds, sizes in bytes.
DEFAULTS: Mapping[str, Any] = {
    # The service, as the client reaches it.
    "URL": "http://127.0.0.1:8765",
    "TOKEN": "",  # one of the service's API_TOKENS
    "TIMEOUT": 5.0,
    "CONNECT_TIMEOUT": 2.0,
    "RETRIES": 3,
    "POOL": 10,
    # What the service must show to be let in.
    "SECRET": "",
    "SIGNING_KEYS": [],  # when there are some, a valid signature is required
    "SIGNATURE_TOLERANCE": 300,
    "SIGNED_PATH": None,  # the path as the service calls it, where a proxy changes it
    # This Django as the service calls it (its DJANGO_API_URL), for the checks.
    "DJANGO_URL": "",
    # The receiving endpoint.
    "ADAPTER": "stayafrica_messaging.adapters.ModelAdapter",
    "MAX_BODY": 16 * 1024 * 1024,
    # The outbox.
    "OUTBOX_PUSH": True,  # push when the transaction commits; else only the relay does
    "OUTBOX_KEEP_DAYS": 7,
    "OUTBOX_MAX_ATTEMPTS": 0,  # 0: for ever
    "OUTBOX_DATABASE": "default",
}

#: Names of the system before this one, as settings or in the environment.
FORMER_NAMES: Mapping[str, str] = {
    "URL": "ERLANG_MESSAGING_URL",
    "SECRET": "ERLANG_SHARED_SECRET",
}


def get(name: str) -> Any:
    """The value in force of a setting of :data:`DEFAULTS`; KeyError for another name."""
    default = DEFAULTS[name]
    configured = _dictionary()
    if name in configured:
        return _checked(name, configured[name])
    if name in FORMER_NAMES:
        former = FORMER_NAMES[name]
        return getattr(settings, former, None) or os.environ.get(former) or default
    return default


def unknown() -> list[str]:
    """Names in the project's dictionary that mean nothing: misspelled ones."""
    return sorted(name for name in _dictionary() if name not in DEFAULTS)


def _dictionary() -> Mapping[str, Any]:
    configured = getattr(settings, SETTING, None) or {}
    if not isinstance(configured, Mapping):
        raise ImproperlyConfigured(f"{SETTING} must be a dictionary")
    return configured


def _checked(name: str, value: Any) -> Any:
    return _keys(value) if name == "SIGNING_KEYS" else value


def _keys(value: Any) -> list[Union[str, bytes]]:
    """One key is a list of one. An empty key, which is what an unset variable
    leaves, would let everybody sign, and no key at all would let everybody in."""
    if value is None:
        return []
    keys = [value] if isinstance(value, (str, bytes)) else list(value)
    if not all(keys):
        raise ImproperlyConfigured(f'{SETTING}["SIGNING_KEYS"] has an empty key')
    return keys
