"""What the commands of a job do on a simulated server: the script taken apart, and the output that each is given."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.commands import script as make_script

from .readback import as_planned
from .spec import Pace, ServerSpec

PRELUDE = make_script(())
_FRAME = re.compile(r"\nbegin (\d+) ([^\n]*)\n(.*?)\nend \1 \$\? (must|may-fail)\n", re.DOTALL)
_FED = re.compile(r"base64 -d <<'LANDFALL' \| ([^\n]*)\n(.*)LANDFALL$", re.DOTALL)
_INSTALL = re.compile(r"install -D -m ([0-7]+) /dev/stdin (\S+)$")


class NotOurs(Exception):
    """A job's script that `deploy.commands` did not make, as far as the simulation knows it."""


@dataclass(frozen=True, slots=True)
class Framed:
    """One command of a job's script: its number, its title as bash prints it, the shell text that runs it."""

    number: int
    quoted_title: str
    shell: str
    may_fail: bool

    @property
    def title(self) -> str:
        """The line that the log shows."""
        return _unquoted(self.quoted_title)

    @property
    def wants_result(self) -> bool:
        """Whether its standard output goes to the job's result."""
        return ' > "$RESULT"' in self.shell

    @property
    def stdin(self) -> bytes:
        """What it is fed; empty where it is fed nothing."""
        fed = _FED.match(self.shell)
        return base64.b64decode(fed[2]) if fed else b""

    @property
    def written(self) -> str:
        """The path of the file that it writes; empty for programs."""
        fed = _FED.match(self.shell)
        found = _INSTALL.match(fed[1]) if fed else None
        return _unquoted(found[2]) if found else ""


def _unquoted(word: str) -> str:
    """What `shlex.quote` was given; shlex.split would take half a millisecond."""
    return word[1:-1].replace("'\"'\"'", "'") if word.startswith("'") else word


def framed(script: str) -> tuple[Framed, ...]:
    """The commands of a script that `deploy.commands.script` made; `NotOurs` when it made another one."""
    if not script.startswith(PRELUDE):
        raise NotOurs("the script begins otherwise than deploy.commands.script() does")
    commands = []
    position = len(PRELUDE)
    while position < len(script):
        frame = _FRAME.match(script, position)
        if not frame:
            raise NotOurs(f"no command is framed as it should be at: {script[position : position + 60]!r}")
        commands.append(Framed(int(frame[1]), frame[2], frame[3], frame[4] == "may-fail"))
        position = frame.end()
    return tuple(commands)


@dataclass(frozen=True, slots=True)
class Play:
    """What a command does: prints its lines evenly over its seconds, then ends with its status.

    `result` is what it prints when its output is the job's result.
    """

    lines: tuple[bytes, ...] = ()
    seconds: float = 0.0
    status: int = 0
    result: bytes = b""

    @property
    def pause(self) -> float:
        """Seconds before each line, and after the last."""
        return self.seconds / (len(self.lines) + 1)


@dataclass(frozen=True, slots=True)
class Rule:
    """A play for the commands whose title contains `match`; `times` is how often, 0 for always."""

    match: str
    play: Play
    times: int = 0


IO_ERROR = Play(
    (
        b"blk_update_request: I/O error, dev vda, sector 41943032 op 0x1:(WRITE) flags 0x800\n",
        b"Buffer I/O error on dev vda3, logical block 5242879, lost async page write\n",
        b"rsync: [receiver] write failed on \"/run/landfall/target/usr/lib/x\": Input/output error (5)\n",
        b"rsync error: error in file IO (code 11) at receiver.c(380) [receiver=3.2.7]\n",
    ),
    seconds=0.2,
    status=11,
)  # fmt: skip
"""A disk that dies under rsync."""


def plausible(command: Framed, spec: ServerSpec, pace: Pace) -> Play:
    """What such a command usually does."""
    program = command.title.split(" ", 1)[0]
    words = command.title.split(" ")
    if command.written:
        return Play(seconds=pace.command)
    if program == "chroot":
        words = words[2:] or [""]
        program = words[0]
    if program == "landfall-facts":
        return Play(seconds=pace.command, result=json.dumps(spec.facts(), indent=1).encode() + b"\n")
    if program == "python3" and words[1].endswith("/probe.py"):
        return Play(seconds=pace.command, result=json.dumps(as_planned(json.loads(command.stdin))).encode())
    if program == "rsync":
        return _rsync(pace) if "--info=progress2" in words else Play(seconds=pace.command)
    if program == "curl":
        return _curl(pace)
    if program in ("update-initramfs", "dracut"):
        return _initramfs(pace)
    if " identity /" in command.title:
        said = f"system identity: 6c1d4b4e-0000-4000-8000-{spec.number:012}\nname: {spec.name}\n".encode()
        return Play(seconds=pace.command, result=said)
    return Play(_SAID.get(program, ()), pace.command)


_SAID: Mapping[str, tuple[bytes, ...]] = {
    "lsblk": (
        b"NAME   SIZE TYPE LOG-SEC MODEL     SERIAL FSTYPE LABEL\n",
        b"vda     20G disk     512 SIMULATED\n",
    ),
    "ip": (b"lo               UNKNOWN        00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP>\n",),
    "sfdisk": (b"Checking that no-one is using this disk right now ... OK\n", b"Syncing disks.\n"),
    "mdadm": (b"mdadm: array /dev/md/root started.\n",),
    "grub-install": (b"Installing for this platform.\n", b"Installation finished. No error reported.\n"),
    "update-grub": (b"Generating grub configuration file ...\n", b"done\n"),
    "sha256sum": (b"OK\n",),
    "df": (
        b"Filesystem      Size  Used Avail Use% Mounted on\n",
        b"/dev/md127       18G  1.1G   16G   7% /run/landfall/target\n",
    ),
}


def _rsync(pace: Pace) -> Play:
    """A file's name and how far it is, one after the other."""
    lines = []
    for number in range(1, pace.copy_lines + 1):
        done = 100 * number // pace.copy_lines
        lines.append(b"usr/lib/x86_64-linux-gnu/file-%05d\n" % number)
        lines.append(b"  %14d %3d%%   94.31MB/s    0:00:%02d\r" % (10_485_760 * number, done, (100 - done) // 10))
    return Play(tuple(lines), pace.copy)


def _curl(pace: Pace) -> Play:
    return Play(tuple(b"%s %5.1f%%\r" % (b"#" * (part // 2), part) for part in (20, 60, 100)), pace.copy / 4)


def _initramfs(pace: Pace) -> Play:
    lines = [b"update-initramfs: Generating /boot/initrd.img-6.1.0-40-amd64\n"]
    lines += [
        b"W: Possible missing firmware /lib/firmware/driver-%d.bin for module driver\n" % part for part in range(5)
    ]
    return Play(tuple(lines), pace.build)
