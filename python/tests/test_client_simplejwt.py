"""The access tokens of Django SimpleJWT, as they are, with the real service."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from stayafrica_messaging import MessagingClient, errors

from .fixtures_client import StartService

pytest_plugins = ["tests.fixtures_client"]

tokens = pytest.importorskip("rest_framework_simplejwt.tokens", reason="Django SimpleJWT is not installed")

BACKEND = "the-token-of-the-backend"


class User:
    """What SimpleJWT reads of a user."""

    is_active = True

    def __init__(self, pk: Any) -> None:
        self.pk = self.id = pk


@pytest.fixture
def secret() -> str:
    """The key with which SimpleJWT signs: Django's SECRET_KEY."""
    from rest_framework_simplejwt.state import token_backend

    assert token_backend.signing_key == settings.SECRET_KEY
    return settings.SECRET_KEY


@pytest.mark.parametrize("pk", [789, "6f9d2f3c-9d3b-4e5b-8a93-6b4f0e2a1c77"])
def test_a_user_reads_their_own_queue(start_service: StartService, secret: str, pk: Any) -> None:
    service = start_service(API_TOKENS=f"backend:{BACKEND}", JWT_SECRET=secret)
    with MessagingClient(service.url, token=BACKEND) as backend:
        backend.send(1, 2, pk, "Hello")
        backend.send(1, 2, 790, "for another user")
    token = tokens.AccessToken.for_user(User(pk))
    with MessagingClient(service.url, token=str(token)) as user:
        with pytest.raises(errors.Forbidden):
            user.take(790)
        with pytest.raises(errors.Forbidden):
            user.send(1, pk, 790, "no")
        (message,) = user.lease(pk, 30)
        assert message.text == "Hello"
        assert user.ack(pk, [message]) == {message.receipt: "acked"}


@pytest.mark.parametrize("kind", ["refresh", "expired", "another key"])
def test_other_tokens_are_refused(start_service: StartService, secret: str, kind: str) -> None:
    key = secret if kind != "another key" else "another secret of another project"
    service = start_service(API_TOKENS=f"backend:{BACKEND}", JWT_SECRET=key)
    token = tokens.RefreshToken.for_user(User(789)) if kind == "refresh" else tokens.AccessToken.for_user(User(789))
    if kind == "expired":
        token.set_exp(lifetime=timedelta(minutes=-1))
    with MessagingClient(service.url, token=str(token)) as user, pytest.raises(errors.Unauthorized):
        user.take(789)


def test_a_user_sends_as_themselves(start_service: StartService, secret: str) -> None:
    service = start_service(API_TOKENS=f"backend:{BACKEND}", JWT_SECRET=secret, JWT_SEND="true", JWT_SEND_TO="any")
    with MessagingClient(service.url, token=str(tokens.AccessToken.for_user(User(789)))) as user:
        assert user.send(1, 789, 790, "from me").sequence > 0
        with pytest.raises(errors.Forbidden):
            user.send(1, 791, 790, "from another user")
