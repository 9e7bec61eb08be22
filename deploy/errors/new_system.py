"""Failures of the new system: what keeps it from calling, as its logs show it, and what shows once it has called.

The logs are those that `deploy.steps.aftermath` reads from the rescue system. A trace's `of` says in which of its
sections it counts. Of two causes that show, the earlier one is meant: what comes first in a start comes first here.
"""

from ..events import Blame
from .entry import Chapter, Entry, Trace

_JOURNAL = r"^journalctl|/var/log/messages"
LOGS = rf"{_JOURNAL}|/var/log/cloud-init"
"""The commands that show logs of the new system itself."""
# its name in the journal is that of the shell that runs it
_UNIT = r" (?:sh|landfall-phone-home)\[\d+\]: "

# Drives without a medium complain in the same words.
_A_DISK = r"(?!fd\d|sr\d|nbd|loop)"

DISK = Entry(
    "phone-home-disk",
    Blame.HARDWARE,
    "The new system never phoned home: a disk of the server cannot be read or written.",
    "Look at its SMART values (smartctl -a) and its cable, replace the disk, then reinstall.",
    (
        Trace(rf"I/O error, dev {_A_DISK}", "the kernel: seen", of=_JOURNAL),
        Trace(rf"Buffer I/O error on dev {_A_DISK}", "the kernel: seen", of=_JOURNAL),
        Trace("can't read superblock on|Input/output error", "mount of util-linux 2.41: seen", of="^mount "),
    ),
)
UNREADABLE = Entry(
    "phone-home-unreadable",
    Blame.HARDWARE,
    "The new system never phoned home, and its file systems cannot be mounted any more.",
    "Look at the SMART values of the server's disks (smartctl -a) and at the lines below; then reinstall.",
)
PANIC = Entry(
    "phone-home-panic",
    Blame.PROVIDER,
    "The new system never phoned home: its kernel panicked.",
    "Read the lines below. Most often the initramfs lacks a driver, or the kernel does not know this machine: try "
    "another image, or a newer kernel in it.",
    (Trace("Kernel panic - not syncing", "the kernel: read", of=_JOURNAL),),
)
NO_ROOT = Entry(
    "phone-home-no-root",
    Blame.PROVIDER,
    "The new system never phoned home: its initramfs did not find the root file system.",
    "Its initramfs lacks the driver of the server's disks or the tool for its array, or the boot menu names another "
    "file system: compare the UUIDs below, try another image, and report it.",
    (
        Trace(r"ALERT! .* does not exist|Gave up waiting for root", "initramfs-tools: read"),
        Trace("dracut-initqueue.*(?:Could not boot|timeout)", "dracut: read"),
        Trace("Unable to mount root fs", "the kernel: read"),
    ),
)
NEVER_STARTED = Entry(
    "phone-home-never-started",
    Blame.PROVIDER,
    "The new system never phoned home: it left no trace of ever having been started.",
    "Look at the server's console: does the firmware start from the disk, does GRUB come up, does the initramfs find "
    "the root file system? Compare the firmware mode in the inventory (BIOS or UEFI) with the server's; then "
    "reinstall.",
)
EMERGENCY = Entry(
    "phone-home-emergency",
    Blame.PROVIDER,
    "The new system never phoned home: it stopped in emergency mode, as a file system could not be mounted.",
    "Read the lines below for the file system that is missing or damaged; then reinstall.",
    (
        Trace("Reached target emergency.target", "systemd 252: seen", of=_JOURNAL),
        Trace("Dependency failed for local-fs.target", "systemd 252: seen", of=_JOURNAL),
    ),
    (Trace(r"Dependency failed for \S+\.mount", "systemd 252: seen", of=_JOURNAL),),
)
TOKEN = Entry(
    "phone-home-unknown",
    Blame.PROVIDER,
    "The new system did phone home, but Landfall did not know its token any more.",
    "It can be logged into. Retry the install from the step that makes it bootable, which gives it a new token.",
    (Trace(_UNIT + r"Landfall answered 4(?:04|10)", "Landfall's own unit", of=_JOURNAL),),
)
REFUSED = Entry(
    "phone-home-refused",
    Blame.PROVIDER,
    "The new system did phone home, and something between it and Landfall refused the call.",
    "Look at the proxy or firewall in front of LANDFALL_MACHINE_URL; then try again.",
    (Trace(_UNIT + r"Landfall refused the call with", "Landfall's own unit", of=_JOURNAL),),
)
NO_NETWORK = Entry(
    "phone-home-no-network",
    Blame.PROVIDER,
    "The new system never phoned home: it got no address.",
    "Look whether DHCP answers on the network card that the system uses, whether its cable is in, and whether the "
    "image has the card's driver; then try again.",
    (
        Trace("No DHCPOFFERS received|No working leases in persistent database", "dhclient: read"),
        Trace(r"dhcp4 \(\S+\): (?:request timed out|state changed \S+ -> timeout)", "NetworkManager: read"),
        Trace("Timeout occurred while waiting for network connectivity", "systemd-networkd-wait-online: read"),
        Trace("systemd-networkd-wait-online.service: Failed with result", "systemd 252: read"),
        Trace(r"ci-info: \| +(?!lo )\S+ +\| +(?:True|False) +\| +(?:\.|fe80\S+) ", "cloud-init 22.4: seen"),
    ),
)
NO_NAME = Entry(
    "phone-home-no-name",
    Blame.PROVIDER,
    "The new system never phoned home: it could not resolve Landfall's name.",
    "Look at the name servers that DHCP gives to it, or use an address in LANDFALL_MACHINE_URL; then reinstall.",
    (
        Trace(
            _UNIT + ".*(?:Could not resolve host|name resolution|Name or service not known)",
            "curl, Python",
            of=_JOURNAL,
        ),
    ),
)
UNREACHABLE = Entry(
    "phone-home-unreachable",
    Blame.PROVIDER,
    "The new system runs, but its calls did not reach Landfall.",
    "Look whether LANDFALL_MACHINE_URL is reached from the server's network once the rescue system is gone: routes, "
    "firewalls, VLANs; then try again.",
    (Trace(_UNIT + r"Landfall did not take the call \((?:no connection|000)\)", "Landfall's own unit", of=_JOURNAL),),
    (Trace(_UNIT + "(?:curl: |<urlopen error )", "curl 7.88: seen; Python: read", of=_JOURNAL),),
)
TURNED_AWAY = Entry(
    "phone-home-turned-away",
    Blame.PROVIDER,
    "The new system runs, and Landfall did not take its calls.",
    "Look whether Landfall's web process and its database were well at that time; then try again.",
    (Trace(_UNIT + r"Landfall did not take the call", "Landfall's own unit", of=_JOURNAL),),
)
NO_SSHD = Entry(
    "phone-home-no-sshd",
    Blame.PROVIDER,
    "The new system never phoned home: its SSH server did not start.",
    "Read the lines below: they say what sshd does not like. Mend it in the image, or in the user data that "
    "changed it.",
    (
        Trace(
            r"sshd?\.service: Failed with result|Failed to start (?:ssh|sshd)\.service",
            "systemd 252: seen",
            of=_JOURNAL,
        ),
    ),
    (Trace("Bad configuration option|no hostkeys available", "sshd 9.2: seen, read", of=_JOURNAL),),
)
CLOUD_INIT = Entry(
    "phone-home-cloud-init",
    Blame.CUSTOMER,
    "The new system never phoned home: cloud-init was still at work when the time was up.",
    "Look at the user data for a command that waits or takes long; let it go on in the background. Without user data "
    "the image is at fault.",
)
UNIT_GONE = Entry(
    "phone-home-unit-gone",
    Blame.CUSTOMER,
    "The new system was started, but the unit that phones home never ran in it.",
    "Something in the image or in the user data removes or masks landfall-phone-home.service before it runs, or the "
    "system never reached multi-user.target.",
)
UNKNOWN = Entry(
    "phone-home-missing",
    Blame.PROVIDER,
    "The new system never phoned home.",
    "Look at the server's console: does it start from its disk, get an address, and reach Landfall's machine URL? Then "
    "try again, or reinstall with another image.",
)

