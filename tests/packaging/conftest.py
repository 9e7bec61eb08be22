"""A Landfall in several processes, as on several hosts: PostgreSQL, web, workers; and simulated servers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.simulation import Landfall
from tests import postgres
from tests.ports import free_port
from tests.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]

_PEOPLE = """
from tests.builders import make_user
make_user("ops", name="otto")
"""

_REQUEST = """
from lab.simulation.inventory import request
from servers.models import Server
import json
print(json.dumps([str(request(server).uuid) for server in Server.objects.order_by("name")[{first}:{last}]]))
"""


_TOKEN = """
from datetime import timedelta
from metadata import tokens
from metadata.models import Purpose
from tests.builders import make_install, make_server
install = make_install(make_server(power_driver="manual"))
print(tokens.mint(install.uuid, install.server, Purpose.RESCUE, timedelta(hours=1)).reveal())
"""


_number = count(1)


class Hosts(Landfall):
    """Landfall's processes on a database of their own."""

    def __init__(self, folder: Path, cluster: Cluster, database: str) -> None:
        super().__init__(folder, cluster.url(database), free_port())
        self.cluster, self.database = cluster, database
        self.set(LANDFALL_PATIENCE="0.5")

    def set(self, **variables: str) -> None:
        """Environment variables for the processes that are started from now on."""
        self.env = {**self.env, **variables}

    def request(self, first: int, last: int) -> list[str]:
        """Asks for installs of the simulated servers from `first` to before `last`; their UUIDs."""
        said = self.manage("shell", "--verbosity", "0", "-c", _REQUEST.format(first=first, last=last))
        return list(json.loads(said))

    def rescue_token(self) -> str:
        """What the rescue system of a new install would call with."""
        return self.manage("shell", "--verbosity", "0", "-c", _TOKEN).strip()

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        where = {"host": str(self.cluster.folder), "user": postgres.USER, "dbname": self.database}
        with psycopg.connect(**where, autocommit=True) as connection:
            return connection.execute(sql, parameters).fetchall()

    def kinds(self, install: str) -> list[str]:
        """The events of an install, in their order."""
        sql = "SELECT e.kind FROM deploy_event e JOIN deploy_install i ON i.id = e.install_id"
        return [kind for (kind,) in self.query(f"{sql} WHERE i.uuid = %s ORDER BY e.seq", install)]

    def status(self, install: str) -> str:
        """What its row says."""
        return str(self.query("SELECT status FROM deploy_install WHERE uuid = %s", install)[0][0])

    def said(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL for all tests in here."""
    with postgres.cluster() as cluster:
        yield cluster


def create_database(cluster: Cluster, name: str, template: str = "template1") -> None:
    with psycopg.connect(host=str(cluster.folder), user=postgres.USER, dbname="postgres", autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


@pytest.fixture(scope="session")
def prepared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with tables and somebody of ops, to be copied."""
    create_database(cluster, "prepared")
    landfall = Hosts(tmp_path_factory.mktemp("prepared"), cluster, "prepared")
    landfall.manage("migrate", "--verbosity", "0")
    landfall.manage("shell", "--verbosity", "0", "-c", _PEOPLE)
    return "prepared"


@contextmanager
def fresh(cluster: Cluster, prepared: str, folder: Path) -> Iterator[Hosts]:
    """An empty Landfall, nothing of it running; whatever was started is ended."""
    database = f"landfall_{next(_number)}"
    create_database(cluster, database, prepared)
    hosts = Hosts(folder, cluster, database)
    try:
        yield hosts
    finally:
        hosts.stop()


@pytest.fixture
def hosts(cluster: Cluster, prepared: str, tmp_path: Path) -> Iterator[Hosts]:
    """An empty Landfall for one test."""
    with fresh(cluster, prepared, tmp_path) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def shared_hosts(cluster: Cluster, prepared: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """An empty Landfall for all tests of a module."""
    with fresh(cluster, prepared, tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts
