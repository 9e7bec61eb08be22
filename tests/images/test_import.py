import hashlib
from datetime import date
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from pytest_django import Settings

from images.models import Image, ImageState, Licence, LicenceKind
from tests.builders import make_project
from tests.images.disks import convert, make_image, run
from tests.images.test_ova import manifest, ovf
from tests.images.web import site

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_store(settings: Settings, tmp_path: Path) -> None:
    settings.LANDFALL_IMAGES_DIR = tmp_path / "store"


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good image. Not to be changed."""
    return make_image(tmp_path_factory.mktemp("images") / "good")


def import_(source: object, *options: str) -> str:
    output = StringIO()
    call_command("import_image", str(source), "--flavour=debian-12", *options, stdout=output, stderr=StringIO())
    return output.getvalue()


def refused(source: object, *options: str) -> str:
    """The command's error; and neither catalogue nor store has changed by it."""
    before = list(Image.objects.values()), stored()
    with pytest.raises(CommandError) as error:
        import_(source, *options)
    assert (list(Image.objects.values()), stored()) == before
    return str(error.value)


def stored() -> list[str]:
    folder: Path = django_settings.LANDFALL_IMAGES_DIR
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_is_entered_with_what_was_found(qcow2: Path) -> None:
    assert "Debian 12 is in the catalogue" in import_(qcow2, "--state=offered", "--end-of-life=2028-06-30")
    image = Image.objects.get()
    assert (image.name, image.flavour, image.format, image.state) == ("Debian 12", "debian-12", "qcow2", "offered")
    assert image.sha256 == image.path == sha256(qcow2)
    assert image.size == qcow2.stat().st_size
    assert image.virtual_size == 38 * 2**20
    assert 0 < image.root_bytes < image.virtual_size
    assert image.end_of_life == date(2028, 6, 30)
    assert image.source == str(qcow2)
    assert image.capabilities["root_file_system"]["type"] == "ext4"
    assert stored() == [image.path]


def test_an_image_is_a_candidate_unless_it_is_offered(qcow2: Path) -> None:
    import_(qcow2)
    assert Image.objects.get().state == ImageState.CANDIDATE


def test_an_image_comes_from_a_url_that_is_remembered_without_its_secrets(qcow2: Path) -> None:
    with site({"/debian.qcow2": qcow2.read_bytes()}) as web:
        import_(web.url("/debian.qcow2?signature=hunter2"), f"--sha256={sha256(qcow2)}")
        assert Image.objects.get().source == web.url("/debian.qcow2")


def test_importing_twice_enters_once(qcow2: Path) -> None:
    import_(qcow2, "--name=Bookworm")
    assert "already, as Bookworm" in import_(qcow2, "--name=Another")
    assert Image.objects.count() == 1
    assert len(stored()) == 1


def test_what_is_there_already_is_not_fetched_again(qcow2: Path) -> None:
    import_(qcow2)
    with site({"/debian.qcow2": qcow2.read_bytes()}) as web:
        import_(web.url("/debian.qcow2"), f"--sha256={sha256(qcow2)}")
        assert web.asked == []


def test_a_file_that_was_lost_comes_back(qcow2: Path) -> None:
    import_(qcow2)
    (django_settings.LANDFALL_IMAGES_DIR / sha256(qcow2)).unlink()
    import_(qcow2, f"--sha256={sha256(qcow2)}")
    assert stored() == [sha256(qcow2)]


def test_a_wrong_checksum_is_refused_with_both(qcow2: Path) -> None:
    message = refused(qcow2, f"--sha256={'0' * 64}")
    assert "0" * 64 in message
    assert sha256(qcow2) in message


def test_a_sha512_is_compared_where_that_is_what_is_published(qcow2: Path) -> None:
    right = hashlib.sha512(qcow2.read_bytes()).hexdigest()
    message = refused(qcow2, f"--sha512={'0' * 128}")
    assert right in message
    assert "SHA-512" in message
    assert "no SHA-512" in refused(qcow2, f"--sha512={sha256(qcow2)}")
    import_(qcow2, f"--sha512={right}")
    assert Image.objects.get().sha256 == sha256(qcow2)


@pytest.mark.parametrize("text", ["abc", "g" * 64, "0" * 63])
def test_what_is_no_checksum_is_refused_before_anything_is_read(text: str) -> None:
    assert "no SHA-256" in refused("/nowhere", f"--sha256={text}")


def test_a_checksum_may_be_written_in_capitals(qcow2: Path) -> None:
    import_(qcow2, f"--sha256={sha256(qcow2).upper()}")
    assert Image.objects.count() == 1


def test_a_hostile_file_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", tmp_path / "evil.qcow2", "1G")
    assert "backing file" in refused(tmp_path / "evil.qcow2")


