"""Destroys all that is on the disks whose paths are its arguments, all of them at once. Runs on the rescue system.

Of the ways that a disk has, the surest comes first, and what fails gives way to the next:

    NVMe    sanitize (crypto erase, else block erase), then format with secure erase; neither where other namespaces
            of the same controller would suffer from it
    ATA     SECURITY ERASE UNIT, enhanced where the drive can, unless its firmware is frozen
    any     secure discard, then plain discard where the disk promises to read zeroes afterwards
    any     every byte overwritten with zeroes

Whatever a disk claims to have done is looked at: of some places that held something before, none may hold it still.
Running it again is safe at any moment: a sanitize that is under way is waited for, a drive that an earlier run has left
with our password is unlocked with it, an overwrite begins anew.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from typing import Any

PASSWORD = "landfall"
"""Guards nothing: ATA drives erase only once they have a password, which goes with the erase. One that keeps it after a
power failure can be unlocked with it."""
PLACES = 64
"""How many places of a disk are looked at, before and after."""
BLOCK = 4096
CHUNK = 8 << 20
EVERY = float(os.environ.get("LANDFALL_ERASE_EVERY", "10"))
"""Seconds between two words on how far a disk is."""

_speaking = threading.Lock()


class Cannot(Exception):
    """A way that this disk does not have, or that has failed; the next one is tried."""


class GiveUp(Exception):
    """A disk that cannot be erased at all; the message says why."""


def main(paths: list[str]) -> int:
    """0 when every disk was erased; 1 when one was not, and all the others all the same."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return max(pool.map(erase, paths))


def erase(path: str) -> int:
    """The disk erased by the first way that works: 0, or 1 with the reason said."""
    try:
        disk = Disk(path)
        before = disk.samples()
        for way in disk.ways():
            try:
                began = time.monotonic()
                way()
                disk.settle()
                if left := disk.unchanged(before):
                    raise Cannot(f"{left} of {len(before)} places still hold what they held")
            except Cannot as why:
                disk.say(f"not by {name(way)}: {why}")
            else:
                took = time.monotonic() - began
                disk.say(f"erased by {name(way)} in {span(took)}; none of {len(before)} places holds what it held")
                return 0
        raise GiveUp("no way to erase it has worked")
    except (GiveUp, OSError) as error:
        say(path, f"cannot be erased: {error}", sys.stderr)
        return 1


def say(path: str, text: str, where: Any = None) -> None:
    """A line about a disk; one at a time, as all disks speak at once."""
    with _speaking:
        print(f"{path.rpartition('/')[2]}: {text}", file=where or sys.stdout, flush=True)


