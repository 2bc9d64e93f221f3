"""Outages of the database: 503 and nothing stored, and normal operation afterwards."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from django.db import OperationalError, connection
from django.test import Client

from stayafrica_messaging.adapters import ModelAdapter
from stayafrica_messaging.models import Conversation, Message

from .fixtures_receive import accounted, message, messages, post

pytestmark = pytest.mark.django_db(transaction=True)
HEALTH = "/api/messaging/erlang/health/"


def refused_for_now(batch) -> None:
    response = post(batch)
    assert response.status_code == 503 and int(response["Retry-After"]) > 0
    assert response.json() == {"error": "the database failed"}


def nothing_is_stored() -> bool:
    return not Message.objects.exists() and not Conversation.objects.exists()


@contextlib.contextmanager
def without_table(model):
    """Removes a table, as if a migration were missing."""
    table, aside = model._meta.db_table, "put_aside"
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{table}" RENAME TO {aside}')
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f'ALTER TABLE {aside} RENAME TO "{table}"')


@pytest.mark.parametrize("model", [Message, Conversation])
def test_a_table_is_missing(model):
    with without_table(model):
        refused_for_now(messages(3))
    assert nothing_is_stored()
    assert accounted(messages(3)) == (3, 0, [])


def test_health_tells():
    with without_table(Message):
        assert Client().get(HEALTH).status_code == 503
    assert Client().get(HEALTH).status_code == 200


@pytest.mark.parametrize("hook", ["look_up", "before_insert", "after_insert"])
def test_an_outage_at_any_moment_leaves_nothing_behind(monkeypatch, hook):
    def fail(*_):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(ModelAdapter, hook, fail)
    refused_for_now(messages(3))
    assert nothing_is_stored()


def test_an_outage_while_a_bad_row_is_looked_for(monkeypatch):
    """Halves that were stored before are rolled back, too."""
    seen = []

    def count(self, pairs):
        seen.append(len(pairs))
        if seen == [4, 2, 1]:
            raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(ModelAdapter, "after_insert", count)
    poison = message(8)
    monkeypatch.setattr(ModelAdapter, "build", poisoned(ModelAdapter.build, poison["id"]))
    refused_for_now(messages(8))
    assert seen == [4, 2, 1] and nothing_is_stored()


def poisoned(build, key):
    def built(self, message):
        row = build(self, message)
        if str(message.id) == key:
            row.text = None
        return row

    return built


def test_what_is_malformed_waits_with_the_rest():
    with without_table(Message):
        refused_for_now([*messages(2), message(3, text=None)])


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has one writer at a time")
def test_another_writes_for_too_long():
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        refused_for_now(messages(3))
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert accounted(messages(3)) == (3, 0, [])
    connection.close()  # it has a short time-out


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
class TestServer:
    """Outages of PostgreSQL."""

    def test_it_is_stopped_and_started(self, postgres_server):
        if postgres_server is None:
            pytest.skip("only the private server can be stopped")
        accounted(messages(2))
        postgres_server.stop()
        try:
            refused_for_now(messages(3))  # its connection is broken
            connection.close()  # as Django does at the end of a request
            refused_for_now(messages(3))  # a new one cannot be opened
            assert Client().get(HEALTH).status_code == 503
        finally:
            postgres_server.start()
            connection.close()
        assert accounted(messages(3)) == (1, 2, [])

    def test_it_cuts_the_connection_in_the_middle(self, monkeypatch):
        def cut(self, pairs):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        with monkeypatch.context() as patch:
            patch.setattr(ModelAdapter, "after_insert", cut)
            refused_for_now(messages(3))
        connection.close()
        assert nothing_is_stored()
        assert accounted(messages(3)) == (3, 0, [])
