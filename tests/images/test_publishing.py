"""Publishing: what a stream keeps of a tree, the queue, and (in the lab) the machine that packs."""

import hashlib
import json
import os
import shlex
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import Role
from deploy.step import TARGET
from deploy.steps.copying import TAR
from images.accelerator import Accelerator
from images.models import Format, Image, Publication, PublicationState
from images.publishing import publish
from images.publishing.machine import Packed, Rescue, Source, _result, argv, script
from images.refusal import ImageRefused
from tests.builders import make_image, make_user
from tests.images.disks import CAPABILITY, MIB, ROOT_X86_64, make_raw, run
from tests.pages import browser, text

ACL = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000000ffffffff")
"""user::rw-, user 1000:r--, group::r--, mask::rw-, other::---"""
LABEL = b"system_u:object_r:etc_t:s0\0"


def furnish(tree: Path) -> None:
    """Files with everything that a copy can lose."""
    for folder in ("etc", "dev", "usr/bin"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/os-release").write_text("ID=debian\n")
    (tree / "usr/bin/one").write_text("x" * 5000)
    os.link(tree / "usr/bin/one", tree / "usr/bin/the same")
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "long link").symlink_to("x" * 300)
    (tree / "odd\nname \N{SNOWMAN}").write_text("odd")
    (Path(os.fsdecode(os.fsencode(tree) + b"/not\xffutf8"))).write_text("bytes")
    (tree / ("long" * 60)).write_text("long")
    with (tree / "sparse").open("wb") as file:
        file.truncate(30 * MIB)
        file.seek(20 * MIB)
        file.write(b"data")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(tree / "usr/bin/one", 1234, 99_999)
    (tree / "usr/bin/one").chmod(0o4751)
    os.chown(tree / "link", 7, 8, follow_symlinks=False)
    (tree / "etc").chmod(0o2750)
    os.setxattr(tree / "usr/bin/one", "user.colour", b"blue\0\n")
    os.setxattr(tree / "usr/bin/one", "security.capability", CAPABILITY)
    os.setxattr(tree / "etc/os-release", "security.selinux", LABEL)
    os.setxattr(tree / "etc", "system.posix_acl_default", ACL)
    os.setxattr(tree / "etc/os-release", "system.posix_acl_access", ACL)
    for path in (tree / "usr/bin/one", tree / "sparse", tree / "etc"):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))


def attributes(path: Path) -> dict[str, bytes]:
    """The extended attributes: ACLs, capabilities and labels among them."""
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def picture(tree: Path) -> dict[str, Any]:
    """All that can be told of a tree."""
    seen: dict[str, Any] = {}
    inodes: dict[int, str] = {}
    for folder, folders, files in os.walk(tree):
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            key, at = os.fsdecode(os.path.relpath(path, tree)), path.lstat()
            if key.split("/")[0] == "lost+found":
                continue
            kind = stat.S_IFMT(at.st_mode)
            seen[key] = (
                oct(at.st_mode), at.st_uid, at.st_gid, at.st_rdev, at.st_mtime_ns,
                at.st_size if kind == stat.S_IFREG else None,
                str(path.readlink()) if kind == stat.S_IFLNK else None,
                hashlib.sha256(path.read_bytes()).hexdigest() if kind == stat.S_IFREG else None,
                at.st_nlink if kind != stat.S_IFDIR else None,
                inodes.setdefault(at.st_ino, key),
                attributes(path),
            )  # fmt: skip
    return seen


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, where)
    try:
        yield where
    finally:
        run("umount", where)


def may_mount() -> bool:
    """Whether this user may mount files: containers differ."""
    with_loop = "truncate -s 16M $1/f && mkfs.ext4 -q $1/f && mkdir $1/m && mount -o loop $1/f $1/m && umount $1/m"
    trial = subprocess.run(
        ["sh", "-c", f'd=$(mktemp -d); set -- "$d"; {with_loop}; s=$?; rm -rf "$d"; exit $s'], capture_output=True
    )
    return trial.returncode == 0


needs_mounts = pytest.mark.skipif(not may_mount(), reason="this user may not mount a file here")


