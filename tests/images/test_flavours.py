"""The data of the flavours, held together by what must be true of every one."""

from datetime import date
from pathlib import Path

import pytest

from images.flavours import FLAVOURS, Flavour, Initramfs, LicenceTool, Need
from images.flavours.page import page
from servers.storage.layout import FsType, Raid

every_flavour = pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=lambda one: one.name)


def test_the_page_of_all_flavours_is_as_the_data_is() -> None:
    """Written anew with `python -m images.flavours > docs/flavours.md`."""
    assert (Path(__file__).parents[2] / "docs/flavours.md").read_text() == page()


def test_every_distribution_that_was_asked_for_is_there() -> None:
    assert set(FLAVOURS) >= {
        "debian-11", "debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "rhel-7", "rhel-8", "rhel-9", "rhel-10",
        "rocky-8", "rocky-9", "rocky-10", "alma-8", "alma-9", "alma-10", "opensuse-leap-15", "fedora-43", "arch",
    }  # fmt: skip


@every_flavour
def test_what_a_plan_may_hold_is_something_that_the_planner_knows(flavour: Flavour) -> None:
    assert flavour.filesystems <= {one.value for one in FsType}
    assert flavour.raid_levels <= {one.value for one in Raid}


@every_flavour
def test_whatever_a_flavour_can_start_from_has_its_packages(flavour: Flavour) -> None:
    needs = {Need.SYSTEM, Need.RAID, Need.LVM, Need.XFS} | ({Need.LUKS} if flavour.luks else set())
    if "btrfs" in flavour.filesystems:
        needs.add(Need.BTRFS)
    assert not [need for need in needs if not flavour.packages_for(need)]


@every_flavour
def test_drivers_of_real_servers_are_in_every_initramfs(flavour: Flavour) -> None:
    assert {"nvme", "ahci", "megaraid_sas", "mpt3sas", "hpsa", "raid1", "usbhid"} <= set(flavour.server_drivers)


@every_flavour
def test_a_presets_file_of_our_own_is_none_that_a_package_writes_where_there_is_a_folder_for_them(
    flavour: Flavour,
) -> None:
    ours = flavour.grub.presets == "/etc/default/grub.d/landfall.cfg"
    assert ours == (flavour.initramfs is Initramfs.INITRAMFS_TOOLS)


@every_flavour
def test_the_serial_line_comes_last_so_that_serial_over_lan_shows_the_start(flavour: Flavour) -> None:
    assert flavour.console.split()[-1].startswith("console=ttyS0")


def test_only_red_hat_s_own_need_a_licence() -> None:
    licensed = {name for name, one in FLAVOURS.items() if one.licence is LicenceTool.SUBSCRIPTION_MANAGER}
    assert licensed == {"rhel-7", "rhel-8", "rhel-9", "rhel-10"}


def test_old_kernels_get_file_systems_that_they_can_mount() -> None:
    assert {"sparse=0", "reflink=0", "bigtime=0"} <= set(FLAVOURS["rhel-7"].xfs_features)
    assert {"bigtime=0", "inobtcount=0"} <= set(FLAVOURS["rocky-8"].xfs_features)
    assert "nrext64=0" in FLAVOURS["debian-12"].xfs_features
    assert "^metadata_csum" in FLAVOURS["rhel-7"].ext4_features
    assert not FLAVOURS["rhel-7"].luks


def test_a_version_lives_longer_than_the_one_before_it() -> None:
    for family in ("debian", "ubuntu", "rhel", "rocky", "alma", "fedora"):
        ends = [one.end_of_life or date.max for name, one in FLAVOURS.items() if name.startswith(f"{family}-")]
        assert ends == sorted(ends), family
