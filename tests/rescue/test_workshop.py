"""The workshop: a thing is built once, never half, and a missing tool is named with its cure."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path

import pytest

from rescue.workshop import BuildFailed, build_once, content_key, recipe_files, require, run, write_tree_tar


def make_recipe(folder: Path) -> Path:
    (folder / "tree").mkdir(parents=True)
    (folder / "build.py").write_text("print()\n")
    (folder / "tree" / "file").write_text("content\n")
    return folder


def key_of(folder: Path) -> str:
    return content_key(recipe_files(folder), folder)


def test_equal_recipes_have_equal_keys_wherever_they_are(tmp_path: Path) -> None:
    assert key_of(make_recipe(tmp_path / "one")) == key_of(make_recipe(tmp_path / "two"))


@pytest.mark.parametrize("change", ["content", "name", "executable", "another"])
def test_any_change_of_a_recipe_changes_its_key(tmp_path: Path, change: str) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    before, file = key_of(recipe), recipe / "tree" / "file"
    match change:
        case "content":
            file.write_text("contents\n")
        case "name":
            file.rename(file.with_name("elif"))
        case "executable":
            file.chmod(0o755)
        case "another":
            file.with_name("second").touch()
    assert key_of(recipe) != before


def test_byte_code_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    before = key_of(recipe)
    (recipe / "__pycache__").mkdir()
    (recipe / "__pycache__" / "build.cpython-311.pyc").write_bytes(b"\0")
    assert key_of(recipe) == before


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    built, together = [], threading.Barrier(2)

    def make(scratch: Path) -> Path:
        built.append(scratch)
        (scratch / "thing").write_text("whole")
        return scratch / "thing"

    def builder() -> None:
        together.wait()
        build_once(tmp_path / "thing", make, lambda line: None)

    threads = [threading.Thread(target=builder) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert (tmp_path / "thing").read_text() == "whole"


def test_a_build_that_fails_leaves_nothing_that_looks_built(tmp_path: Path) -> None:
    def make(scratch: Path) -> Path:
        (scratch / "thing").write_text("half")
        raise BuildFailed("the disk is full")

    with pytest.raises(BuildFailed):
        build_once(tmp_path / "thing", make, lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_missing_tools_are_named_with_one_command_that_installs_them(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        require({"no-such-tool": "its-package", "sh": "dash"}, keyring=tmp_path / "no-keys.gpg")
    assert "no-such-tool" in str(caught.value)
    assert "sudo apt-get install -y debian-archive-keyring its-package" in str(caught.value)


def test_a_host_that_has_everything_is_not_complained_about(tmp_path: Path) -> None:
    (tmp_path / "keys.gpg").touch()
    require({"sh": "dash"}, keyring=tmp_path / "keys.gpg")


def test_a_tool_that_fails_is_quoted() -> None:
    lines: list[str] = []
    with pytest.raises(BuildFailed, match=r"status 3:\nworking\nno space left"):
        run(["sh", "-c", "echo working; echo no space left >&2; exit 3"], lines.append)
    assert lines == ["working", "no space left"]


def test_our_files_belong_to_root_in_the_new_system(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    (recipe / "tree" / "run-me").touch()
    (recipe / "tree" / "run-me").chmod(0o700)
    write_tree_tar(tmp_path / "out.tar", {"etc": recipe / "tree"}, {"first": recipe / "build.py"})
    with tarfile.open(tmp_path / "out.tar") as tar:
        found = {(info.name, info.mode, info.uid, info.gid) for info in tar}
    assert found == {("etc/file", 0o644, 0, 0), ("etc/run-me", 0o755, 0, 0), ("first", 0o644, 0, 0)}
