"""An install followed in a terminal."""

import io

import pytest
from django.utils import timezone

from deploy import journal, terminal
from deploy.events import Kind, Status
from deploy.models import Install, LogChunk
from tests.builders import make_install
from tests.deploy.happenings import broken, done, started

pytestmark = pytest.mark.django_db

ACCESS = {"ssh": "debian@192.0.2.14", "port": 2222, "verified": "SHA256:abc", "host_keys": ["SHA256:abc"]}


class Terminal(io.StringIO):
    """An output that lines can be drawn over."""

    def isatty(self) -> bool:
        return True


def install_with(*happened: tuple[Kind, dict[str, object]]) -> Install:
    install = make_install()
    journal.append(install, Kind.PLANNED, {"steps": ["rescue", "copy", "verify"]})
    for kind, data in happened:
        journal.append(install, kind, data)
    return install


def followed(install: Install) -> tuple[Status, str]:
    out = io.StringIO()
    return terminal.Follower(install, out).follow(), out.getvalue()


def test_a_success_is_a_line_a_step_and_how_to_log_in() -> None:
    steps = [event for name in ("rescue", "copy") for event in (started(name), done(name))]
    status, text = followed(install_with(*steps, started("verify"), done("verify", **ACCESS)))
    assert status is Status.SUCCEEDED
    assert [line.split("  ")[0] for line in text.splitlines()[:3]] == ["✓ Rescue", "✓ Copy the image", "✓ Verify"]
    assert "ssh -p 2222 debian@192.0.2.14" in text
    assert "SHA256:abc" in text


def test_a_failure_says_what_failed_and_its_last_words() -> None:
    status, text = followed(install_with(started("rescue"), broken("rescue")))
    assert status is Status.FAILED
    assert "✗ Rescue" in text
    assert "It broke. Mend it." in text
    assert "| last words" in text


def copying(percent: int) -> Install:
    install = install_with(started("rescue"), done("rescue"), started("copy"))
    moved = f"  1,000  {percent}%  10.00MB/s    0:00:09 (xfr#1, to-chk=1/9)\r"
    LogChunk.objects.create(
        install=install, step="copy", attempt=1, offset=0, size=len(moved), first_line=1, text=moved, at=timezone.now()
    )
    return install


def test_the_copy_has_a_bar() -> None:
    install = copying(60)
    line = terminal.Follower(install, Terminal())._current(install.state())
    assert "Copy the image" in line
    assert "█" * 18 + "░" * 12 + "  60 % 10.00MB/s" in line


def test_where_lines_cannot_be_drawn_over_the_bar_comes_at_every_quarter_once() -> None:
    install = copying(60)
    follower = terminal.Follower(install, io.StringIO())
    assert " 60 %" in follower._quarter(install.state())
    assert follower._quarter(install.state()) == ""