class Together:
    """How far all the disks are that can tell, in the words by which a page draws its bar."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, int, float]] = {}

    def tell(self, path: str, done: int, size: int, left: float) -> None:
        """So many bytes of a disk are gone, the rest will be in `left` seconds: the slowest is what is waited for."""
        with _speaking:
            self._told[path] = done, size, left
            gone = sum(done for done, _, _ in self._told.values())
            whole = sum(size for _, size, _ in self._told.values())
            seconds = round(max(left for _, _, left in self._told.values()))
            span = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            print(f"{gone >> 20} of {whole >> 20} MiB, {100 * gone // whole} %, {span} left", flush=True)


together = Together()


def name(way: Callable[[], None]) -> str:
    """What a way is called."""
    return way.__name__.replace("_", " ")


class Disk:
    """One disk, and the ways to erase it."""

    def __init__(self, path: str) -> None:
        self.path, self.short = path, path.rpartition("/")[2]
        self.size = self._size()

    def _size(self) -> int:
        with open(self.path, "rb") as file:  # noqa: PTH123  # seek() finds the end of a block device, stat() does not
            return file.seek(0, os.SEEK_END)

    def say(self, text: str) -> None:
        """A line about this disk."""
        say(self.path, text)

    # What is on it

    def samples(self) -> dict[int, bytes]:
        """What stands in some places, evenly spread; places with nothing but zeroes would prove nothing."""
        places = {self.size * index // PLACES // BLOCK * BLOCK for index in range(PLACES)}
        found = {place: self._read(place) for place in sorted(places)}
        return {place: data for place, data in found.items() if data.strip(b"\0")}

    def unchanged(self, before: dict[int, bytes]) -> int:
        """In how many of these places still stands what stood there."""
        return sum(self._read(place) == data for place, data in before.items())

    def _read(self, place: int) -> bytes:
        """Bytes of the disk itself, not of the kernel's memory of it, which an erase by firmware does not touch."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, place, BLOCK, os.POSIX_FADV_DONTNEED)
            return os.pread(descriptor, BLOCK, place)
        finally:
            os.close(descriptor)

    def settle(self) -> None:
        """The kernel forgets what it knew of the disk's content."""
        tell("blockdev", "--flushbufs", self.path, check=False)

    # The ways

    def ways(self) -> Iterator[Callable[[], None]]:
        """Every way that could work, the surest first."""
        if self.short.startswith("nvme"):
            yield from Nvme(self).ways()
        elif self.short.startswith("sd"):
            yield Ata(self).ATA_secure_erase
        yield self.secure_discard
        yield self.discard
        yield self.overwriting

    def secure_discard(self) -> None:
        """The disk forgets its blocks and all copies that it keeps of them: eMMC can."""
        tell("blkdiscard", "--force", "--secure", self.path)

    def discard(self) -> None:
        """The disk forgets its blocks; only where it promises to read zeroes from then on."""
        if not self.promises_zeroes():
            raise Cannot("the disk does not promise zeroes after a discard")
        tell("blkdiscard", "--force", self.path)

    def promises_zeroes(self) -> bool:
        """Whether a discarded block reads as zeroes: said by ATA drives and by NVMe namespaces."""
        if self.short.startswith("nvme"):
            return bool(ask_json("nvme", "id-ns", self.path).get("dlfeat", 0) & 7 == 1)
        return self.short.startswith("sd") and "Deterministic read ZEROs after TRIM" in ask("hdparm", "-I", self.path)

    def overwriting(self) -> None:
        """Every byte a zero, past the kernel's cache where the disk lets us."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
        except OSError:
            descriptor = os.open(self.path, os.O_WRONLY)
        progress = Progress(self)
        # a mapping begins at a page, as direct writes want it
        with mmap(-1, CHUNK) as zeroes:
            try:
                for place in range(0, self.size, CHUNK):
                    end = min(place + CHUNK, self.size)
                    self._write(descriptor, memoryview(zeroes)[: end - place], place)
                    progress(end)
                os.fsync(descriptor)
                progress.end()
            finally:
                os.close(descriptor)

    def _write(self, descriptor: int, data: memoryview, place: int) -> None:
        while data:
            written = os.pwrite(descriptor, data, place)
            data, place = data[written:], place + written


class Progress:
    """Says every few seconds how far an overwrite is, how fast, and how long it will take."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._began = disk, time.monotonic()
        self._next = self._began + EVERY

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = done / max(now - self._began, 0.001)
        left = (self._disk.size - done) / rate
        self._disk.say(f"overwritten {100 * done // self._disk.size} %, {rate / 1e6:.0f} MB/s, about {span(left)} left")
        together.tell(self._disk.path, done, self._disk.size, left)

    def end(self) -> None:
        """It is all done; the other disks go on."""
        together.tell(self._disk.path, self._disk.size, self._disk.size, 0)