@pytest.mark.parametrize(("driver", "ending", "format"), [("vmdk", "vmdk", "vmdk"), ("vpc", "vhd", "vhd")])
def test_other_formats_are_entered_as_what_they_are(
    driver: str, ending: str, format: str, qcow2: Path, tmp_path: Path
) -> None:
    other = convert(qcow2.with_name("image.raw"), tmp_path / f"image.{ending}", format=driver)
    import_(other)
    image = Image.objects.get()
    assert (image.format, image.get_format_display()) == (format, format.upper())
    assert image.capabilities["root_file_system"]["type"] == "ext4"


def test_a_file_that_is_not_what_its_name_says_is_refused(qcow2: Path, tmp_path: Path) -> None:
    (tmp_path / "image.raw").write_bytes(qcow2.read_bytes())
    assert "is called a RAW image" in refused(tmp_path / "image.raw")


def test_a_name_that_is_taken_is_refused(qcow2: Path, tmp_path: Path) -> None:
    import_(qcow2)
    other = make_image(tmp_path / "other")
    assert "an image named 'Debian 12' already" in refused(other)
    import_(other, "--name=Debian 12, newer")
    assert Image.objects.count() == 2


def test_an_unknown_flavour_is_refused_with_those_that_there_are(qcow2: Path) -> None:
    message = refused(qcow2, "--flavour=plan-9")
    assert "no flavour 'plan-9'" in message
    assert "debian-12" in message


def test_a_missing_file_is_refused() -> None:
    assert "does not exist" in refused("/nowhere/image.qcow2")


def test_a_day_that_is_none_is_refused(qcow2: Path) -> None:
    assert "2028-06-30" in refused(qcow2, "--end-of-life=soon")


def test_an_image_may_need_a_licence_and_belong_to_a_project(qcow2: Path) -> None:
    Licence.objects.create(name="Our RHEL", kind=LicenceKind.BYOL)
    make_project("Acme")
    import_(qcow2, "--licence=Our RHEL", "--project=acme")
    image = Image.objects.get()
    assert image.licence is not None
    assert image.project is not None


def test_an_unknown_licence_is_refused_with_those_that_there_are(qcow2: Path) -> None:
    Licence.objects.create(name="Our RHEL", kind=LicenceKind.BYOL)
    assert "There is: Our RHEL" in refused(qcow2, "--licence=Theirs")
    assert "none yet" in refused(qcow2, "--project=acme")


def test_a_store_that_cannot_be_written_is_named(qcow2: Path, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.LANDFALL_IMAGES_DIR = tmp_path / "file" / "store"
    with pytest.raises(CommandError, match="Not a directory"):
        import_(qcow2)


# An OVF in a folder with its disks


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """What a hypervisor exports: the description, the manifest and the disk, in one folder."""
    folder = tmp_path / "export"
    folder.mkdir()
    raw = make_image(tmp_path, suffix="raw")
    disk = convert(raw, folder / "vm-disk1.vmdk", "-o", "subformat=streamOptimized", format="vmdk").read_bytes()
    files = {"vm.ovf": ovf("vm-disk1.vmdk"), "vm-disk1.vmdk": disk}
    (folder / "vm.mf").write_bytes(manifest(files))
    (folder / "vm.ovf").write_bytes(files["vm.ovf"])
    return folder / "vm.ovf"


def test_an_ovf_is_taken_with_the_disk_beside_it(export: Path) -> None:
    assert "OVA" in import_(export)
    image = Image.objects.get()
    assert (image.format, image.source) == ("ova", str(export))
    assert image.capabilities["manifest"] == "sha256"
    assert stored() == [image.path]


def test_the_same_export_is_entered_once(export: Path) -> None:
    import_(export)
    assert "in the catalogue already" in import_(export, "--name=Again")


def test_a_damaged_disk_beside_an_ovf_is_told_by_the_manifest(export: Path) -> None:
    with (export.parent / "vm-disk1.vmdk").open("ab") as disk:
        disk.write(b"more")
    assert "as the manifest says" in refused(export)


@pytest.mark.parametrize("name", ["../vm-disk1.vmdk", "/etc/shadow", "..", "vm-disk2.vmdk", "link.vmdk", "folder"])
def test_an_ovf_brings_in_nothing_but_plain_files_beside_it(name: str, export: Path) -> None:
    (export.parent / "link.vmdk").symlink_to(export.parent / "vm-disk1.vmdk")
    (export.parent / "folder").mkdir()
    export.write_bytes(ovf(name))
    assert "The OVF's" in refused(export)


def test_a_checksum_of_an_ovf_is_refused(export: Path) -> None:
    assert "says nothing of its disks" in refused(export, f"--sha256={sha256(export)}")
