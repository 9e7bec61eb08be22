"""OVAs: what is taken of a good one, and what hostile ones are refused for."""

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from images import look as looking
from images.formats import Format
from images.inspect import inspect
from images.inspection import Limits
from images.ova import MOST_MEMBERS
from images.refusal import ImageRefused
from tests.images.disks import MIB, convert, make_image, run

OVF = """<?xml version="1.0" encoding="UTF-8"?>
{prolog}<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References>{files}</References>
<DiskSection><Info>Disks</Info>{disks}</DiskSection>
<VirtualSystem ovf:id="vm"><Info>A machine</Info><VirtualHardwareSection><Info>Hardware</Info>{items}
</VirtualHardwareSection></VirtualSystem></Envelope>"""


def ovf(*names: str, prolog: str = "", addresses: Iterable[str] = "0123456789", more: str = "") -> bytes:
    """A description with these disks, at these addresses of one controller."""
    files = "".join(f'<File ovf:href="{name}" ovf:id="file{at}" {more}/>' for at, name in enumerate(names))
    disks = "".join(
        f'<Disk ovf:diskId="disk{at}" ovf:fileRef="file{at}" ovf:capacity="1"/>' for at, _ in enumerate(names)
    )
    items = "".join(
        f"<Item><rasd:AddressOnParent>{address}</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/disk{at}"
        f"</rasd:HostResource><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"
        for (at, _), address in zip(enumerate(names), addresses, strict=False)
    )
    return OVF.format(prolog=prolog, files=files, disks=disks, items=items).encode()


def manifest(files: dict[str, bytes], algorithm: str = "sha256") -> bytes:
    return "".join(
        f"{algorithm.upper()}({name})= {hashlib.new(algorithm, content).hexdigest()}\n"
        for name, content in files.items()
    ).encode()


