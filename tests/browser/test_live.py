"""The pages in a real browser, before a real server that is killed while one looks."""

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Site
from tests.deploy.histories import command

pytestmark = pytest.mark.browser

LOG = "#log-copy-1"


def wait_for(known: Callable[[], bool], seconds: float = 20) -> None:
    """Returns once something holds; the test fails when it does not come true in time."""
    end = time.monotonic() + seconds
    while not known():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def texts(page: Page, log: str = LOG) -> list[str]:
    """The lines of a log as they stand on the page."""
    return page.locator(f"{log} .log-text").all_text_contents()


def is_at_end(page: Page) -> bool:
    """Whether the log is scrolled to its end."""
    gap: float = page.locator(LOG).evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight")
    return gap < 24


def test_the_log_grows_without_a_reload(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "grows.example.net")
    page.goto(f"{site.url}/installs/{uuid}/")
    page.evaluate("window.sameDocument = true")
    for number in range(5):
        site.ask("feed", uuid, command(number + 1, f"echo {number}", [f"line {number} <b>&amp;</b>"]))
    wait_for(lambda: texts(page) == site.ask("lines", uuid))
    assert page.evaluate("window.sameDocument")
    assert page.locator(f"{LOG} b").count() == 0


def test_the_timeline_and_the_end_come_without_a_reload(page: Page, site: Site) -> None:
    uuid = site.ask("running", "verify", "ends.example.net")
    page.goto(f"{site.url}/installs/{uuid}/")
    page.evaluate("window.sameDocument = true")
    told = {"ssh": "debian@192.0.2.14", "port": 22, "host_keys": ["SHA256:abc"]}
    site.ask("past", uuid, "finish", "verify", **told)
    expect(page.get_by_text("You can log in.")).to_be_visible(timeout=15_000)
    expect(page.get_by_text("ssh debian@192.0.2.14")).to_be_visible()
    expect(page.locator("#row-verify")).to_have_class(re.compile("is-done"))
    assert page.title().startswith("ends.example.net: succeeded")
    assert page.evaluate("window.sameDocument")


def test_a_page_opened_before_the_first_step_moves_on_with_the_install(page: Page, site: Site) -> None:
    uuid = site.ask("queued", "queued.example.net")
    # the anchor of the reinstall's review, which browsers keep through the redirect
    page.goto(f"{site.url}/installs/{uuid}/#review")
    site.ask("past", uuid, "start", "rescue")
    site.ask("happen", uuid, "power_cycling")
    site.ask("happen", uuid, "power_cycled")
    site.ask("feed", uuid, "\x1e! The BMC has restarted the server.\n", "rescue")
    until = "2026-05-01T12:00:00+00:00"
    site.ask("happen", uuid, "step_waiting", step="rescue", attempt=1, reason="the server", until=until)
    expect(page.get_by_text("The BMC has restarted the server.")).to_be_visible(timeout=10_000)
    site.ask("happen", uuid, "rescue_ready", host_keys=[], boot_id="b")
    site.ask("feed", uuid, "\x1e! The rescue system has called.\n", "rescue")
    site.ask("past", uuid, "finish", "rescue")
    for step in ("inspect", "plan", "wipe"):
        site.ask("past", uuid, "start", step)
        site.ask("feed", uuid, f"doing {step}\n", step)
        expect(page.locator(f"#panel-{step}")).to_be_visible(timeout=10_000)
        expect(page.get_by_text(f"doing {step}")).to_be_visible(timeout=10_000)
        site.ask("past", uuid, "finish", step)


def test_scrolling_up_stops_following_and_a_button_brings_one_back(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "scrolls.example.net")
    site.ask("feed", uuid, "".join(f"line {number}\n" for number in range(150)))
    page.goto(f"{site.url}/installs/{uuid}/")
    wait_for(lambda: is_at_end(page))
    page.locator(LOG).evaluate("log => log.scrollTop = 300")
    expect(page.locator(".step-panel.is-open .log-more")).to_be_hidden()
    site.ask("feed", uuid, "new 1\nnew 2\nnew 3\n")
    more = page.locator(".step-panel.is-open .log-more")
    expect(more).to_have_text("3 new lines", timeout=10_000)
    assert page.locator(LOG).evaluate("log => log.scrollTop") == 300
    more.click()
    wait_for(lambda: is_at_end(page))
    expect(more).to_be_hidden()
    site.ask("feed", uuid, "followed again\n")
    expect(page.get_by_text("followed again")).to_be_in_viewport(timeout=10_000)


