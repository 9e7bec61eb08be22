"""The iPXE scripts that answer a machine's `GET /boot/<mac>`."""

import re

from accounts.secret import Secret
from servers.facts import Firmware

KERNEL = "vmlinuz"
INITRD = "initrd.img"
BIOS_DRIVES = range(0x80, 0x90)
"""The numbers that a BIOS gives its disks, in which it tries them: 0x80 is the first."""
WAIT_BEFORE_RETRY = 10
"""Seconds; a hundred machines that wait for a restarting Landfall then ask ten times a second."""

_LOADER = re.compile(r"(\\[A-Za-z0-9._+-]+)+")
# iPXE splits at white space, expands ${...} and knows three operators and a comment; all else is plain text to it
_STEERS_IPXE = re.compile(r"\$\{|[^\x20-\x7e]")
_OPERATORS = ("||", "&&", ";")


def rescue_script(machine_url: str, kernel_args: str, token: Secret, mac: str) -> str:
    """The script that loads the rescue system; the text contains the revealed token.

    Until it has loaded, the machine asks anew for its script: it then gets a fresh token, or the disk if an operator
    has changed the decision in the meantime.
    """
    arguments = f"{_kernel_arguments(kernel_args)} landfall.url={machine_url} landfall.token={token.reveal()}"
    return f"""\
#!ipxe
echo Landfall: starting the rescue system
imgfree
kernel {machine_url}/boot/files/{KERNEL} {arguments} || goto again
initrd {machine_url}/boot/files/{INITRD} || goto again
boot || goto again

:again
echo Landfall: the rescue system did not load. Next try in {WAIT_BEFORE_RETRY} seconds.
imgfree
sleep {WAIT_BEFORE_RETRY}
chain --replace {machine_url}/boot/{mac} || goto again
"""


def disk_script(firmware: Firmware, loader: str = "") -> str:
    """The script that starts what is installed; `loader` is the path of the image's EFI loader, `/` or `\\` apart.

    When no attempt succeeds, iPXE leaves with an error and the firmware goes on to its next boot entry. A plain
    `exit` is success to UEFI: OVMF then stops in its setup menu and stays there (measured).
    """
    if firmware is Firmware.UEFI:
        # drive 0 is whichever disk has the file, so either half of a mirror will do; needs iPXE of 2024 or newer
        attempts = [f"sanboot --no-describe --drive 0 --filename {_efi_path(loader)}"] if loader else []
    else:
        # The system may lie behind other disks: those of ours hand on to the next one. A disk that was just replaced
        # is blank, and another one of the mirror boots. A drive that is not there costs nothing.
        attempts = [f"sanboot --no-describe --drive {drive:#x}" for drive in BIOS_DRIVES]
    lines = [f"{attempt} ||" for attempt in attempts]
    return "\n".join(["#!ipxe", "echo Landfall: starting from disk", *lines, "exit 1"]) + "\n"


def _efi_path(loader: str) -> str:
    """The loader as iPXE hands it to the firmware, which knows backslashes only."""
    path = "\\" + loader.replace("/", "\\").lstrip("\\")
    if not _LOADER.fullmatch(path):
        raise ValueError(f"not a path of an EFI loader: {loader!r}")
    return path


def _kernel_arguments(text: str) -> str:
    """The arguments with `initrd=` among them, once: by it the EFI stub finds the initramfs, twice loads it twice."""
    words = text.split()
    if _STEERS_IPXE.search(text) or any(word in _OPERATORS or word.startswith("#") for word in words):
        raise ValueError(f"iPXE would not pass these kernel arguments on as they are: {text!r}")
    if not any(word.startswith("initrd=") for word in words):
        words.insert(0, f"initrd={INITRD}")
    return " ".join(words)
