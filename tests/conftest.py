"""What every test can ask for, and which tests run on which database."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import connection, connections
from django.test import TransactionTestCase

from deploy import appendonly, live
from deploy.pglayer import PostgresChannelLayer
from tests import postgres
from tests.settings import ON_POSTGRES

ENGINE = "postgresql" if ON_POSTGRES else "sqlite"


@pytest.fixture(scope="session")
def engine() -> str:
    """The database under test: 'sqlite' or 'postgresql'."""
    return ENGINE


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """The database server, started before the first test that needs it. pytest-django's own hook for that."""
    if not ON_POSTGRES:
        yield
        return
    with postgres.cluster() as cluster:
        settings.DATABASES["default"]["HOST"] = str(cluster.folder)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """The tables; whoever is connected hangs up before the database is dropped."""
    yield
    layer = get_channel_layer()
    if isinstance(layer, PostgresChannelLayer):
        live.flush()
        layer.hang_up()
    if ON_POSTGRES:
        # what async tests asked of the database was asked in a thread of asgiref's, which keeps its connection
        SyncToAsync.single_thread_executor.submit(connections.close_all).result()
        connection.close()
        connection.close_pool()
        postgres.wait_until_left(settings.DATABASES["default"]["HOST"], connection.settings_dict["NAME"])


@pytest.fixture(scope="session", autouse=True)
def _tables_can_be_emptied() -> Iterator[None]:
    """After a test that commits, Django empties all tables; events and logs refuse that, as they should."""
    empty_all = TransactionTestCase._fixture_teardown

    def empty_all_unprotected(case: TransactionTestCase) -> None:
        protected = "deploy_event" in connection.introspection.table_names()
        with appendonly.lifted(connection) if protected else contextlib.nullcontext():
            empty_all(case)

    TransactionTestCase._fixture_teardown = empty_all_unprotected  # type: ignore[method-assign]
    yield
    TransactionTestCase._fixture_teardown = empty_all  # type: ignore[method-assign]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of the other database."""
    other = "sqlite" if ON_POSTGRES else "postgres"
    foreign = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=foreign)
    items[:] = [item for item in items if item not in foreign]


def pytest_report_header(config: Any) -> str:
    return f"database: {ENGINE}"