def filesystem(path: Path, furnished: Callable[[Path], None] = furnish) -> Path:
    """A file that is an ext4 with a furnished tree."""
    with path.open("wb") as file:
        file.truncate(96 * MIB)
    run("mkfs.ext4", "-q", path)
    with mounted(path, path.with_suffix(".mnt")) as where:
        furnished(where)
    return path


def packed_here(image: Path, folder: Path, source: Source) -> tuple[Path, Packed]:
    """What the machine's script makes of a block device, run by this host's own shell."""
    loop = run("losetup", "--find", "--show", "--read-only", image).strip()
    said, stream = folder / "said", folder / "stream"
    stream.write_bytes(b"")
    said.touch()
    (folder / "script").write_bytes(script(source, 3))
    work = folder / "work"
    work.mkdir()
    try:
        subprocess.run(
            ["bash", folder / "script"], check=False,
            env=os.environ | {"SAID": str(said), "IMAGE": loop, "STREAM": str(stream), "WORK": str(work)},
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "--recursive", work / "root"], check=False, capture_output=True)
        run("losetup", "--detach", loop)
    return stream, _result(folder)


@needs_mounts
def test_a_stream_keeps_all_that_a_file_system_knows_of_its_files(tmp_path: Path) -> None:
    """The machine's own script packs it, and the copy step's own tar unpacks it."""
    image = filesystem(tmp_path / "image")
    (tmp_path / "s").mkdir()
    stream, packed = packed_here(image, tmp_path / "s", Source(image, "raw", 96 * MIB, 96 * MIB))
    data = stream.read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (packed.size, packed.sha256)
    target = filesystem(tmp_path / "target", lambda _: None)
    with mounted(image, tmp_path / "from") as was, mounted(target, tmp_path / "to") as became:
        tar = TAR.replace(TARGET, shlex.quote(str(became)))
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; zstd -dc {shlex.quote(str(stream))} | {tar} --exclude=./lost+found"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        before, after = picture(was), picture(became)
        assert after == before
        assert before["usr/bin/one"][-1]["security.capability"] == CAPABILITY
        assert before["etc"][-1]["system.posix_acl_default"] == ACL
        assert (became / "sparse").stat().st_blocks * 512 < MIB
    assert packed.files == len(before) + 1
    assert packed.tar_bytes > packed.size
    assert 0 < packed.root_bytes < MIB


