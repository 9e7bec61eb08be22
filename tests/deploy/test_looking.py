"""How a customer's own image is looked at on the rescue system: the real commands, by bash, in folders of their own."""

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.commands import Run, script, shown
from deploy.errors import of_command
from deploy.sent import sources
from deploy.step import RUN, TARGET, Context, ImageSource
from deploy.steps.copying import HELD, copy
from deploy.steps.fetch import KEPT, LIB, LOOKED, fetch, look, programs
from images.formats import Format
from tests.deploy.contexts import make_context
from tests.deploy.test_copying import OWN
from tests.deploy.trees import in_a_tree
from tests.images.disks import convert, make_image, run
from tests.images.test_ova import ovf, pack

DEVICE = tarfile.TarInfo("home/disk")
DEVICE.type = tarfile.BLKTYPE
SAMPLE = "etc/os-release"


def own(format: str) -> Context:
    """The context of an install with an image of one's own."""
    return replace(make_context(), image=ImageSource("mine", "", "", 0, format, own=OWN))


def looked_at(file: Path, format: str, *, room: int | None = None) -> "subprocess.CompletedProcess[str]":
    """How looking at the file ends; in place of the rescue system's /run there is a folder beside it."""
    looks = look(own(format), str(file))
    if room is not None:
        looks = replace(looks, argv=(*looks.argv[:-2], str(room), looks.argv[-1]))
    program = file.with_name("script")
    program.write_text(script([*programs(own(format)), looks]).replace(RUN, str(file.parent / "run")))
    # anywhere but here, where our modules are found without having been sent
    return subprocess.run(["bash", program], cwd="/", capture_output=True, text=True, timeout=60)


def opened_by(file: Path, format: str) -> str:
    """How QEMU is told to open a file that is taken."""
    done = looked_at(file, format)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(LOOKED.replace(RUN, str(file.parent / "run"))).read_text()


