"""Reading and writing many rows in few queries, on every database."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Sequence

from django.db import connections, models


def existing(model: type[models.Model], field: str, values: Iterable[Any], using: str) -> set[Any]:
    """Those of `values` that some row has in `field`: one query, where the database
    bounds the parameters of one (SQLite: 999) one for each so many."""
    wanted = list(values)
    found: set[Any] = set()
    if not wanted:
        return found
    size = connections[using].features.max_query_params or len(wanted)
    rows = model._base_manager.using(using)
    for start in range(0, len(wanted), size):
        chunk = wanted[start : start + size]
        found.update(rows.filter(**{f"{field}__in": chunk}).order_by().values_list(field, flat=True))
    return found


def insert(rows: Sequence[models.Model], using: str, ignore_conflicts: bool = False) -> None:
    """Inserts rows of one model in one query, in their order.

    It is ``bulk_create``, but for SQLite, where that splits them so that no
    statement has more than 999 parameters: 7 statements for 500 messages. One
    prepared statement that runs for each row has no such bound.
    """
    if not rows:
        return
    statement = _for_each_row(rows, using, ignore_conflicts) if connections[using].vendor == "sqlite" else None
    if statement is None:
        type(rows[0])._base_manager.using(using).bulk_create(rows, ignore_conflicts=ignore_conflicts)
        return
    with connections[using].cursor() as cursor:
        cursor.executemany(*statement)
    for row in rows:
        row._state.adding = False
        row._state.db = using


def _for_each_row(
    rows: Sequence[models.Model], using: str, ignore_conflicts: bool
) -> Optional[tuple[str, list[list[Any]]]]:
    """A statement and the parameters of each row; None where one statement does not
    fit all: keys that only some have, values that the database computes."""
    connection = connections[using]
    meta = rows[0]._meta
    for row in rows:
        if row.pk is None:
            row.pk = meta.pk.get_pk_value_on_save(row)
    without_key = [row.pk is None for row in rows]
    if any(without_key) != all(without_key) or meta.parents:
        return None
    fields = [
        field
        for field in meta.local_concrete_fields
        if not (field.primary_key and all(without_key)) and not getattr(field, "generated", False)
    ]
    values = [[field.pre_save(row, True) for field in fields] for row in rows]
    if any(hasattr(value, "resolve_expression") for row in values for value in row):
        return None
    parameters = [[f.get_db_prep_save(value, connection) for f, value in zip(fields, row)] for row in values]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(field.column) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    verb = "INSERT OR IGNORE INTO" if ignore_conflicts else "INSERT INTO"
    return f"{verb} {quote(meta.db_table)} ({columns}) VALUES ({places})", parameters
