"""The system's own Chromium, without a window; it is never downloaded."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "google-chrome", "google-chrome-stable")


def executable() -> str:
    """The browser's path: `LANDFALL_CHROMIUM`, else the first that is installed."""
    named = os.environ.get("LANDFALL_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "no Chromium here: bin/setup --test installs it, LANDFALL_CHROMIUM names another"
    return found


@contextmanager
def running() -> Iterator[Browser]:
    """The browser; sandboxed by nothing, because the tests may run as root and open pages of their own alone."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