class Nvme:
    """What an NVMe namespace can do, by the commands of nvme-cli."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.controller = re.sub(r"n\d+$", "", disk.path)
        self.can: dict[str, Any] = {}

    def ways(self) -> Iterator[Callable[[], None]]:
        try:
            self.can = ask_json("nvme", "id-ctrl", self.controller)
            alone = self._is_alone()
        except Cannot as why:
            self.disk.say(f"does not say what it can: {why}")
            return
        if not alone:
            self.disk.say("shares its controller with other namespaces: neither sanitized nor formatted")
            return
        if self.can.get("sanicap", 0) & 3:
            yield self.NVMe_sanitize
        if self.can.get("oacs", 0) & 2:
            yield self.NVMe_format

    def _is_alone(self) -> bool:
        """Whether the controller has no other namespace, attached or not; `Cannot` where it does not say."""
        if self.can.get("nn") == 1:
            return True
        try:
            return len(self._namespaces("--all")) <= 1
        except Cannot:
            # Only those that can make and delete namespaces list the ones that are not attached; others have none such.
            if self.can.get("oacs", 0) & 8:
                raise
            return len(self._namespaces()) <= 1

    def _namespaces(self, *which: str) -> list[Any]:
        return list(ask_json("nvme", "list-ns", self.controller, *which).get("nsid_list", []))

    def NVMe_sanitize(self) -> None:  # noqa: N802  # as it is called
        """All that the controller ever stored destroyed, in caches and spare blocks too; it outlives a power loss."""
        action = "start-crypto-erase" if self.can["sanicap"] & 1 else "start-block-erase"
        if self._status() != 2:
            self.disk.say(f"NVMe sanitize, {action.removeprefix('start-')}")
            tell("nvme", "sanitize", self.controller, f"--sanact={action}")
        else:
            self.disk.say("a sanitize is under way already")
        began, size = time.monotonic(), self.disk.size
        while (status := self._status()) == 2:
            time.sleep(EVERY)
            share = self._log().get("sprog", 0) / 65536
            self.disk.say(f"sanitized {100 * share:.0f} %")
            if share:
                together.tell(self.disk.path, int(size * share), size, (time.monotonic() - began) * (1 / share - 1))
        if status not in (1, 4):
            raise Cannot(f"the controller says that it failed (status {status})")

    def _status(self) -> int:
        return int(self._log().get("sstat", 0)) & 7

    def _log(self) -> dict[str, Any]:
        told = ask_json("nvme", "sanitize-log", self.controller)
        # older nvme-cli puts it below the controller's name
        return next((one for one in told.values() if isinstance(one, dict) and "sprog" in one), told)

    def NVMe_format(self) -> None:  # noqa: N802
        """The namespace formatted as it is now, its old content made unreadable."""
        crypto = bool(self.can.get("fna", 0) & 4)
        self.disk.say(f"NVMe format with {'crypto' if crypto else 'user data'} erase")
        tell("nvme", "format", self.disk.path, "--force", f"--ses={2 if crypto else 1}", "--timeout=3600000")


class Ata:
    """The security feature set of an ATA drive, by hdparm."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def ATA_secure_erase(self) -> None:  # noqa: N802
        """The drive erases itself, its spare sectors too where it knows the enhanced form."""
        said = self._said()
        if not re.search(r"^\s+supported\s*$", said, re.MULTILINE):
            raise Cannot("the drive has no security feature set")
        if self._is("locked", said):
            tell("hdparm", "--user-master", "u", "--security-unlock", PASSWORD, self.disk.path, check=False)
            said = self._said()
            if self._is("locked", said):
                raise GiveUp("it is locked by a password that is not ours")
        if self._is("frozen", said):
            raise Cannot("its firmware is frozen until the next power cycle")
        if not self._is("enabled", said):
            tell("hdparm", "--user-master", "u", "--security-set-pass", PASSWORD, self.disk.path)
        try:
            self._erase(said)
        finally:
            # The erase takes the password with it; where that failed, the drive must not stay locked.
            if self._is("enabled", self._said()):
                tell("hdparm", "--user-master", "u", "--security-disable", PASSWORD, self.disk.path, check=False)

    def _erase(self, said: str) -> None:
        enhanced = re.search(r"^\s+supported: enhanced erase", said, re.MULTILINE) is not None
        estimate = re.search(rf"(\w+)min for {'ENHANCED ' if enhanced else ''}SECURITY ERASE UNIT", said)
        minutes = f"; the drive says {estimate[1]} minutes" if estimate else ""
        self.disk.say(f"ATA secure erase{', enhanced' if enhanced else ''}{minutes}")
        with Heartbeat(self.disk):
            which = "--security-erase-enhanced" if enhanced else "--security-erase"
            tell("hdparm", "--user-master", "u", which, PASSWORD, self.disk.path)

    def _said(self) -> str:
        return ask("hdparm", "-I", self.disk.path).partition("Security:")[2]

    def _is(self, what: str, said: str) -> bool:
        """Whether the drive says it is so; else the word stands behind a `not`."""
        return re.search(rf"^\s+{what}\s*$", said, re.MULTILINE) is not None


class Heartbeat:
    """A word now and then while a drive is at work and tells nothing."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self._over, self._began = disk, threading.Event(), time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(EVERY):
            self._disk.say(f"the drive is at work for {span(time.monotonic() - self._began)}")


# Programs


def ask(*argv: str) -> str:
    """What a program prints; `Cannot` when it fails."""
    return tell(*argv)


def tell(*argv: str, check: bool = True) -> str:
    """Runs a program; `Cannot` with its last words when it fails, unless that does not matter."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        if not check:
            return ""
        raise Cannot(f"{argv[0]}: {error.strerror}") from error
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Cannot(words[-1] if words else f"{argv[0]} ended with {done.returncode}")
    return done.stdout


def ask_json(*argv: str) -> dict[str, Any]:
    """What nvme-cli says, as JSON."""
    try:
        told = json.loads(ask(*argv, "--output-format=json"))
    except ValueError as error:
        raise Cannot(f"{' '.join(argv[:2])} printed no JSON") from error
    return told if isinstance(told, dict) else {}


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
