"""Settings of a process that a test starts: the service is what the environment says."""

from __future__ import annotations

import os

from .settings import *  # noqa: F401, F403

STAYAFRICA_MESSAGING = {
    "URL": os.environ.get("ERLANG_MESSAGING_URL", ""),
    "TOKEN": os.environ.get("MESSAGING_TOKEN", ""),
    "SECRET": "a long random text",
}