SILENT = Chapter(
    "A new system that does not call",
    "The server is booted into rescue once more, and the new system's logs are read: what shows there is this. "
    "None of it is tried again by itself.",
    (
        DISK, UNREADABLE, PANIC, NO_ROOT, NEVER_STARTED, EMERGENCY, TOKEN, REFUSED, NO_NETWORK, NO_NAME, UNREACHABLE,
        TURNED_AWAY, NO_SSHD, CLOUD_INIT, UNIT_GONE, UNKNOWN,
    ),
)  # fmt: skip

CALLED = Chapter(
    "A new system that has called",
    "The last doubts before somebody is let in.",
    (
        Entry(
            "phone-home-late",
            Blame.PROVIDER,
            "The new system phoned home when its time was up, and the server was being restarted to read its logs.",
            "It is started from its disk once more by itself. If that happens often, look into the step's log for what "
            "takes so long.",
        ),
        Entry(
            "host-key-mismatch",
            Blame.PROVIDER,
            "At the server's address another machine answers than the one that phoned home.",
            "Correct the address in the inventory, or find out who else uses it. Do not log in there.",
        ),
        Entry(
            "ssh-silent",
            Blame.PROVIDER,
            "The new system has phoned home, but SSH does not answer at the server's address.",
            "Compare the address in the inventory with the system's own, and look at its firewall; then try again.",
        ),
    ),
)

CHAPTERS = (SILENT, CALLED)
