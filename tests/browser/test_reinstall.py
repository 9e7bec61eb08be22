"""The reinstall page in a real browser: a layout is drawn while it is typed, and nothing typed is ever lost."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

SOON = 15_000
TWO = '{"filesystems": [{"mount": "/", "size": "8 GiB"},\n{"mount": "/srv/data", "size": "rest"}]}'


def to_disks(page: Page, site: Site, name: str) -> None:
    """Chooses the first image of a server's reinstall; the disks are open then."""
    site.ask("server", name)
    page.goto(f"{site.url}/servers/{name}/reinstall/")
    page.locator("[name=image]").first.check()
    page.get_by_role("button", name="Continue to the disks").click()
    expect(page.locator("#disks [name=layout]").first).to_be_visible()


def test_a_layout_is_drawn_as_one_types(page: Page, site: Site) -> None:
    to_disks(page, site, "typed.reinstall.example.net")
    expect(page.locator("#custom")).to_be_hidden()
    page.locator("[name=layout][value=custom]").check()
    text = page.locator("#custom")
    expect(text).to_have_value(re.compile('"raid": "raid1"'))
    expect(page.locator("#custom-drawing svg.disk-bar")).to_have_count(2)

    page.evaluate("window.sameDocument = true")
    text.fill(TWO)
    expect(page.locator("#custom-drawing .disk-key").first).to_contain_text("/srv/data", timeout=SOON)
    text.fill(TWO.replace('"rest"', '"all of it"'))
    wrong = page.locator("#custom-drawing")
    expect(wrong).to_contain_text("Line 2, column 24", timeout=SOON)
    expect(wrong.locator("mark")).to_have_text('"size": "all of it"')
    page.get_by_role("button", name="Show it in the text").click()
    selected = (
        "() => { const t = document.getElementById('custom'); return t.value.slice(t.selectionStart, t.selectionEnd); }"
    )
    assert page.evaluate(selected) == '"size": "all of it"'
    assert page.evaluate("window.sameDocument")

    page.reload()
    expect(page.locator("#custom")).to_have_value(TWO.replace('"rest"', '"all of it"'))
    page.locator("#custom").fill(TWO)
    expect(page.locator("#custom-drawing .disk-key").first).to_contain_text("/srv/data", timeout=SOON)
    page.get_by_role("button", name="Continue to access").click()
    expect(page.locator("#access #hostname")).to_be_visible()


def test_encryption_asks_how_the_passphrase_is_made_only_when_it_is_chosen(page: Page, site: Site) -> None:
    to_disks(page, site, "sealed.reinstall.example.net")
    ours = page.locator("[name=passphrase_by][value=us]")
    expect(ours).to_be_hidden()
    page.locator("#encrypt").check()
    expect(ours).to_be_visible(timeout=SOON)
    expect(page.locator(".disk-key").first).to_contain_text("encrypted")
    expect(page.locator("#passphrase")).to_be_hidden()
    page.locator("[name=passphrase_by][value=me]").check()
    page.locator("#passphrase").fill("short")
    page.get_by_role("button", name="Continue to access").click()
    expect(page.locator("#error-passphrase")).to_contain_text("at least 12")
    expect(page.locator("#passphrase")).to_have_value("")


def test_a_written_layout_needs_no_scripts(plain_page: Page, site: Site) -> None:
    to_disks(plain_page, site, "plain.reinstall.example.net")
    plain_page.locator("[name=layout][value=custom]").check()
    plain_page.locator("#custom").fill(TWO)
    plain_page.get_by_role("button", name="Draw it").click()
    expect(plain_page.locator("#custom-drawing .disk-key").first).to_contain_text("/srv/data")
    expect(plain_page.locator("#custom")).to_have_value(TWO)
    plain_page.locator("#custom").fill("{")
    plain_page.get_by_role("button", name="Continue to access").click()
    expect(plain_page.locator("#custom-drawing")).to_contain_text("Line 1")
    expect(plain_page.locator("#custom")).to_have_value("{")
