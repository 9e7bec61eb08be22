"""Webhooks and workers in a real browser, with a real worker behind it: what changes is seen without a reload."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.simulation import Landfall
from tests.deploy import receiver
from tests.deploy.receiver import Receiver
from tests.ports import free_port

pytestmark = pytest.mark.browser

PATIENCE = 30_000
"""Milliseconds."""
PREPARE = """
from accounts.models import Membership, Project, Role, User
shop = Project.objects.create(name="Shop", slug="shop")
carla = User.objects.create_user("carla", password="correct horse")
Membership.objects.create(user=carla, project=shop)
User.objects.create_user("otto", password="correct horse", role=Role.OPS)
"""


@pytest.fixture(scope="module")
def landfall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landfall]:
    """A Landfall with a worker that may send to this machine."""
    folder: Path = tmp_path_factory.mktemp("landfall")
    landfall = Landfall(folder, f"sqlite:///{folder / 'landfall.sqlite3'}", free_port())
    landfall.env = {**landfall.env, "LANDFALL_WEBHOOK_HTTP": "1", "LANDFALL_WEBHOOK_NETWORKS": "127.0.0.0/8"}
    try:
        landfall.manage("migrate", "--verbosity=0")
        landfall.manage("shell", "--verbosity=0", "-c", PREPARE)
        landfall.web("--slots", "2")
        yield landfall
    finally:
        landfall.stop()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver.running() as server:
        yield server


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A page; the test fails when the browser complains of a script or of the content security policy."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    yield page
    context.close()
    assert complaints == []


def log_in(page: Page, landfall: Landfall, name: str) -> None:
    page.goto(f"{landfall.url}/login/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", "correct horse")
    page.click("main button")
    page.wait_for_url(f"{landfall.url}/")


def test_a_customer_adds_a_webhook_tests_it_and_sees_it_delivered_without_a_reload(
    tab: Page, landfall: Landfall, hook: Receiver
) -> None:
    log_in(tab, landfall, "carla")
    tab.get_by_role("link", name="Projects").click()
    tab.get_by_role("link", name="Webhooks").click()
    tab.get_by_label("Address").fill(hook.url)
    tab.get_by_role("button", name="Add webhook").click()
    assert tab.locator("#secret code").inner_text().startswith("whsec_")
    tab.get_by_role("button", name="Send a test").click()
    tab.evaluate("window.stayed = true")
    expect(tab.locator("#deliveries")).to_contain_text("delivered", timeout=PATIENCE)
    assert tab.evaluate("window.stayed")
    assert len(hook.received) == 1
    hook.answers = [receiver.status(500)]
    tab.get_by_role("button", name="Send again").click()
    expect(tab.locator("#deliveries")).to_contain_text("given up", timeout=PATIENCE)
    expect(tab.locator("#deliveries")).to_contain_text("answered 500 Internal Server Error")


def test_ops_see_a_worker_come_and_go_without_a_reload(tab: Page, landfall: Landfall) -> None:
    log_in(tab, landfall, "otto")
    tab.goto(f"{landfall.url}/board/")
    tab.get_by_role("link", name="Workers").click()
    expect(tab.locator("#workers")).to_contain_text("at work", timeout=PATIENCE)
    tab.evaluate("window.stayed = true")
    other = landfall.worker(3)
    expect(tab.locator("#workers")).to_contain_text(f"-{other.pid}", timeout=PATIENCE)
    other.terminate()
    expect(tab.locator("#workers")).not_to_contain_text(f"-{other.pid}", timeout=PATIENCE)
    assert tab.evaluate("window.stayed")


def test_who_is_logged_out_meanwhile_is_asked_to_log_in(tab: Page, landfall: Landfall) -> None:
    log_in(tab, landfall, "otto")
    tab.goto(f"{landfall.url}/workers/")
    tab.context.clear_cookies()
    tab.wait_for_url("**/login/?next=/workers/", timeout=PATIENCE)
