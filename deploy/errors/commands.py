"""Failures of commands on the rescue system, and the words by which they are known.

Of two entries that fit, the earlier one is meant: a disk that fails makes every program on it fail in its own way.
Where a trace says «seen», its words come from a run of that version; «read»: from its source, or from its users.
"""

from ..events import Blame
from .disks import DISKS
from .entry import Chapter, Entry, Trace

_OF_CATALOGUE = r"--url \S+/machine/images/"
"""Fetched from Landfall itself: a refusal there is not the customer's."""

IMAGE = Chapter(
    "The image",
    "Fetching it, comparing it, opening it and copying it.",
    (
        Entry(
            "image-differs",
            Blame.PROVIDER,
            "The image that came is not the one in the catalogue: its size or its checksum is another.",
            "Try again; if it happens again, the file in the image store is damaged: import the image anew.",
            (
                Trace("fetching: the checksum of what came is|fetching: the file has", "Landfall's own program"),
                Trace("computed checksum did NOT match", "sha256sum of coreutils 9.7: seen", of="^sha256sum"),
                # The file system in RAM that takes it is as large as the catalogue says, and a little.
                Trace(r"curl: \(23\)", "curl 8.14: seen", of="^curl", statuses=frozenset({23})),
            ),
        ),
        Entry(
            "image-refused",
            Blame.PROVIDER,
            "Landfall did not give the image to the rescue system.",
            "404: the image's file is missing on Landfall's side: import it anew. 401, 403 or 410: the install's token "
            "is not valid any more: try again.",
            (
                Trace(r"fetching: the server returned error: 4\d\d", "Landfall's own program", of=_OF_CATALOGUE),
                Trace(r"returned error: 4(?!08|29)\d\d", "curl 8.14: seen", of="^curl", statuses=frozenset({22})),
            ),
        ),
        Entry(
            "own-image-refused",
            Blame.CUSTOMER,
            "The image of one's own cannot be had from its address, or not from there.",
            "Check the address and the headers: it has to be reached from everywhere, and no redirect may lead into "
            "inner networks. Then ask for the install anew.",
            (
                Trace(r"fetching: the server returned error: 4\d\d", "Landfall's own program"),
                Trace("fetching: .*(?:not a public address|cannot be found in the DNS)", "Landfall's own program"),
                Trace(
                    "fetching: (?:the server leads on|Port|This is not an address|The host)", "Landfall's own program"
                ),
            ),
            final=True,
        ),
        Entry(
            "own-image-unfit",
            Blame.CUSTOMER,
            "The image of one's own is not taken: it is held to what the catalogue's images are.",
            "Bring an image as the page on images describes; then ask for the install anew.",
            (
                Trace("^image not taken: (?P<why>.+) \\| (?P<fix>.+)$", "Landfall's own program"),
                Trace("fetching: the image has more than", "Landfall's own program"),
            ),
            final=True,
        ),
        Entry(
            "name-unresolved",
            Blame.PROVIDER,
            "A name cannot be resolved: the machine has no name server, or that one does not know the name.",
            "Look at the name servers that DHCP gives to the machine, and whether they know the name that is asked "
            "for; an address in LANDFALL_MACHINE_URL needs none.",
            (
                Trace("Could not resolve host", "curl 7.88 and 8.14: seen"),
                Trace("Temporary failure in name resolution", "any program, as the C library has it: seen"),
                Trace("Name or service not known", "any program, as the C library has it: read"),
            ),
        ),
        Entry(
            "image-unreachable",
            Blame.PROVIDER,
            "The rescue system cannot fetch the image from Landfall.",
            "Look whether LANDFALL_MACHINE_URL is reached from the server's network, at the proxy in front of Landfall "
            "and its certificate; then try again.",
            (
                Trace(
                    r"curl: \((?:5|7|18|22|28|35|52|55|56|60|92)\)",
                    "curl 8.14: 7, 22, 35 seen, the others read in its manual",
                    of="^curl|deploy.fetching",
                ),
                Trace("fetching: .*given up after", "Landfall's own program"),
            ),
        ),
        Entry(
            "image-unreadable",
            Blame.PROVIDER,
            "The image cannot be opened or read: it is damaged, or not what the catalogue says of it.",
            "Look at the image's page in the catalogue: format and inspection; import it anew.",
            (
                Trace(r"Image is not in \w+ format|Could not open '.*/image/", "qemu-nbd 10.0: seen", of="^qemu-nbd"),
                Trace("no partition of the image holds a root file system", "Landfall's own script"),
                Trace("fetching: the stream cannot be unpacked", "Landfall's own program"),
                Trace(r"/run/landfall/image/root.*Input/output error", "rsync 3.5: seen"),
                Trace(r"I/O error.* dev nbd\d", "the kernel: seen"),
            ),
        ),
        Entry(
            "image-no-room",
            Blame.CUSTOMER,
            "There is no room to hold the image while it is copied, or for its files on the disks.",
            "Have an admin publish the image: then it is held nowhere. Or choose a smaller image, or a larger disk.",
            (
                Trace("^no room for the image: ", "Landfall's own script"),
                Trace("^the image does not fit onto the disks", "Landfall's own script"),
            ),
            final=True,
        ),
        Entry(
            "nbd-failed",
            Blame.PROVIDER,
            "The rescue system cannot show the image as a disk.",
            "Try again from the start: a fresh rescue system has its nbd devices free.",
            (
                Trace("Failed to set NBD socket|Failed to open /dev/nbd", "qemu-nbd 10.0: seen", of="qemu-nbd|sh -c"),
                Trace("Cannot open /dev/nbd", "qemu-nbd 10.0: seen", of="qemu-nbd|sh -c"),
            ),
        ),
    ),
)