def refused(done: "subprocess.CompletedProcess[str]") -> tuple[str, str]:
    """What the customer reads of an image that is not taken: what is wrong, and what to do."""
    assert done.returncode == 1, done.stdout + done.stderr
    failure = of_command(shown(look(own("raw"), KEPT)), done.returncode, done.stdout.splitlines())
    assert failure.code == "own-image-unfit"
    return failure.message, failure.fix


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good raw image with a file system in it. Not to be changed."""
    return make_image(tmp_path_factory.mktemp("own") / "good", suffix="raw")


def backed(raw: Path, to: Path) -> Path:
    run("qemu-img", "create", "-f", "qcow2", "-b", raw, "-F", "raw", to)
    return to


def described(raw: Path, to: Path) -> Path:
    """The description of a VMDK, whose data lies at an absolute path."""
    lines = (
        "# Disk DescriptorFile", "version=1", "CID=1", "parentCID=ffffffff", 'createType="monolithicFlat"',
        f'RW {raw.stat().st_size // 512} FLAT "{raw}" 0',
    )  # fmt: skip
    to.write_text("\n".join(lines) + "\n")
    return to


def tarball(to: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(to, "w:gz") as tar:
        release = tarfile.TarInfo(SAMPLE)
        release.size = 10
        tar.addfile(release, io.BytesIO(b"ID=debian\n"))
        for member in members:
            tar.addfile(member)
    return to


HOSTILE: dict[str, tuple[str, Callable[[Path, Path], Path], str, str]] = {
    "a QCOW2 with a backing file": ("qcow2", backed, "differs from another file, its backing file", "qemu-img convert"),
    "a VMDK whose data is elsewhere": ("vmdk", described, "whose data is in other files '/", "streamOptimized"),
    "a tarball with a device": ("tar", lambda _, to: tarball(to, DEVICE), "'home/disk' is a device node", "Pack it"),
    "a raw image that is called another": ("qcow2", lambda raw, to: Path(shutil.copy(raw, to)), "a RAW one", "Name it"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_the_catalogue_would_refuse_is_refused_and_the_customer_reads_why(
    what: str, raw: Path, tmp_path: Path
) -> None:
    format, make, why, fix = HOSTILE[what]
    message, said_fix = refused(looked_at(make(raw, tmp_path / "file"), format))
    assert why in message
    assert fix in said_fix
    assert not (tmp_path / "run/looked").exists()


def test_a_tarball_that_is_larger_than_the_root_is_refused(tmp_path: Path) -> None:
    message, fix = refused(looked_at(tarball(tmp_path / "file"), "tar", room=1000))
    assert "the root file system of the plan has 0 MiB" in message
    assert "larger disk" in fix


def test_a_good_image_is_opened_as_what_it_is(raw: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(raw, tmp_path / "file"))
    assert opened_by(file, "raw") == f"driver=raw,file.driver=file,file.filename={file}"


def test_the_disk_in_an_ova_of_ones_own_is_opened_where_it_lies(raw: Path, tmp_path: Path) -> None:
    disk = convert(raw, tmp_path / "disk.vmdk", "-o", "subformat=streamOptimized", format="vmdk")
    file = pack(tmp_path / "file", {"vm.ovf": ovf("disk.vmdk"), "disk.vmdk": disk.read_bytes()})
    options = opened_by(file, "ova")
    assert options.startswith("driver=vmdk,file.driver=raw,file.offset=")
    run("qemu-img", "convert", "--image-opts", options, "-O", "raw", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == raw.read_bytes()


@pytest.mark.parametrize("format", Format)
def test_nothing_opens_an_image_of_ones_own_that_was_not_looked_at_by_the_same_step(format: Format) -> None:
    for commands, file in ((fetch(own(format)), KEPT), (copy(own(format)), HELD)):
        lines = [shown(one) + " ".join(map(str, one.argv)) for one in commands if isinstance(one, Run)]
        looks = next(number for number, line in enumerate(lines) if f"deploy.looking {file} {format} " in line)
        opens = [
            number for number, line in enumerate(lines) if "qemu-nbd --snapshot" in line or "tar --extract" in line
        ]
        assert all(number > looks for number in opens)
        assert opens or file == KEPT


def test_what_is_sent_along_runs_with_nothing_else_of_ours_in_reach(tmp_path: Path) -> None:
    modules = ("deploy.fetching", "deploy.looking", "images.look")
    for path, text in sources(*modules).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    seen = (
        f"import sys, {', '.join(modules)}\n"
        "print(*sorted(one.__file__ for name, one in sys.modules.items()\n"
        "    if name.split('.')[0] in ('accounts', 'servers', 'images', 'deploy') and one.__file__))"
    )
    # -S: nothing of our virtual environment
    done = subprocess.run(
        [sys.executable, "-S", "-c", seen], env={"PYTHONPATH": str(tmp_path)}, cwd="/", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    sent = sorted(str(tmp_path / path) for path in sources(*modules))
    # no more than is needed, either
    assert done.stdout.split() == sent


def test_a_catalogue_s_image_is_not_sent_what_looks() -> None:
    paths = [command.path for command in programs(make_context()) if hasattr(command, "path")]
    assert [path.removeprefix(f"{LIB}/") for path in paths[:-1]] == ["accounts/addresses.py", "deploy/fetching.py"]


# --- the whole step, as root, with mounts of its own

_COPY = """\
set -e
mount -t tmpfs tmpfs /run
mkdir -p "$3" "${4%/*}"
cp "$2" "$4"
bash "$1"
cat "$3/$5"
"""


@in_a_tree
@pytest.mark.parametrize(("members", "status"), [((), 0), ((DEVICE,), 1)], ids=["a good one", "one with a device"])
def test_a_tarball_of_ones_own_is_unpacked_when_it_was_found_good(
    members: tuple[tarfile.TarInfo, ...], status: int, tmp_path: Path
) -> None:
    file, program = tarball(tmp_path / "file", *members), tmp_path / "script"
    program.write_text(script(copy(own("tar"))))
    words = ["bash", "-c", _COPY, "copy", str(program), str(file), TARGET, KEPT, SAMPLE]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=private", *words], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.endswith("ID=debian\n") == (status == 0)