def test_a_killed_server_leaves_neither_gap_nor_double_line(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "killed.example.net")
    for number in range(40):
        site.ask("feed", uuid, f"before {number}\n")
    page.goto(f"{site.url}/installs/{uuid}/")
    page.evaluate("window.sameDocument = true")
    for round_ in range(2):
        for number in range(30):
            site.ask("feed", uuid, f"round {round_} line {number}\n")
            if number == 10:
                site.kill()
        site.start()
        site.ask("feed", uuid, f"round {round_} is over\n")
        wait_for(lambda: texts(page)[-1:] == site.ask("lines", uuid)[-1:])
        assert texts(page) == site.ask("lines", uuid)
    assert page.evaluate("window.sameDocument")
    expect(page.locator("#connection")).to_be_hidden()


def test_an_end_that_came_while_the_server_was_down_is_shown(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "fails.example.net")
    page.goto(f"{site.url}/installs/{uuid}/")
    site.kill()
    site.ask("feed", uuid, command(1, "rsync", ["no space"], status=23))
    site.ask("past", uuid, "fail", "copy")
    expect(page.locator("#connection")).to_be_visible(timeout=10_000)
    site.start()
    expect(page.locator(".failure")).to_be_visible(timeout=20_000)
    assert texts(page) == site.ask("lines", uuid)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#install-status")).to_contain_text("queued")


def test_the_page_moves_on_with_the_install_but_not_under_a_reader(page: Page, site: Site) -> None:
    uuid = site.ask("running", "mount", "moves.example.net")
    page.goto(f"{site.url}/installs/{uuid}/")
    expect(page.locator("#panel-mount")).to_be_visible()
    site.ask("past", uuid, "finish", "mount")
    site.ask("past", uuid, "start", "copy")
    site.ask("feed", uuid, "from the beginning\n")
    expect(page.locator("#panel-copy")).to_be_visible(timeout=10_000)
    wait_for(lambda: texts(page) == ["from the beginning"])
    page.click("#row-wipe a")
    expect(page.locator("#panel-wipe")).to_be_visible()
    site.ask("past", uuid, "finish", "copy")
    site.ask("past", uuid, "start", "bootable")
    expect(page.locator("#row-bootable")).to_have_class(re.compile("is-running"), timeout=10_000)
    expect(page.locator("#panel-wipe")).to_be_visible()


def test_a_finished_step_reads_its_log_when_it_is_opened(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "opens.example.net")
    for number in range(900):
        site.ask("feed", uuid, f"wiped {number}\n", step="wipe")
    page.goto(f"{site.url}/installs/{uuid}/")
    assert page.locator("#log-wipe-1 .log-line").count() == 0
    page.click("#row-wipe a")
    expect(page.get_by_text("wiped 899", exact=True)).to_be_in_viewport(timeout=10_000)
    for _ in range(6):
        earlier = page.locator("#log-wipe-1 [data-edge=before]")
        if not earlier.count():
            break
        before = page.locator("#log-wipe-1 .log-line").count()
        earlier.click()
        wait_for(lambda seen=before: page.locator("#log-wipe-1 .log-line").count() > seen)  # type: ignore[misc]
    assert texts(page, "#log-wipe-1") == site.ask("lines", uuid, "wipe")


def test_a_permalink_opens_the_step_and_marks_the_line(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "permalink.example.net")
    for number in range(900):
        site.ask("feed", uuid, f"wiped {number}\n", step="wipe")
    page.goto(f"{site.url}/installs/{uuid}/#wipe-1-L100")
    line = page.locator("#wipe-1-L100")
    expect(line).to_be_in_viewport(timeout=10_000)
    expect(line).to_have_class(re.compile("is-marked"))
    expect(line.locator(".log-text")).to_have_text("wiped 99")
    page.locator("#wipe-1-L101 .log-no").click()
    expect(page).to_have_url(re.compile(r"\?at=wipe-1-L101#wipe-1-L101$"))
    page.reload()
    expect(page.locator("#wipe-1-L101")).to_have_class(re.compile("is-marked"), timeout=10_000)


def test_one_searches_in_the_log(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "search.example.net")
    site.ask("feed", uuid, "Alpha\nbeta\nALPHA again\n")
    page.goto(f"{site.url}/installs/{uuid}/")
    page.keyboard.press("/")
    page.keyboard.type("alpha")
    expect(page.locator(".log-line.is-found")).to_have_count(2)
    expect(page.locator("#panel-copy .log-found")).to_contain_text("2 lines here")


