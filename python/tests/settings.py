"""Settings of the tests.

``TEST_DATABASE`` chooses the database, ``sqlite`` (the default) or
``postgresql``. The latter is a private server that conftest.py starts, or the server
of ``TEST_POSTGRES_DSN``: ``postgresql://user:password@host:port/name``.
"""

from __future__ import annotations

import os
import tempfile

from . import postgres

TEST_DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
if TEST_DATABASE not in ("sqlite", "postgresql"):
    raise ValueError("TEST_DATABASE must be sqlite or postgresql")

if TEST_DATABASE == "postgresql" and not postgres.missing():
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            **postgres.settings_of(os.environ.get("TEST_POSTGRES_DSN", "")),
        }
    }
else:
    # A file, so that threads and processes share one database with real locks. conftest.py
    # creates the directory, and removes it after the last test.
    _file = os.path.join(
        os.environ.setdefault(
            "MESSAGING_TESTS_DIRECTORY", os.path.join(tempfile.gettempdir(), f"messaging-tests-{os.getpid()}")
        ),
        "tests.sqlite3",
    )
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _file,
            "OPTIONS": {"timeout": 20},
            "TEST": {"NAME": _file},
        }
    }

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "stayafrica_messaging",
    "tests.chat",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Most tests of the endpoint are not about authentication. Those that are set a dictionary of their own.
STAYAFRICA_MESSAGING: dict = {"ALLOW_UNSIGNED": True}
