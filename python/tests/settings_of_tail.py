"""Settings of a child process: the environment names the service."""

from __future__ import annotations

import os

from .settings import *  # noqa: F401, F403

STAYAFRICA_MESSAGING = {
    "URL": os.environ.get("ERLANG_MESSAGING_URL", ""),
    "TOKEN": os.environ.get("MESSAGING_TOKEN", ""),
    "SECRET": "a long random text",
}