def test_the_cancel_dialog_says_what_it_leaves_and_cancels(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "cancels.example.net")
    page.goto(f"{site.url}/installs/{uuid}/")
    page.click("text=Cancel…")
    expect(page.locator("#cancel")).to_contain_text("will be left without an operating system")
    page.click("#cancel >> text=Cancel the install")
    expect(page.locator("#install-status")).to_contain_text("cancelling")


def test_without_scripts_the_page_says_the_same(plain_page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "plain.example.net")
    site.ask("feed", uuid, "wiped\n", step="wipe")
    for number in range(10):
        site.ask("feed", uuid, f"line {number}\n")
    plain_page.goto(f"{site.url}/installs/{uuid}/")
    expect(plain_page.get_by_text("line 9", exact=True)).to_be_visible()
    plain_page.click("#row-wipe a")
    expect(plain_page.get_by_text("wiped", exact=True)).to_be_visible()
    plain_page.click("#panel-wipe >> text=Whole log")
    expect(plain_page.get_by_text("wiped", exact=True)).to_be_visible()
    plain_page.goto(f"{site.url}/installs/{uuid}/")
    plain_page.click("text=Cancel…")
    plain_page.click("text=Cancel the install")
    expect(plain_page.locator("#install-status")).to_contain_text("cancelling")


def test_a_customer_reinstalls_by_clicking(page: Page, site: Site) -> None:
    name = site.ask("server", "click.example.net")
    page.goto(f"{site.url}/servers/{name}/reinstall/")
    page.locator("label.choice", has_text="Debian 12").first.click()
    page.click("text=Continue to the disks")
    page.click("text=Continue to access")
    page.locator("label.choice", has_text="carla@laptop").locator("input").check()
    page.click("text=Continue to the review")
    expect(page.get_by_text("Both disks of click.example.net will be erased.")).to_be_visible()
    erase = page.locator("#erase")
    expect(erase).to_be_disabled()
    page.fill("#confirm", "click.example.com")
    expect(erase).to_be_disabled()
    page.fill("#confirm", "click.example.net")
    expect(erase).to_be_enabled()
    before = site.ask("count")
    erase.dblclick(no_wait_after=True)
    page.wait_for_url(re.compile("/installs/"))
    expect(page.locator("#install-status")).to_contain_text("queued")
    assert site.ask("count") == before + 1


def test_rows_of_the_board_do_not_move_under_the_pointer(ops_page: Page, site: Site) -> None:
    calm = site.ask("running", "copy", "aaa.board.example.net")
    broken = site.ask("running", "copy", "bbb.board.example.net")
    ops_page.goto(f"{site.url}/board/?q=board.example.net")

    def order() -> list[str]:
        found: list[str] = ops_page.locator("#board-rows tr").evaluate_all("rows => rows.map(row => row.id)")
        return found

    assert set(order()) == {f"install-{calm}", f"install-{broken}"}
    first = order()
    last = first[-1].removeprefix("install-")
    ops_page.locator("#board-rows tr").first.hover()
    site.ask("past", last, "fail", "copy")
    expect(ops_page.locator(f"#install-{last}")).to_have_class(re.compile("is-bad"), timeout=10_000)
    assert order() == first
    ops_page.locator("h1").hover()
    wait_for(lambda: order() == [f"install-{last}", first[0]])


def test_the_list_of_servers_follows_its_installs(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "listed.example.net")
    page.goto(f"{site.url}/?q=listed.example.net")
    expect(page.locator("#servers")).to_contain_text("installing")
    site.ask("past", uuid, "fail", "copy")
    expect(page.locator("#servers")).to_contain_text("install failed", timeout=10_000)


def test_the_list_of_servers_tells_what_happened_while_the_server_was_down(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "missed.example.net")
    page.goto(f"{site.url}/?q=missed.example.net")
    expect(page.locator("#servers")).to_contain_text("installing")
    site.kill()
    site.ask("past", uuid, "fail", "copy")
    site.start()
    expect(page.locator("#servers")).to_contain_text("install failed", timeout=20_000)


def test_the_list_of_servers_tells_what_happened_before_its_connection_stood(page: Page, site: Site) -> None:
    uuid = site.ask("running", "copy", "raced.example.net")

    def late(route: Route) -> None:
        site.ask("past", uuid, "fail", "copy")
        route.continue_()

    page.route("**/landfall/servers*.js", late)
    page.goto(f"{site.url}/?q=raced.example.net")
    expect(page.locator("#servers")).to_contain_text("install failed", timeout=10_000)
