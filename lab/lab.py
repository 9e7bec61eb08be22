"""The lab: some machines, one BMC in front of them, one folder that holds it all."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO

from images.accelerator import accelerator

from .bmc import Bmc
from .machine import OVMF_VARS, Machine
from .spec import MachineSpec

# Debian 12 and Ubuntu 24.04 have it in the first place, Debian 13 in the second; QEMU itself finds it by its name.
IPXE_ROMS = (Path("/usr/lib/ipxe/qemu/pxe-virtio.rom"), Path("/usr/share/qemu/pxe-virtio.rom"))


class LabUnusable(Exception):
    """The lab cannot start; the message says what to do."""


class Lab:
    """Virtual bare metal on loopback. Machines are off until their BMC (or a caller) switches them on.

    `http_url` is the controller's address as machines see it (the host is 10.0.2.2 to them); `rescue_dir` gives
    snponly.efi, and the kernel with which KVM is tried.
    """

    def __init__(
        self,
        folder: Path,
        specs: Sequence[MachineSpec],
        http_url: str,
        bmc_port: int,
        bmc_user: str,
        bmc_password: str,
        rescue_dir: Path,
    ) -> None:
        self.folder, self.specs, self.http_url, self.rescue_dir = folder.resolve(), tuple(specs), http_url, rescue_dir
        self._bmc_account = (bmc_port, bmc_user, bmc_password)
        self._lock_file: IO[str] | None = None
        self._spawner = ThreadPoolExecutor(1, "spawner")
        self.machines: dict[str, Machine] = {}
        self._bmc: Bmc | None = None

    def start(self) -> None:
        """Files laid out, BMC answering; LabUnusable when the host lacks something or another lab has the folder."""
        require_host()
        self._take_folder()
        found = accelerator(self.rescue_dir / "vmlinuz")
        for spec in self.specs:
            machine = Machine(spec, self.folder / spec.name, self.http_url, found, self._spawner)
            machine.prepare(self.rescue_dir / "snponly.efi")
            self.machines[spec.name] = machine
        port, user, password = self._bmc_account
        try:
            self._bmc = Bmc(self.machines, port, user, password, self.folder)
        except OSError as error:
            raise LabUnusable(f"The BMC cannot listen on 127.0.0.1:{port}: {error}") from error
        self._bmc.start()

    def stop(self) -> None:
        """Every QEMU gone, the BMC silent, the folder free; disks stay."""
        if self._bmc is not None:
            self._bmc.stop()
            self._bmc = None
        for machine in self.machines.values():
            machine.power_off()
        self._spawner.shutdown()
        if self._lock_file is not None:
            self._lock_file.close()

    def bmc_url(self, name: str) -> str:
        """The Redfish address of a machine."""
        assert self._bmc is not None
        return f"http://127.0.0.1:{self._bmc.port}/redfish/v1/Systems/{name}"

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.stop()

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LabUnusable(f"Another lab runs in {self.folder}; stop it first.") from error


def require_host() -> None:
    """Nothing, when QEMU and its firmware are here; LabUnusable with the apt command otherwise."""
    needed = {
        "qemu-system-x86": shutil.which("qemu-system-x86_64"),
        "ovmf": OVMF_VARS.exists(),
        "ipxe-qemu": any(rom.exists() for rom in IPXE_ROMS),
        "util-linux": shutil.which("setpriv"),
    }
    if missing := [package for package, found in needed.items() if not found]:
        raise LabUnusable(
            f"The lab needs {', '.join(missing)}. Install with: sudo apt-get install -y {' '.join(missing)}"
        )  # fmt: skip
