"""A real site: the server process, a feeder beside it, and Chromium in front of it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext, Page

from tests import chromium as browser
from tests.builders import PASSWORD
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


class Site:
    """Landfall on a database of its own; `kill` and `start` are those of a machine that loses power."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "LANDFALL_VAR": str(folder),
            "LANDFALL_URL": self.url,
            "LANDFALL_SECRET_KEY": secrets.token_urlsafe(50),
            "LANDFALL_LIMIT_IMAGE": "2",
            "LANDFALL_SEAL_KEYS": Fernet.generate_key().decode(),
        }
        self.environment.pop("DATABASE_URL", None)
        self.log = (folder / "serve.log").open("ab")
        subprocess.run(self._manage("migrate", "--verbosity=0"), env=self.environment, cwd=ROOT, check=True)
        self.feeder = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.feeder"], env=self.environment, cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.ask("people")
        self.start()

    def _manage(self, *words: str) -> list[str]:
        return [sys.executable, "manage.py", *words]

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        serve = self._manage("serve", "--no-worker", f"--port={self.port}")
        self.server = subprocess.Popen(serve, env=self.environment, cwd=ROOT, stdout=self.log, stderr=self.log)
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/login/", timeout=5)
            except (urllib.error.URLError, ConnectionError):
                assert self.server.poll() is None, (self.folder / "serve.log").read_text()
                time.sleep(0.1)
            else:
                return
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """Ends the server as the kernel would: no farewell, nothing flushed."""
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def ask(self, name: str, *given: Any, **more: Any) -> Any:
        """Has the feeder do something; what it answers."""
        assert self.feeder.stdin
        assert self.feeder.stdout
        self.feeder.stdin.write(json.dumps([name, given, more]) + "\n")
        self.feeder.stdin.flush()
        return json.loads(self.feeder.stdout.readline())

    def stop(self) -> None:
        """Ends both processes."""
        self.kill()
        self.feeder.kill()
        self.feeder.wait()
        self.log.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, shared by all tests in here: each makes its own servers and installs."""
    site = Site(tmp_path_factory.mktemp("var"))
    yield site
    site.stop()


def log_in(context: BrowserContext, site: Site, name: str) -> Page:
    """A page in which somebody is logged in."""
    page = context.new_page()
    page.goto(f"{site.url}/login/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    page.wait_for_url(f"{site.url}/")
    return page


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's own Chromium, without a window. While it runs, its thread must not ask the database."""
    with browser.running() as running:
        yield running


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A customer's page; the test fails when the browser complains of a script or of the content security policy."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = log_in(context, site, "carla")
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    yield page
    context.close()
    assert complaints == []


@pytest.fixture
def plain_page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A customer's page in a browser without scripts."""
    context = chromium.new_context(java_script_enabled=False)
    yield log_in(context, site, "carla")
    context.close()


@pytest.fixture
def ops_page(chromium: Browser, site: Site) -> Iterator[Page]:
    """A page of somebody of ops."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield log_in(context, site, "otto")
    context.close()
