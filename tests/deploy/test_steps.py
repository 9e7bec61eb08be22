"""The commands of every step, as text: what the review shows and what the rescue system runs.

The golden files are written anew with WRITE_GOLDEN=1; the difference is then read by a person.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.commands import detail, script, shown
from deploy.step import Context, Step
from deploy.steps import POINT_OF_NO_RETURN, STEPS, steps_for
from deploy.steps.bootable import bootable
from deploy.steps.disks import partition
from deploy.steps.erase import wipe
from deploy.steps.licence import licence
from servers.storage.layout import plain
from tests.deploy.contexts import ACTIVATION_KEY, TOKENS, make_context

GOLDEN = Path(__file__).with_name("golden")


def text_of(ctx: Context, *names: str) -> str:
    """The commands of the steps as a person would read them, with what they write."""
    lines: list[str] = []
    for name in names or STEPS:
        generator = STEPS[name].commands
        if generator is None:
            continue
        lines.append(f"## {name}")
        for command in generator(ctx):
            # Programs that are brought along have tests of their own: how long they are is not what was read here.
            lines.append(re.sub(r"(\.py) \([\d,]+ bytes", r"\1 (… bytes", f"$ {shown(command)}"))
            text = detail(command).splitlines()
            # The phone-home script is long, and has tests of its own.
            lines += [f"    {line}" for line in (text if len(text) < 60 else [f"({len(text)} lines)"])]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "ctx", "steps"),
    [
        ("debian-12-uefi-raid1", make_context(), ()),
        ("debian-12-bios-plain", make_context(firmware="bios", disks=1), ()),
        ("debian-12-4kn", make_context(disks=1, block=4096), ("partition", "config-drive")),
        ("rhel-8-copy", make_context(of="rhel-8"), ("partition", "copy")),
        ("rhel-7-copy", make_context(of="rhel-7", firmware="bios", disks=1), ("partition", "copy")),
    ],
)
def test_the_commands_are_those_that_were_read_and_approved(name: str, ctx: Context, steps: tuple[str, ...]) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text_of(ctx, *steps))
    assert text_of(ctx, *steps) == file.read_text()


def test_no_secret_is_shown() -> None:
    ctx = make_context(of="rhel-8", licensed=True)
    assert not [secret for secret in (*TOKENS, ACTIVATION_KEY) if secret in text_of(ctx)]


def test_no_secret_is_an_argument_of_a_program() -> None:
    """What a script hands over in files stands base64-encoded in it, not on a command line."""
    ctx = make_context(of="rhel-8", licensed=True)
    for step in STEPS.values():
        text = script(step.commands(ctx)) if step.commands else ""
        assert not [secret for secret in (*TOKENS, ACTIVATION_KEY) if secret in text], step.name


def test_every_script_is_one_that_bash_understands() -> None:
    for ctx in (make_context(), make_context(firmware="bios", disks=1), make_context(of="rhel-8", licensed=True)):
        for step in STEPS.values():
            if step.commands:
                checked = subprocess.run(
                    ["bash", "-n"], input=script(step.commands(ctx)), text=True, capture_output=True
                )
                assert (checked.returncode, checked.stderr) == (0, ""), step.name


def test_a_disk_that_is_kept_is_in_no_command() -> None:
    ctx = make_context(disks=3, layout=plain(keep=("D1",)))
    assert "/dev/vdb" not in text_of(ctx)


def test_grub_goes_onto_every_disk_that_the_server_may_boot_from() -> None:
    lines = [shown(command) for command in bootable(make_context(firmware="bios"))]
    assert [line.rsplit(" ", 1)[1] for line in lines if "grub-install" in line] == ["/dev/vda", "/dev/vdb"]


def test_nothing_is_registered_for_who_brings_the_own_licence() -> None:
    assert list(licence(make_context(of="rhel-8"))) == []


def test_the_licence_step_is_there_only_where_it_is_needed() -> None:
    assert "licence" in steps_for(licensed=True)
    assert "licence" not in steps_for(licensed=False)
    assert len(steps_for(licensed=True)) == 13


def test_nothing_is_erased_before_the_point_of_no_return() -> None:
    names = list(STEPS)
    before = names[: names.index(POINT_OF_NO_RETURN)]
    assert all(STEPS[name].cancellable for name in before)
    half_done = names[names.index(POINT_OF_NO_RETURN) : names.index("reboot") + 1]
    assert not any(STEPS[name].cancellable for name in half_done)


def test_the_disks_are_released_before_the_first_is_wiped() -> None:
    words = [shown(command) for command in wipe(make_context())]
    released = [index for index, line in enumerate(words) if " release /dev/" in line]
    wiped = [index for index, line in enumerate(words) if " wipe /dev/" in line]
    assert len(released) == len(wiped) == 2
    assert max(released) < min(wiped)


def test_arrays_are_made_before_what_lies_on_them() -> None:
    words = [shown(command) for command in partition(make_context())]
    create = next(index for index, line in enumerate(words) if "mdadm --create" in line)
    mkfs = next(index for index, line in enumerate(words) if line.startswith("mkfs.ext4"))
    assert create < mkfs


@pytest.mark.parametrize("step", [step for step in STEPS.values() if step.commands], ids=lambda step: step.name)
def test_a_command_that_prints_nothing_is_told_long_before_its_step_times_out(step: Step) -> None:
    assert step.quiet <= step.timeout / 2
