"""A command that prints nothing for too long, over a real sshd: it is told on the page before its time is up."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy import control
from deploy.commands import run
from deploy.events import Event, Kind, Status
from deploy.models import Install
from deploy.step import Step
from tests.deploy.test_driver import a_step, drive, in_background, install_in_rescue, log_of, wait_for
from tests.deploy.test_install_page import read
from tests.sshd import Sshd, as_root

pytestmark = [
    pytest.mark.django_db(transaction=True),
    as_root,
]


def quiet_until(gate: Path, quiet: float, timeout: float = 300) -> Step:
    """A step whose command says a word, and another one once the gate is there; it may be silent for so long."""
    command = run("sh", "-c", f"echo working; while [ ! -e {gate} ]; do sleep 0.1; done; echo ended")
    return replace(a_step("copy", command, timeout=timeout), quiet=timedelta(seconds=quiet))


def told(install: Install, kind: Kind) -> list[Event]:
    return [event for event in install.history() if event.kind is kind]


def silent_at_its_word(install: Install) -> bool:
    """Whether the silence is told that follows its first word; on a busy machine there may be one before."""
    return any(event.data["command"].startswith("sh -c") for event in told(install, Kind.STEP_QUIET))


def test_a_silent_command_is_told_on_the_page_with_what_it_is_and_since_when_and_so_is_its_end(
    sshd: Sshd, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    install, steps = install_in_rescue(sshd, quiet_until(gate, quiet=1))
    worker = in_background(lambda: drive(install, steps))
    try:
        wait_for(lambda: silent_at_its_word(install))
        quiet = told(install, Kind.STEP_QUIET)[-1]
        assert quiet.data["reason"] == "nothing printed"
        row = Install.objects.get(pk=install.pk)
        assert row.quiet_since and row.quiet_since.isoformat() == quiet.data["since"]
        assert row.is_live
        assert "nothing printed" in read(row).lower()
    finally:
        gate.touch()
        worker.join()
    row = Install.objects.get(pk=install.pk)
    assert (row.status, row.quiet_since) == (Status.SUCCEEDED, None)
    assert any(event.seq > quiet.seq for event in told(install, Kind.STEP_TALKS))
    assert "ended\n" in log_of(install, "copy")


def test_silence_is_counted_from_the_last_word_and_not_from_when_another_worker_came(
    sshd: Sshd, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    install, steps = install_in_rescue(sshd, quiet_until(gate, quiet=1))
    worker = in_background(lambda: drive(install, steps))
    try:
        wait_for(lambda: silent_at_its_word(install))
        last = install.log.order_by("-at").first()
        since = install.state().of("copy").quiet_since
        assert last and since
        assert abs(since - last.at) < timedelta(seconds=1.5)  # the follower sends four times a second, and is read once
    finally:
        gate.touch()
        worker.join()


def test_silence_is_told_once_and_then_the_step_times_out(sshd: Sshd, tmp_path: Path) -> None:
    install, steps = install_in_rescue(sshd, quiet_until(tmp_path / "never", quiet=0.5, timeout=8))
    install = drive(install, steps)
    assert install.last_failure
    assert install.last_failure.code == "step-timeout"
    assert [event.kind for event in install.history()[-2:]] == [Kind.STEP_QUIET, Kind.STEP_FAILED]
    assert len(told(install, Kind.STEP_QUIET)) == len(told(install, Kind.STEP_TALKS)) + 1
    assert install.quiet_since is None


def test_a_rescue_system_that_does_not_answer_is_told_as_such(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "RECONNECT_AFTER", 0.2)
    gate = tmp_path / "gate"
    install, steps = install_in_rescue(sshd, quiet_until(gate, quiet=120))
    worker = in_background(lambda: drive(install, steps))
    try:
        wait_for(lambda: "working\n" in log_of(install, "copy"))
        sshd.stop()
        wait_for(lambda: bool(told(install, Kind.STEP_QUIET)))
        (quiet,) = told(install, Kind.STEP_QUIET)
        assert quiet.data["reason"].startswith("the rescue system does not answer")
        assert "does not answer" in read(Install.objects.get(pk=install.pk))
        sshd.start()
        wait_for(lambda: bool(told(install, Kind.STEP_TALKS)))
    finally:
        if sshd.process is None:
            sshd.start()
        gate.touch()
        worker.join()
    assert Install.objects.get(pk=install.pk).status == Status.SUCCEEDED
