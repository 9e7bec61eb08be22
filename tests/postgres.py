"""A PostgreSQL server that lives as long as the tests: its own cluster, in its own folder, on a socket alone."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg

USER = "landfall"
# Nothing of it has to outlive a power cut.
_OPTIONS = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


class NoPostgres(Exception):
    """There is no server to start; the message says how to get one."""


class Cluster:
    """A server that can be stopped and started again; `folder` holds its data and its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """`DATABASE_URL` of one of its databases, for a process of its own."""
        return f"postgres://{USER}@{quote(str(self.folder), safe='')}/{database}"

    def start(self) -> None:
        """Answers when this returns."""
        settings = [f"--{option}" for option in (*_OPTIONS, f"unix_socket_directories={self.folder}")]
        command = _command("postgres", "-D", str(self.folder / "data"), *settings)
        with (self.folder / "log").open("a") as log:
            # In a session of its own: a Ctrl-C is for the tests, which still have to close their connections.
            self._server = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, start_new_session=True)
        _wait_for(self._server, self.folder)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ended, every connection with it; what was committed is there when it starts again, unless by SIGQUIT."""
        if self._server:
            self._server.send_signal(how)
            self._server.wait(timeout=30)
        self._server = None


def wait_until_left(host: str, database: str) -> None:
    """Returns once the database has no session: the server ends one a moment after its client has hung up."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    end = time.monotonic() + 10
    with psycopg.connect(host=host, user=USER, dbname="postgres", autocommit=True) as admin:
        while admin.execute(sessions, [database]).fetchone() != (0,) and time.monotonic() < end:
            time.sleep(0.05)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A fresh, empty server; gone afterwards, and gone too when the tests are killed."""
    # A path that the user postgres can reach, and short: a socket's name has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="landfall-pg-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        _run("initdb", f"--pgdata={folder / 'data'}", f"--username={USER}", "--auth=trust", "--encoding=UTF8",
             "--no-sync", "--locale=C.UTF-8")  # fmt: skip
        server = Cluster(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # at once: nothing in it is to be kept
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user=USER, dbname="postgres").close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise NoPostgres(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}") from None
            time.sleep(0.05)


def _run(*arguments: str) -> None:
    done = subprocess.run(_command(*arguments), cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoPostgres(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")


def _command(program: str, *arguments: str) -> list[str]:
    """The command, as a user that PostgreSQL accepts (it refuses root), ended by the kernel when we end."""
    become = ["--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    return ["setpriv", *become, "--pdeathsig=INT", str(_programs() / program), *arguments]


def _programs() -> Path:
    """The folder of the newest PostgreSQL that is installed: Debian keeps it off the PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    raise NoPostgres("PostgreSQL is not installed: `bin/setup --test` does it.")