def pack(path: Path, files: dict[str, bytes], *odd: tarfile.TarInfo, format: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar of the files, in their order, then of odd members without data."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in odd:
            tar.addfile(member)
    return path


def odd(name: str, type: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = type, link
    return member


def why(path: Path) -> str:
    with pytest.raises(ImageRefused) as refused:
        looking.look(path, None, Limits())
    return str(refused.value)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good image, raw. Not to be changed."""
    return make_image(tmp_path_factory.mktemp("ova") / "good", suffix="raw")


@pytest.fixture(scope="module")
def disk(raw: Path) -> bytes:
    """The same as an OVA has it."""
    options = ("-o", "subformat=streamOptimized")
    return convert(raw, raw.with_suffix(".vmdk"), *options, format="vmdk").read_bytes()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_an_ova_is_taken_with_what_is_inside_and_its_manifest_compared(
    algorithm: str, raw: Path, disk: bytes, tmp_path: Path
) -> None:
    files = {"vm.ovf": ovf("vm-disk1.vmdk"), "vm-disk1.vmdk": disk}
    found = inspect(pack(tmp_path / "vm.ova", {**files, "vm.mf": manifest(files, algorithm)}), Format.OVA)
    whole = inspect(raw)
    assert (found.format, found.virtual_size, found.root) == (Format.OVA, 38 * MIB, whole.root)
    assert found.manifest == algorithm
    capabilities = found.capabilities()
    assert capabilities["root_file_system"] == whole.capabilities()["root_file_system"]
    assert capabilities["disk"]["member"] == "vm-disk1.vmdk"


def test_the_disk_can_be_opened_where_it_lies_in_the_ova(raw: Path, disk: bytes, tmp_path: Path) -> None:
    ova = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk})
    inside = inspect(ova).capabilities()["disk"]
    options = f"driver={inside['format']},file.driver=raw,file.offset={inside['offset']},file.size={inside['size']}"
    run(
        "qemu-img", "convert", "--image-opts", f"{options},file.file.driver=file,file.file.filename={ova}",
        "-O", "raw", tmp_path / "disk.raw",
    )  # fmt: skip
    assert (tmp_path / "disk.raw").read_bytes() == raw.read_bytes()


@pytest.mark.parametrize(("driver", "format"), [("raw", "raw"), ("qcow2", "qcow2"), ("vpc", "vhd")])
def test_the_disk_of_an_ova_may_be_of_any_format(driver: str, format: str, raw: Path, tmp_path: Path) -> None:
    content = convert(raw, tmp_path / "disk", format=driver).read_bytes()
    found = inspect(pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.img"), "d.img": content}))
    assert found.disk is not None
    assert found.disk.format == format
    assert found.root is not None


def test_what_gnu_tar_packs_with_the_folder_is_taken(disk: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    (folder / "vm.ovf").write_bytes(ovf("d.vmdk"))
    (folder / "d.vmdk").write_bytes(disk)
    run("tar", "-cf", tmp_path / "vm.ova", "-C", folder, "./vm.ovf", "./d.vmdk")
    assert looking.look(tmp_path / "vm.ova", None, Limits()).format is Format.OVA


def test_of_several_disks_the_one_at_the_first_address_is_taken_and_the_others_are_named(
    disk: bytes, tmp_path: Path
) -> None:
    files = {"vm.ovf": ovf("data.vmdk", "system.vmdk", addresses="10"), "data.vmdk": b"x" * 4096, "system.vmdk": disk}
    found = looking.look(pack(tmp_path / "vm.ova", files), None, Limits())
    assert found.disk is not None
    assert (found.disk.member, found.left_out) == ("system.vmdk", ("data.vmdk",))
    assert found.capabilities()["left_out"] == ["data.vmdk"]


@pytest.mark.parametrize("addresses", ["00", "", "0"])
def test_several_disks_of_which_none_is_the_first_are_refused(addresses: str, disk: bytes, tmp_path: Path) -> None:
    files = {"vm.ovf": ovf("a.vmdk", "b.vmdk", addresses=addresses), "a.vmdk": disk, "b.vmdk": disk}
    assert "does not say which one it boots from" in why(pack(tmp_path / "vm.ova", files))


@pytest.mark.parametrize(
    "name", ["../d.vmdk", "/etc/cron.d/x", "a/../../d.vmdk", "a/d.vmdk", "..", "d\n.vmdk", "a\\d.vmdk", "./../x"]
)
def test_a_member_that_climbs_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    assert "outside of its folder" in why(pack(tmp_path / "vm.ova", {"vm.ovf": ovf(name), name: b"x" * 512}))


@pytest.mark.parametrize(
    ("type", "link"),
    [(tarfile.SYMTYPE, "/etc/shadow"), (tarfile.LNKTYPE, "vm.ovf"), (tarfile.BLKTYPE, ""), (tarfile.CHRTYPE, ""),
     (tarfile.FIFOTYPE, ""), (tarfile.DIRTYPE, "")],
)  # fmt: skip
def test_a_member_that_is_no_plain_file_is_refused(type: bytes, link: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk")}, odd("d.vmdk", type, link))
    assert "no plain file" in why(path) or "outside of its folder" in why(path)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    files = {f"f{number}": b"" for number in range(MOST_MEMBERS)}
    assert f"more than {MOST_MEMBERS} files" in why(pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), **files}))


def test_two_members_of_one_name_are_refused(disk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk}, odd("./d.vmdk", tarfile.REGTYPE))
    assert "two files named 'd.vmdk'" in why(path)


def test_a_disk_that_leans_on_another_file_is_refused_inside_an_ova_too(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", tmp_path / "evil", "1G")
    files = {"vm.ovf": ovf("d.img"), "d.img": (tmp_path / "evil").read_bytes()}
    assert "backing file" in why(pack(tmp_path / "vm.ova", files))


EXTERNAL = '<!DOCTYPE Envelope [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = "<!DOCTYPE Envelope [<!ENTITY a 'ha'>" + "".join(
    f"<!ENTITY {name} '{f'&{chr(ord(name) - 1)};' * 10}'>" for name in "bcdefghij"
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "prolog", [EXTERNAL, LAUGHS, "<!DOCTYPE Envelope>", '<!DOCTYPE Envelope SYSTEM "http://127.0.0.1:9/x.dtd">']
)
def test_a_description_with_a_document_type_is_refused(prolog: str, tmp_path: Path) -> None:
    assert "document type" in why(pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk", prolog=prolog)}))


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (b"<Envelope", "no XML"),
        (b"\xff\xfe<\0", "no XML"),
        (b"<?xml version='1.0' encoding='klingon'?><Envelope/>", "encoding"),
        (b"<html/>", "no OVF"),
        (b"<Envelope/>", "0 machines"),
        (b"<Envelope>" + b"<a>" * 100 + b"</a>" * 100 + b"</Envelope>", "nested too deeply"),
        (b"<Envelope>" + b"<a/>" * 30_000 + b"</Envelope>", "too many elements"),
        (b"<Envelope><VirtualSystem/></Envelope>", "names no disk"),
        (b"<Envelope><VirtualSystem/><VirtualSystem/></Envelope>", "2 machines"),
        (b'<Envelope><VirtualSystem/><Disk fileRef="x"/></Envelope>', "does not describe"),
        (b'<Envelope><VirtualSystem/><Disk fileRef="x" parentRef="y"/></Envelope>', "its parent"),
        (ovf("http://127.0.0.1:9/d.vmdk"), "elsewhere"),
        (ovf("d.vmdk", more='ovf:compression="gzip"'), "packed once more"),
        (ovf("d.vmdk", more='ovf:chunkSize="7"'), "cut into pieces"),
        (ovf("gone.vmdk"), "'gone.vmdk' is not in it"),
        (b" " * (2**20 + 1), "larger than any description"),
    ],
)
def test_a_description_that_is_none_is_refused(xml: bytes, words: str, tmp_path: Path) -> None:
    assert words in why(pack(tmp_path / "vm.ova", {"vm.ovf": xml, "d.vmdk": b"x" * 512}))


def test_a_wrong_checksum_in_the_manifest_is_refused_with_both(disk: bytes, tmp_path: Path) -> None:
    files = {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk}
    wrong = manifest({**files, "d.vmdk": b"other"})
    message = why(pack(tmp_path / "vm.ova", {**files, "vm.mf": wrong}))
    assert hashlib.sha256(disk).hexdigest() in message
    assert hashlib.sha256(b"other").hexdigest() in message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (lambda files: manifest({"vm.ovf": files["vm.ovf"]}), "does not name 'd.vmdk'"),
        (lambda files: manifest({**files, "gone": b""}), "'gone', which is not in it"),
        (lambda files: manifest(files) * 2, "a line that is none"),
        (lambda files: b"MD5(vm.ovf)= 0\n", "a line that is none"),
        (lambda files: b"<xml/>", "a line that is none"),
    ],
)
def test_a_manifest_that_is_not_of_these_files_is_refused(lines, words: str, disk: bytes, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    files = {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk}
    assert words in why(pack(tmp_path / "vm.ova", {**files, "vm.mf": lines(files)}))


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_half_an_ova_is_refused(part: float, disk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "checksum" in why(path)


def test_an_ova_without_a_manifest_is_taken_and_says_so(disk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk})
    assert looking.look(path, None, Limits()).capabilities()["manifest"] == "none"


def test_an_ovf_alone_is_to_be_packed_with_its_disk(tmp_path: Path) -> None:
    (tmp_path / "vm.ovf").write_bytes(ovf("d.vmdk"))
    assert "tar -cf NEW.ova" in why(tmp_path / "vm.ovf")


def test_an_ova_in_an_ova_is_no_disk(disk: bytes, tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk}).read_bytes()
    assert "is no disk" in why(pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.ova"), "d.ova": inner}))


def test_a_copy_is_judged_by_what_is_in_it_not_by_its_name(disk: bytes, tmp_path: Path) -> None:
    path = pack(tmp_path / "vm.ova", {"vm.ovf": ovf("d.vmdk"), "d.vmdk": disk})
    other = Path(shutil.copy(path, tmp_path / "image.vmdk"))
    with pytest.raises(ImageRefused, match="called a VMDK image, and is a OVA"):
        inspect(other, Format.VMDK)