BOOT = Chapter(
    "Making it bootable",
    "Programs of the image itself, run inside the new system's tree.",
    (
        Entry(
            "package-missing",
            Blame.PROVIDER,
            "The image lacks a package that a server needs to start, and it could not be installed.",
            "Install the packages that are named into the image, and import it anew; or let the server's network reach "
            "the repositories of its distribution during the install.",
            (Trace(r"these packages are missing in the image, and \S+ could not install them", "ours: seen"),),
            final=True,
        ),
        Entry(
            "grub-no-room",
            Blame.PROVIDER,
            "GRUB finds no place on the disk: it has no BIOS boot partition, or one that is too small.",
            "Compare the firmware mode in the inventory with that of the server (BIOS or UEFI), then try again from "
            "the start, so that the disks are laid out for it.",
            (
                Trace("contains no BIOS Boot Partition|will not proceed with blocklists", "grub-install 2.06: seen"),
                Trace(
                    "embedding area is unusually small|core.img is too big",
                    "grub-install: read",
                ),
            ),
            final=True,
        ),
        Entry(
            "grub-no-disk",
            Blame.PROVIDER,
            "GRUB cannot find the disk, the EFI system partition or the file system that it should start from.",
            "Try again from the start. If it happens again, look in the log above whether everything of the plan is "
            "mounted, and whether the image's GRUB knows the file system.",
            (
                Trace("cannot find a GRUB drive for|failed to get canonical path of", "grub-install 2.06: seen"),
                Trace("doesn't look like an EFI partition|cannot find EFI directory", "grub-install 2.06: seen, read"),
                Trace("cannot find a device for", "grub-probe: read"),
                Trace("grub2?-(?:install|probe|mkconfig): error: unknown filesystem", "grub-probe: read"),
                Trace("grub2?-install: error: cannot open", "grub-install 2.06: seen"),
            ),
        ),
        Entry(
            "initramfs-failed",
            Blame.PROVIDER,
            "The new system's initramfs could not be built.",
            "Read the lines above: they name the program or hook that is missing in the image or broken in it.",
            (
                Trace(r"E: .*/hooks/\S+ failed with return", "initramfs-tools of Debian 12: seen"),
                Trace("update-initramfs: failed for|mkinitramfs failure", "initramfs-tools of Debian 12: seen"),
                Trace("dracut.*: creation of .* failed|Cannot find module directory|dracut.*FAILED:", "dracut: read"),
            ),
        ),
    ),
)