@needs_mounts
def test_a_tarball_becomes_a_stream_too(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    furnish(tree)
    tarball = tmp_path / "image.tar.xz"
    run("tar", "-C", tree, "--xattrs", "--xattrs-include=*", "-cJf", tarball, ".")
    size = tarball.stat().st_size
    with tarball.open("ab") as file:
        file.truncate(-(-size // 4096) * 4096)
    (tmp_path / "s").mkdir()
    stream, packed = packed_here(tarball, tmp_path / "s", Source(tarball, "tar", size, 0))
    listed = run("tar", "--zstd", "-tf", stream).splitlines()
    assert packed.files == len(listed) == len(picture(tree)) + 1
    assert packed.sha256 == hashlib.sha256(stream.read_bytes()).hexdigest()


@needs_mounts
def test_an_image_without_a_system_in_it_is_refused_with_a_sentence(tmp_path: Path) -> None:
    image = filesystem(tmp_path / "image", lambda _: None)
    (tmp_path / "s").mkdir()
    with pytest.raises(ImageRefused, match="none has /etc/os-release"):
        packed_here(image, tmp_path / "s", Source(image, "raw", 96 * MIB, 96 * MIB))


@needs_mounts
def test_an_image_with_a_device_node_where_none_belongs_is_refused_before_it_is_packed(tmp_path: Path) -> None:
    def hostile(tree: Path) -> None:
        furnish(tree)
        os.mknod(tree / "etc/disk", 0o666 | stat.S_IFBLK, os.makedev(8, 0))

    image = filesystem(tmp_path / "image", hostile)
    (tmp_path / "s").mkdir()
    with pytest.raises(ImageRefused) as refused:
        packed_here(image, tmp_path / "s", Source(image, "raw", 96 * MIB, 96 * MIB))
    assert refused.value.why == "The image's 'etc/disk' is a device node outside of /dev."
    assert refused.value.fix == "Take it out of the image, then try again."
    assert not (tmp_path / "s/stream").read_bytes()


def test_the_machine_has_no_network_and_one_disk_that_it_can_write_to(tmp_path: Path) -> None:
    for name in ("vmlinuz", "initrd.img"):
        (tmp_path / name).touch()
    disk = {"member": "a.vmdk", "offset": 1536, "size": 65536, "format": "vmdk"}
    words = argv(Source(Path("/store/a,b"), "ova", 1, 1, disk), Rescue(tmp_path), tmp_path, Accelerator.TCG)
    assert words[words.index("-nic") + 1] == "none"
    drives = [words[at + 1] for at, word in enumerate(words) if word == "-drive"]
    image, said, stream = drives
    assert "snapshot=on" in image
    assert "driver=vmdk,file.driver=raw,file.offset=1536,file.size=65536" in image
    assert image.endswith("file.file.filename=/store/a,,b")
    assert "read-only=on" in said
    assert stream.endswith(f"file={tmp_path}/stream")


def test_what_came_over_a_serial_port_is_read(tmp_path: Path) -> None:
    said = {"sha256": "a" * 64, "size": 7, "tar_bytes": 10240, "root_bytes": 4096, "files": 1}
    (tmp_path / "said").write_bytes(b"packing 0 MiB\r\nRESULT " + json.dumps(said).encode() + b"\r\n")
    (tmp_path / "stream").write_bytes(b"x" * 100)
    assert _result(tmp_path) == Packed("a" * 64, 7, 10240, 4096, 1)
    assert (tmp_path / "stream").stat().st_size == 7


@pytest.mark.parametrize(
    "said",
    [
        "", "started\nbroke off\n", "RESULT {}\n", 'RESULT {"sha256": "x", "size": 1}\n',
        'RESULT {"sha256": "%s", "size": 999999, "tar_bytes": 1, "root_bytes": 1, "files": 1}\n' % ("a" * 64),
    ],
)  # fmt: skip
def test_a_machine_that_talks_nonsense_is_not_believed(tmp_path: Path, said: str) -> None:
    (tmp_path / "said").write_text(said)
    (tmp_path / "stream").write_bytes(b"x" * 100)
    (tmp_path / "errors").touch()
    with pytest.raises(ImageRefused, match=r"[.]$"):
        _result(tmp_path)


# --- the queue


@pytest.mark.django_db
def test_one_publisher_has_an_image_until_its_lease_runs_out() -> None:
    image, now = make_image(), timezone.now()
    publish.ask(image, "root")
    mine = publish.claim("first", now)
    assert mine
    assert publish.claim("second", now) is None
    theirs = publish.claim("second", now + publish.LEASE + timedelta(seconds=1))
    assert theirs
    assert not publish.Claimed(mine, threading.Event(), lambda _: None)._write(message="late")


@pytest.mark.django_db
def test_what_is_on_its_way_is_not_asked_for_twice() -> None:
    image = make_image()
    publish.ask(image, "root")
    publish.claim("first", timezone.now())
    assert publish.ask(image, "root").state == PublicationState.RUNNING
    assert Publication.objects.count() == 1


@pytest.mark.django_db
def test_why_an_image_was_not_published_is_kept_and_it_can_be_asked_for_again(settings: Any, tmp_path: Path) -> None:
    settings.LANDFALL_IMAGES_DIR, settings.LANDFALL_RESCUE_DIR = tmp_path, None
    image = make_image(path="file")
    for message in ("is missing in the store", "No rescue system is set up"):
        publish.ask(image, "root")
        mine = publish.claim("first", timezone.now())
        assert mine
        with pytest.raises(ImageRefused, match=message):
            publish.Claimed(mine, threading.Event(), lambda _: None).publish()
        mine.refresh_from_db()
        assert (mine.state, message in mine.message) == (PublicationState.FAILED, True)
        (tmp_path / "file").touch()


@pytest.mark.django_db
def test_a_publisher_that_is_stopped_leaves_its_image_to_the_next(settings: Any, tmp_path: Path) -> None:
    settings.LANDFALL_IMAGES_DIR = tmp_path
    stopping = threading.Event()
    stopping.set()
    publish.ask(make_image(path="missing"), "root")
    mine = publish.claim("first", timezone.now())
    assert mine
    assert not publish.Claimed(mine, stopping, lambda _: None).publish()
    assert publish.claim("second", timezone.now())


@pytest.mark.django_db
def test_the_command_names_the_images_that_there_are() -> None:
    make_image(name="Debian 12")
    with pytest.raises(CommandError, match="There are: Debian 12"):
        call_command("publish", "Debian 99")


def test_customers_may_not_publish(db: None) -> None:
    image = make_image()
    assert browser(make_user()).post(f"/images/{image.pk}/publish/").status_code == 404
    assert not Publication.objects.exists()


@pytest.mark.django_db
def test_the_page_of_an_image_says_how_far_it_is_and_admins_can_ask_for_it() -> None:
    admin, image = browser(make_user(role=Role.ADMIN)), make_image()
    assert "not published" in text(admin, f"/images/{image.pk}/")
    admin.post(f"/images/{image.pk}/publish/")
    assert "Queued" in text(admin, f"/images/{image.pk}/")
    mine = publish.claim("first", timezone.now())
    assert mine
    publish.Claimed(mine, threading.Event(), lambda _: None).say("packing 300 MiB")
    assert "Being published: packing 300 MiB" in text(admin, f"/images/{image.pk}/")
    Publication.objects.update(state=PublicationState.DONE, sha256="ab" * 32, ended_at=timezone.now(), files=7)
    assert "ab" * 32 in text(admin, f"/images/{image.pk}/")


@pytest.mark.django_db
def test_the_page_of_an_image_follows_its_publication_and_offers_no_second_one_meanwhile() -> None:
    admin, image = browser(make_user(role=Role.ADMIN)), make_image()
    page, ask, htmx = f"/images/{image.pk}/", f"/images/{image.pk}/publish/", {"HX-Request": "true"}
    assert ask in text(admin, page)
    admin.post(ask)
    words = text(admin, page)
    assert ask not in words
    assert 'hx-trigger="every 2s"' in words
    piece = admin.get(page, headers=htmx)
    assert "Queued" in piece.content.decode()
    assert "<html" not in piece.content.decode()
    Publication.objects.update(state=PublicationState.FAILED, message="There is no system in it.")
    assert admin.get(page, headers=htmx)["HX-Refresh"] == "true"
    words = text(admin, page)
    assert "not published</span><br>There is no system in it." in words
    assert ask in words


# --- in the lab


@pytest.mark.qemu
@pytest.mark.django_db(transaction=True)
def test_an_image_is_published_by_a_machine_of_its_own(settings: Any, tmp_path: Path, capsys: Any) -> None:
    """Rescue kernel and its tools: a QCOW2 with the root on a partition of it."""
    from rescue.build import ensure

    settings.LANDFALL_IMAGES_DIR = tmp_path / "store"
    settings.LANDFALL_IMAGES_DIR.mkdir()
    settings.LANDFALL_RESCUE_DIR = ensure(lambda line: None)
    tree = tmp_path / "tree"
    furnish(tree)
    root = tmp_path / "fs"
    with root.open("wb") as file:
        file.truncate(96 * MIB)
    run("mke2fs", "-q", "-t", "ext4", "-d", tree, root)
    file = settings.LANDFALL_IMAGES_DIR / "file"
    run("qemu-img", "convert", "-O", "qcow2", make_raw(tmp_path / "raw", (ROOT_X86_64, root)), file)
    image = make_image(
        name="Packed", path="file", format=Format.QCOW2, size=file.stat().st_size, virtual_size=98 * MIB, root_bytes=0
    )
    call_command("publish", "Packed")
    done = Publication.objects.get(image=image)
    stream = settings.LANDFALL_IMAGES_DIR / done.sha256
    assert (done.state, stream.stat().st_size) == (PublicationState.DONE, done.size)
    assert hashlib.sha256(stream.read_bytes()).hexdigest() == done.sha256
    assert Image.objects.get(pk=image.pk).root_bytes == done.root_bytes > 0
    manifest = json.loads(publish.manifest_path(settings.LANDFALL_IMAGES_DIR, image).read_text())
    assert (manifest["sha256"], manifest["files"]) == (done.sha256, len(picture(tree)) + 1)
    listed = run("tar", "--zstd", "--xattrs", "--xattrs-include=*", "-tvvf", stream)
    assert "security.capability" in listed
