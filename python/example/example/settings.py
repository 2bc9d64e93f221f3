"""Settings of the example: those that a project needs for the messaging service, and few
others. `demo.py` starts the example with its own database and service.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EXAMPLE_DATA", BASE_DIR))

SECRET_KEY = os.environ.get("EXAMPLE_SECRET_KEY", "only for the example")
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "example.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "stayafrica_messaging",
    "chat",
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
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA / "example.sqlite3",
        "OPTIONS": {"timeout": 20},
    }
}

# Both sides read the secret and the keys from the environment. Without them the endpoint is closed.
STAYAFRICA_MESSAGING = {
    "URL": os.environ.get("MESSAGING_URL", "http://127.0.0.1:8765"),
    "SECRET": os.environ.get("DJANGO_SHARED_SECRET", ""),
    "SIGNING_KEYS": [key for key in os.environ.get("MESSAGING_SIGNING_KEYS", "").split(",") if key],
}
