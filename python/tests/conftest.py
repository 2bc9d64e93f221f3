"""What all tests share. Fixtures of one part are in that part's own file."""

from __future__ import annotations

import os
import shutil
from typing import Any, Iterator, Optional

import pytest

from . import postgres

ON_POSTGRES = os.environ.get("TEST_DATABASE") == "postgresql"


def pytest_collection_modifyitems(items: list) -> None:
    """Without PostgreSQL a run that is meant for it skips all, and says why."""
    missing = postgres.missing() if ON_POSTGRES else None
    if missing:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True)
def no_data_left(request: Any) -> Iterator[None]:
    """Removes what a test kept on disk: the service sets 200 MiB aside in each data directory."""
    yield
    directory = getattr(request.node, "funcargs", {}).get("tmp_path")
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Optional[postgres.Server]]:
    """The private server of this run; None where the tests use SQLite or one that was named."""
    if not ON_POSTGRES or os.environ.get("TEST_POSTGRES_DSN"):
        yield None
        return
    with postgres.server(fsync="off", max_connections="60") as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_directory() -> Iterator[None]:
    """The directory of the SQLite database, for this run and the processes that it starts."""
    directory = os.environ.get("MESSAGING_TESTS_DIRECTORY")
    if directory is None or os.path.exists(directory):
        yield
        return
    os.mkdir(directory, 0o700)
    yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: Optional[postgres.Server], sqlite_directory: None) -> None:
    """Points Django at the private server before the test database is made."""
    if postgres_server is not None:
        from django.db import connections

        connections["default"].settings_dict.update(postgres.settings_of(postgres_server.dsn))
