"""Rows are written in few queries, also if one statement does not fit all of them."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Lower

from stayafrica_messaging import bulk

from .chat.models import Note, Room
from .fixtures_receive import queries

pytestmark = pytest.mark.django_db


def bodies() -> list[str]:
    return list(Note.objects.order_by("pk").values_list("body", flat=True))


def test_nothing_asks_nothing():
    with queries() as seen:
        assert bulk.existing(Note, "pk", [], "default") == set()
        bulk.insert([], "default")
    assert seen == []


def test_more_values_than_a_statement_takes():
    bulk.insert([Note(pk=f"{n:04}", body="x") for n in range(2000)], "default")
    wanted = [f"{n:04}" for n in range(0, 4000, 2)]
    assert bulk.existing(Note, "pk", wanted, "default") == {f"{n:04}" for n in range(0, 2000, 2)}


def test_rows_that_were_inserted_can_be_saved_again():
    rows = [Note(pk="a", body="first"), Note(pk="b", body="second")]
    bulk.insert(rows, "default")
    rows[0].body = "changed"
    rows[0].save()
    assert bodies() == ["changed", "second"]


def test_values_that_the_database_computes():
    bulk.insert([Note(pk="a", body=Lower(Value("LOUD"))), Note(pk="b", body="plain")], "default")
    assert bodies() == ["loud", "plain"]


def test_keys_that_only_some_rows_have():
    bulk.insert([Room(pk=70), Room()], "default")
    assert Room.objects.count() == 2 and Room.objects.filter(pk=70).exists()


def test_conflicts_may_be_ignored():
    bulk.insert([Note(pk="a", body="first")], "default")
    bulk.insert([Note(pk="a", body="second"), Note(pk="b", body="new")], "default", ignore_conflicts=True)
    assert bodies() == ["first", "new"]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has its own insert")
def test_it_inserts_what_django_would():
    users = get_user_model()
    bulk.insert([users(username="ours", email="a@b")], "default")
    users.objects.bulk_create([users(username="django", email="a@b")])
    ours, theirs = users.objects.filter(username__in=("ours", "django")).order_by("pk").values()
    for row in (ours, theirs):
        for varying in ("id", "username", "date_joined"):
            assert row.pop(varying)
    assert ours == theirs
