"""Failures that Landfall notices itself: by asking machines and BMCs, by comparing, by its clock."""

from servers.power.driver import PowerCode

from ..events import Blame
from .entry import Chapter, Entry

MACHINE = Chapter(
    "The machine and its BMC",
    "Before anything was changed, or when the machine went away in the middle.",
    (
        Entry(
            PowerCode.UNREACHABLE.value,
            Blame.PROVIDER,
            "Nothing answers at the BMC's address, or not in time, or not with a certificate that is trusted.",
            "Check the BMC's address and port, its cable, and the firewall between it and Landfall; then try again.",
        ),
        Entry(
            PowerCode.REFUSED.value,
            Blame.PROVIDER,
            "The BMC refuses the user or the password.",
            "Correct user and password in the inventory; the user needs the right to control power and boot. Many "
            "BMCs lock an account after a few wrong passwords: wait, then try again.",
            final=True,
        ),
        Entry(
            PowerCode.ERROR.value,
            Blame.PROVIDER,
            "The BMC answers, and does not do what it is asked.",
            "Look at the BMC's own log, reset the BMC if it hangs, update its firmware; then try again.",
        ),
        Entry(
            "rescue-silent",
            Blame.HARDWARE,
            "The rescue system never called.",
            "Look at the server's console: does it boot from the network, get an address, and reach Landfall? "
            "Mend that, then try again; nothing on its disks was changed by this attempt.",
        ),
        Entry(
            "rescue-lost",
            Blame.HARDWARE,
            "The rescue system was restarted or lost power in the middle of a step.",
            "Look for a power failure or a hardware error in the BMC's event log. While attempts are left, the server "
            "is booted into rescue again by itself.",
        ),
        Entry(
            "wrong-machine",
            Blame.PROVIDER,
            "The machine that called is not the one in the inventory.",
            "Correct the serial number and the MAC addresses in the inventory, or the cabling; nothing was changed.",
            final=True,
        ),
        Entry(
            "facts-unreadable",
            Blame.PROVIDER,
            "What the rescue system said of the machine cannot be read.",
            "Rebuild the rescue system (python -m rescue), then try again.",
            final=True,
        ),
    ),
)

PLAN = Chapter(
    "The plan",
    "The last check before anything is lost.",
    (
        Entry(
            "plan-impossible",
            Blame.CUSTOMER,
            "The disk layout that was asked for cannot be had on this machine.",
            "Choose another layout, or another server; nothing was changed.",
            final=True,
        ),
        Entry(
            "disks-changed",
            Blame.HARDWARE,
            "The server's disks are not those for which the plan was approved; nothing was changed.",
            "Compare them on the server's page, which shows them as they were seen just now; then confirm again.",
            final=True,
        ),
    ),
)

DISKS = Chapter(
    "The disks, read back",
    "Before the new system is started for the first time, all that can be read of the disks is compared with the plan.",
    (
        Entry(
            "read-back-differs",
            Blame.PROVIDER,
            "What is on the disks is not what was planned; the new system was not started.",
            "Read in the step's log what differs, then try again from the start. If it differs again, the image or a "
            "disk is at fault: choose another image, or have the disk looked at.",
            final=True,
        ),
        Entry(
            "another-system",
            Blame.PROVIDER,
            "The system that has called runs from another root file system than the one that was installed.",
            "Another disk starts first, maybe one that was kept: look at the boot order and at what is on the kept "
            "disks; then try again.",
            final=True,
        ),
    ),
)

ENGINE = Chapter(
    "The engine",
    "What Landfall itself, or somebody who runs it, ended.",
    (
        Entry(
            "force-reset",
            Blame.PROVIDER,
            "Ops ended this install by force; what the server was doing at that moment was not waited for.",
            "Read the reason that was given. Then try again from the start: the state of the disks is not known.",
        ),
        Entry(
            "step-timeout",
            Blame.PROVIDER,
            "A step was not done in its time.",
            "Look at the last lines of its log, then try again.",
        ),
        Entry(
            "job-lost",
            Blame.HARDWARE,
            "A step's job vanished from the rescue system before it could say how it ended.",
            "The server may be out of memory, or somebody ended the job there. Look at its console, then try again.",
        ),
        Entry(
            "internal-error",
            Blame.PROVIDER,
            "Landfall itself failed in this step.",
            "The worker's log has the details. Try again, and report it when it happens again.",
        ),
    ),
)

CHAPTERS = (MACHINE, PLAN, DISKS, ENGINE)
