"""How each kind of image gets into the plan's tree, as commands; and a customer's hook, really run.

The golden files are written anew with WRITE_GOLDEN=1; the difference is then read by a person.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from accounts.secret import Secret
from deploy.commands import Command, Run, WriteFile, script, shown
from deploy.step import Context, Hook, ImageSource, OwnSource, StreamSource
from deploy.steps import steps_for
from deploy.steps.bootable.hook import _RUN, FOLDER, hook
from deploy.steps.copying import copy
from deploy.steps.fetch import fetch
from images import tree
from tests.deploy.contexts import make_context

GOLDEN = Path(__file__).with_name("golden")
OWN = OwnSource(
    Secret("https://images.example/debian.qcow2?signature=of-the-address"), "https://images.example/debian.qcow2",
    Secret("Authorization: Bearer of-the-header\n"), "sha512:" + "cd" * 64,
)  # fmt: skip
SECRETS = ("of-the-address", "of-the-header", "of-the-answer")
STREAM = StreamSource(("http://one.example/cd", "http://two.example/cd"), "cd" * 32, 99_000_000, False, "50M")
DISK = {"member": "disk.vmdk", "offset": 10240, "size": 123_904, "format": "vmdk"}


def context(*, of: str = "debian-12", **changes: Any) -> Context:
    """A context whose image is as the changes say."""
    ctx = make_context(of=of)
    return replace(ctx, image=replace(ctx.image, **changes))


def own(format: str = "qcow2") -> Context:
    ctx = make_context()
    image = ImageSource("debian.qcow2", "", "", 0, format, own=OWN)
    return replace(ctx, image=image, hook=Hook("#!/bin/sh\n", {"LANDFALL_INPUT_PASSWORD": Secret("of-the-answer")}))


def lines(commands: Iterator[Command]) -> list[str]:
    """The commands as people read them, the scripts apart; how long our own programs are does not matter here."""
    return [line for line in map(shown, commands) if not line.startswith("write /run/landfall/lib/")]


CASES = {
    **{f"copy-{format}": context(format=format) for format in ("raw", "qcow2", "vmdk", "vhd", "vhdx", "tar")},
    "copy-ova": context(format="ova", disk=DISK),
    "copy-stream": context(stream=STREAM),
    "copy-stream-with-token-and-signed-loader": context(
        of="rhel-8", stream=replace(STREAM, urls=(STREAM.urls[0],), with_token=True, rate="")
    ),
    "copy-own": own(),
    "copy-own-tar": own("tar"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_image_is_copied_by_the_commands_that_were_read(name: str) -> None:
    ctx, file = CASES[name], GOLDEN / f"{name}.txt"
    text = "".join(f"$ {line}\n" for line in [*lines(fetch(ctx)), *lines(copy(ctx))])
    if os.environ.get("WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("name", CASES)
def test_every_script_is_one_that_both_shells_understand(name: str) -> None:
    ctx = CASES[name]
    for commands in (fetch(ctx), copy(ctx), hook(ctx)):
        every = list(commands)
        checked = subprocess.run(["bash", "-n"], input=script(every), text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
        for command in every:
            if isinstance(command, Run) and command.argv[:2] == ("sh", "-c"):
                checked = subprocess.run(["sh", "-n", "-c", str(command.argv[2])], capture_output=True, check=False)
                assert (checked.returncode, checked.stderr) == (0, b"")


def test_what_is_secret_of_an_image_of_ones_own_is_in_no_argument_and_shown_nowhere() -> None:
    ctx = own()
    for commands in (fetch(ctx), copy(ctx), hook(ctx)):
        for command in commands:
            assert not [secret for secret in SECRETS if secret in shown(command)]
            if isinstance(command, Run):
                assert not [word for word in command.argv if isinstance(word, Secret)]
    files = {command.path: command for command in fetch(ctx) if isinstance(command, WriteFile)}
    assert {path.rsplit("/", 1)[1] for path, file in files.items() if file.mode == 0o600} == {"url", "headers"}


def test_only_an_image_of_ones_own_is_fetched_before_the_wipe() -> None:
    names = steps_for(licensed=False, own=True)
    assert names[names.index("fetch") + 1] == "wipe"
    assert "fetch" not in steps_for(licensed=True)
    assert list(fetch(context())) == []


def test_only_public_addresses_are_asked_for_an_image_of_ones_own() -> None:
    for commands in (fetch(own()), copy(own())):
        words = next(str(line) for line in lines(commands) if "deploy.fetching" in line).split()
        assert words[words.index("--public") + 1] == "''"
    assert not any("--public" in line for line in lines(copy(context())))


def test_a_path_with_a_comma_is_one_path_for_qemu() -> None:
    assert tree.options("raw", "/a,b") == "driver=raw,file.driver=file,file.filename=/a,,b"


# --- the hook


def run_hook(
    tmp_path: Path, *, request: str = "", image: str = "", mode: int = 0o755
) -> "subprocess.CompletedProcess[str]":
    """The hook's commands with a folder in place of the new system's root."""
    folder, in_image = tmp_path / "hook-folder", tmp_path / "hook of the image"
    folder.mkdir()
    ctx = replace(make_context(), hook=Hook(request, {"LANDFALL_INPUT_MOTTO": Secret("it's $HOME\nand `more`")}))
    for command in hook(ctx):
        if isinstance(command, WriteFile):
            content = command.content.reveal() if isinstance(command.content, Secret) else command.content
            path = folder / command.path.rsplit("/", 1)[1]
            path.write_text(str(content))
            path.chmod(command.mode)
    if image:
        in_image.write_text(image)
        in_image.chmod(mode)
    return subprocess.run(
        ["sh", "-c", _RUN, "hook", str(folder), str(in_image), "/nowhere"], capture_output=True, text=True, check=False
    )


SAY = '#!/bin/sh\necho "$LANDFALL_INPUT_MOTTO on $LANDFALL_HOSTNAME"\necho and to stderr >&2\n'


def test_the_hook_of_the_request_sees_the_answers_and_all_that_it_says_is_kept(tmp_path: Path) -> None:
    done = run_hook(tmp_path, request=SAY, image="#!/bin/sh\necho of the image\n")
    assert done.returncode == 0
    assert "it's $HOME\nand `more` on web-14.example.net\n" in done.stdout
    assert "of the image\n" not in done.stdout.split("\n", 1)[1]
    assert done.stderr == "and to stderr\n"


def test_without_one_the_hook_in_the_image_runs(tmp_path: Path) -> None:
    done = run_hook(tmp_path, image=SAY)
    assert "it's $HOME" in done.stdout


def test_a_hook_that_fails_fails_the_step_with_its_own_status(tmp_path: Path) -> None:
    assert run_hook(tmp_path, request="#!/bin/sh\nexit 7\n").returncode == 7


def test_a_hook_in_the_image_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    done = run_hook(tmp_path, image="#!/bin/sh\n", mode=0o644)
    assert done.returncode == 126
    assert "not executable" in done.stderr


def test_without_any_hook_nothing_is_run(tmp_path: Path) -> None:
    done = run_hook(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_of_the_hook_stays_in_the_new_system() -> None:
    assert FOLDER.startswith("/run/")
    assert shown(list(hook(own()))[-1]).startswith("rm -rf")
