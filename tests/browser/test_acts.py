"""Holding, releasing and ending by force in a real browser, while a customer watches; and a line that moves."""

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

SOON = 15_000
"""Milliseconds that a page may take to hear of something, on a machine that is busy."""


def test_an_install_is_held_and_released_while_a_customer_watches(page: Page, ops_page: Page, site: Site) -> None:
    uuid = site.ask("running", "mount", "held.acts.example.net")
    for one in (page, ops_page):
        one.goto(f"{site.url}/installs/{uuid}/")
        expect(one.locator("#install-status")).to_contain_text("running")
    page.evaluate("window.sameDocument = true")
    assert page.get_by_text("Hold before…").count() == 0

    ops_page.click("text=Hold before…")
    ops_page.locator("#hold select").select_option("copy")
    ops_page.click("#hold >> text=Hold it there")
    ops_page.evaluate("window.sameDocument = true")
    for one in (page, ops_page):
        expect(one.locator("#install-outcome")).to_contain_text("To be held before Copy the image", timeout=SOON)

    site.ask("past", uuid, "finish", "mount")
    site.ask("happen", uuid, "held", before="copy")
    for one in (page, ops_page):
        expect(one.locator("#install-outcome")).to_contain_text("Held before Copy the image", timeout=SOON)
        expect(one.locator("#install-status")).to_contain_text("held")
        expect(one.locator("#panel-copy")).to_be_visible()
    expect(page.locator("#install-outcome")).to_contain_text("is in the rescue system")
    assert page.get_by_role("button", name="Release").count() == 0
    assert page.evaluate("window.sameDocument")
    assert ops_page.evaluate("window.sameDocument")

    # the button came over the websocket, which knows no token of a form
    ops_page.get_by_role("button", name="Release").click()
    expect(ops_page.locator("#install-status")).to_contain_text("queued")
    expect(page.locator("#install-status")).to_contain_text("queued", timeout=SOON)
    page.click("#history summary")
    expect(page.locator("#history")).to_contain_text("otto released it.")
    assert page.evaluate("window.sameDocument")


def test_an_install_that_hangs_is_ended_by_force_while_a_customer_watches(
    page: Page, ops_page: Page, site: Site
) -> None:
    uuid = site.ask("running", "copy", "hangs.acts.example.net")
    for one in (page, ops_page):
        one.goto(f"{site.url}/installs/{uuid}/")
    since = (datetime.now(UTC) - timedelta(seconds=190)).isoformat()
    site.ask("happen", uuid, "step_quiet", step="copy", attempt=1, since=since, reason="nothing printed")
    silence = ops_page.locator("#head-copy .waiting")
    expect(silence).to_contain_text(re.compile(r"Nothing printed for 3:[1-9]\d"), timeout=SOON)
    first = silence.text_content()
    expect(silence).not_to_have_text(first or "", timeout=5_000)  # it ticks

    ops_page.click("text=Force reset…")
    dialog = ops_page.locator("#reset")
    expect(dialog).to_contain_text("will be left without an operating system")
    dialog.get_by_role("button", name="End it by force").click()
    expect(dialog).to_be_visible()  # a reason is required
    dialog.locator("textarea").fill("hangs <b>since noon</b>")
    # what happens meanwhile does not take away what was typed
    site.ask("happen", uuid, "step_talks", step="copy", attempt=1)
    expect(silence).to_be_hidden(timeout=SOON)
    expect(dialog.locator("textarea")).to_have_value("hangs <b>since noon</b>")
    dialog.get_by_role("button", name="End it by force").click()
    for one in (page, ops_page):
        expect(one.locator("#install-outcome .failure")).to_contain_text("hangs <b>since noon</b>", timeout=SOON)
        expect(one.locator("#install-status")).to_contain_text("failed")
        expect(one.locator("#head-copy")).to_contain_text("Cut off here")
    page.click("#install-outcome >> text=force-reset")
    expect(page.locator("tr:target")).to_contain_text("Ops ended this install by force")


def test_a_step_that_was_chosen_stays_chosen_while_the_install_goes_on(ops_page: Page, site: Site) -> None:
    uuid = site.ask("running", "mount", "chosen.acts.example.net")
    ops_page.goto(f"{site.url}/installs/{uuid}/")
    ops_page.click("text=Hold before…")
    choice = ops_page.locator("#hold select")
    choice.select_option("reboot")
    site.ask("past", uuid, "finish", "mount")
    site.ask("past", uuid, "start", "copy")
    expect(choice.locator("option[value=copy]")).to_have_count(0, timeout=SOON)
    expect(choice).to_have_value("reboot")


def test_the_place_in_line_moves_as_others_end(page: Page, site: Site) -> None:
    runs, _, _, second, third = site.ask("line", "lined", 3)
    page.goto(f"{site.url}/installs/{third}/")
    page.evaluate("window.sameDocument = true")
    outcome = page.locator("#install-outcome")
    expect(outcome).to_contain_text("3rd in line: at most 2 installs from the same image run at once.")
    site.ask("happen", second, "cancel_requested")
    site.ask("happen", second, "cancelled")
    expect(outcome).to_contain_text("2nd in line", timeout=SOON)
    site.ask("past", runs, "fail", "copy")
    assert site.ask("admit")
    expect(outcome).to_contain_text("1st in line", timeout=SOON)
    assert page.evaluate("window.sameDocument")


def test_many_are_held_from_the_board(ops_page: Page, site: Site) -> None:
    uuids = [site.ask("running", "copy", f"{name}.many.acts.example.net") for name in ("one", "two")]
    ops_page.goto(f"{site.url}/board/?q=many.acts.example.net")
    for uuid in uuids:
        ops_page.locator(f"#install-{uuid} input").check()
    ops_page.click("text=Hold before…")
    ops_page.select_option("#before", "reboot")
    ops_page.get_by_role("button", name="Hold 2 installs").click()
    expect(ops_page.get_by_text("is to be held")).to_have_count(2)
    ops_page.click("text=Back to the board")
    for uuid in uuids:
        row = ops_page.locator(f"#install-{uuid}")
        expect(row).to_contain_text("to be held before Reboot")
        site.ask("past", uuid, "finish", "copy")
        site.ask("past", uuid, "start", "bootable")
        site.ask("past", uuid, "finish", "bootable")
        site.ask("happen", uuid, "held", before="reboot")
        expect(row).to_contain_text("held before Reboot", timeout=SOON)
        expect(row).to_contain_text("held", timeout=SOON)
