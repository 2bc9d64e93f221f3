"""Fixtures of all tests. Fixtures of one part are in its own file."""

from __future__ import annotations

import os
import shutil
from typing import Any, Iterator, Optional

import pytest

from . import postgres

ON_POSTGRES = os.environ.get("TEST_DATABASE") == "postgresql"


def pytest_collection_modifyitems(items: list) -> None:
    """Skips all tests, with the reason, if a run for PostgreSQL does not have it."""
    missing = postgres.missing() if ON_POSTGRES else None
    if missing:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def no_data_left(request: Any) -> Iterator[None]:
    """Removes a test's files: the service reserves 200 MiB in each data directory."""
    yield
    directory = getattr(request.node, "funcargs", {}).get("tmp_path")
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Optional[postgres.Server]]:
    """The private server of this run. None if the tests use SQLite or the server of TEST_POSTGRES_DSN."""
    if not ON_POSTGRES or os.environ.get("TEST_POSTGRES_DSN"):
        yield None
        return
    with postgres.server(fsync="off", max_connections="60") as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_directory() -> Iterator[None]:
    """The directory of the SQLite database, for this run and its child processes."""
    directory = os.environ.get("MESSAGING_TESTS_DIRECTORY")
    if directory is None or os.path.exists(directory):
        yield
        return
    os.mkdir(directory, 0o700)
    yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: Optional[postgres.Server], sqlite_directory: None) -> None:
    """Points Django at the private server before the test database is created."""
    if postgres_server is not None:
        from django.db import connections

        connections["default"].settings_dict.update(postgres.settings_of(postgres_server.dsn))
