"""How long a line takes from the rescue system's write to the page: a real sshd, driver, web server and browser.

Measured twice: pages and driver in one process, as `manage.py serve` runs them, where hints tell the page that there is
more; and in two processes with the in-memory channel layer, where the page finds out by looking once a second.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.core.management import call_command
from django.test import Client
from playwright.sync_api import Page, sync_playwright

from bench.report import ROOT, table
from bench.rescued import LINES, make_rescued
from deploy.jobs import ROOT as JOBS
from tests import sshd
from tests.builders import make_project, make_user
from tests.ports import free_port

BROWSERS = ("chromium", "google-chrome", "google-chrome-stable")

# The line says when it was written; clock and machine are the same.
WATCH = r"""
window.sightings = [];
new MutationObserver((changes) => {
  const now = Date.now();
  for (const node of changes.flatMap((change) => [...change.addedNodes])) {
    for (const text of node.querySelectorAll?.(".log-text") ?? []) {
      const [, number, written] = text.textContent.match(/^line (\d+) (\d+\.\d+)$/) ?? [];
      if (number) window.sightings.push([Number(number), now - 1000 * Number(written)]);
    }
  }
}).observe(document, { childList: true, subtree: true });
"""
SHOWN = r"""[...document.querySelectorAll(".log-text")]
  .map((text) => text.textContent.match(/^line (\d+) \d/)?.[1]).filter(Boolean).map(Number)"""


@contextmanager
def process(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A Python process of this Landfall, ended at the end."""
    started = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait()


def wait_for_server(port: int) -> None:
    """Returns once somebody listens there."""
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("The web server did not start within 30 s.")


def watched(page: Page, url: str, driver: "subprocess.Popen[str]") -> tuple[dict[int, float], list[int]]:
    """The ms until each line was first seen, and the numbers of the lines that the page shows at the end."""
    page.add_init_script(WATCH)
    with page.expect_websocket():
        page.goto(url)
    assert driver.stdin
    driver.stdin.write("go\n")
    driver.stdin.flush()
    page.wait_for_selector("#install[data-live=no]", state="attached", timeout=120_000)
    page.wait_for_timeout(2000)  # a line too many would still come
    first: dict[int, float] = {}
    for number, latency in page.evaluate("window.sightings"):
        first.setdefault(number, latency)
    return first, page.evaluate(SHOWN)


def measure(one_process: bool) -> tuple[object, ...]:
    """The row of the table for pages and driver in one process, or in two."""
    project = make_project()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(make_user(projects=[project]))
    port = free_port()
    with ExitStack() as stack:
        install = make_rescued(stack.enter_context(sshd.running()), project)
        stack.callback(shutil.rmtree, Path(JOBS) / str(install.uuid), ignore_errors=True)
        if one_process:
            driver = stack.enter_context(process("-m", "bench.rescued", str(port)))
        else:
            stack.enter_context(process("manage.py", "serve", "--no-worker", "--port", str(port)))
            driver = stack.enter_context(process("-m", "bench.rescued"))
        wait_for_server(port)
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=os.environ.get("LANDFALL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
        )
        stack.callback(browser.close)
        context = browser.new_context(base_url=f"http://127.0.0.1:{port}")
        session = client.cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": f"http://127.0.0.1:{port}"}])
        latencies, shown = watched(context.new_page(), install.get_absolute_url(), driver)
    return (
        "one process" if one_process else "two processes",
        len(shown),
        "yes" if shown == list(range(1, LINES + 1)) else "NO",
        *(f"{ms:.0f}" for ms in (*percentiles(latencies.values()), latencies[1])),
    )


def percentiles(latencies: Iterable[float]) -> tuple[float, float, float]:
    """p50, p99 and the longest."""
    ordered = sorted(latencies)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]


def main() -> None:
    if sshd.USER != "root":
        raise SystemExit("A rescue system is entered as root: run this as root.")
    call_command("migrate", verbosity=0)
    head = ("pages and driver in", "lines", f"1 to {LINES}, each once", "p50, ms", "p99, ms", "max, ms", "first, ms")
    print(table(head, [measure(one_process=True), measure(one_process=False)]))


if __name__ == "__main__":
    main()