LICENCE = Chapter(
    "The licence",
    "What subscription-manager and the service behind it (Candlepin, Satellite) say.",
    (
        Entry(
            "licence-no-seat",
            Blame.PROVIDER,
            "The licence has no seat left for this system.",
            "Give back seats of systems that are gone, buy more, or raise the activation key's limit of hosts; then "
            "try again.",
            (
                Trace(r"Max (?:Content )?Hosts \(\d+\) reached for activation key", "Katello: read"),
                Trace("No (?:subscriptions|entitlements) are available from the pool", "Candlepin: read"),
            ),
            final=True,
        ),
        Entry(
            "licence-refused",
            Blame.PROVIDER,
            "The licence service does not accept the organisation or the activation key.",
            "Correct organisation and activation key of the licence (Images, Licences), then try again.",
            (
                Trace("None of the activation keys specified exist", "Candlepin: read"),
                Trace("Organization .* does not exist|Couldn't find [Oo]rganization", "Candlepin, Katello: read"),
                Trace(
                    "Activation key .* not found|Must specify an activation key", "Katello, subscription-manager: read"
                ),
                Trace("Invalid credentials for request|Invalid username or password", "subscription-manager: read"),
                Trace(r"HTTP error code 40[0134]\b", "subscription-manager from 1.29 on: read"),
            ),
            final=True,
        ),
        Entry(
            "licence-unreachable",
            Blame.PROVIDER,
            "The licence service cannot be reached from the rescue system.",
            "Look whether the server's network lets it out to the licence service (subscription.rhsm.redhat.com port "
            "443, or your Satellite), and whether its clock is right; then try again.",
            (
                Trace("Network error, unable to connect to server", "subscription-manager: read"),
                Trace("Network error: |Connection error: |Proxy error: ", "subscription-manager from 1.29.31 on: read"),
                Trace("Unable to (?:reach the server at|verify server's identity)", "subscription-manager: read"),
                Trace("Remote server error|rate limit has been exceeded", "subscription-manager: read"),
                Trace(r"HTTP error code 5\d\d", "subscription-manager from 1.29 on: read"),
            ),
        ),
    ),
)

ANY = Chapter(
    "Any command",
    "What says nothing of the purpose of a command, and what is not known.",
    (
        Entry(
            "out-of-memory",
            Blame.HARDWARE,
            "The server has too little memory: a command was killed for it.",
            "Choose a smaller image: it is held in memory while it is copied. Or use a server with more memory.",
            (
                Trace("Out of memory|oom-kill", "the kernel: seen"),
                Trace("Cannot allocate memory|[Mm]emory exhausted", "any program, as the C library has it: read"),
                Trace(says="bash: killed by signal 9, which is the kernel's way", statuses=frozenset({137})),
            ),
        ),
        Entry(
            "command-ended",
            Blame.PROVIDER,
            "A command was ended from outside: by somebody at the rescue system, or because that was shut down.",
            "Find out who did it, then try again.",
            (Trace(says="bash: signals 1, 2 and 15", statuses=frozenset({129, 130, 143})),),
        ),
        Entry(
            "image-lacks-program",
            Blame.PROVIDER,
            "The image lacks a program that its flavour should bring.",
            "Choose the flavour that fits the image, or install the program into the image and import it anew.",
            (
                Trace(
                    "failed to run command", "chroot of coreutils 9.7: seen", of="^chroot", statuses=frozenset({127})
                ),
                Trace("(?:command )?not found", "dash, bash: seen", of="^chroot", statuses=frozenset({127})),
            ),
            final=True,
        ),
        Entry(
            "rescue-incomplete",
            Blame.PROVIDER,
            "The rescue system lacks a program or a kernel module.",
            "Rebuild the rescue system (python -m rescue), and set LANDFALL_RESCUE_DIR to the folder that it prints.",
            (
                Trace(says="bash: there is no such program", of="^(?!chroot)", statuses=frozenset({127})),
                Trace("modprobe: FATAL: Module", "kmod of Debian 13: seen", of="^modprobe"),
            ),
            final=True,
        ),
        Entry(
            "copy-incomplete",
            Blame.PROVIDER,
            "Not all files were copied.",
            "Read the lines above: rsync names each file that it could not copy, and why. Mend that, then try again.",
            (
                Trace(r"rsync: \[\w+\] .* failed: ", "rsync 3.5: seen", of="^rsync"),
                Trace("rsync error: ", "rsync 3.5: seen", of="^rsync"),
            ),
        ),
        Entry(
            "command-failed",
            Blame.PROVIDER,
            "A command failed in a way that Landfall does not know.",
            "Read its last lines: they are the command's own words. Mend what they name, then try again.",
        ),
    ),
)

CHAPTERS = (DISKS, IMAGE, BOOT, LICENCE, ANY)
