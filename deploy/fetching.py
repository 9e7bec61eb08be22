"""The program with which a rescue system fetches an image: it runs there, and needs Python and curl alone.

Curl does each transfer; here is decided what it may ask, and what is done with what comes: a broken connection goes on
at the byte where it broke, at the next mirror where there are several; everything is hashed on its way, and a checksum
that differs is a failure. With `--public` every address, of redirects too, is looked up once and must be a public one,
and curl is held to exactly the addresses that were judged.

What is secret comes in files: addresses with signatures in them, headers.
"""

import argparse
import fcntl
import hashlib
import http.client
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import IO
from urllib.parse import urljoin

from accounts.addresses import AddressRefused, Network, Target, addresses, literal, parse

CHUNK = 1 << 20
MOST_REDIRECTS = 5
MOST_TRIES = 8
"""Tries without a single new byte after which the transfer has failed."""
SAY_EVERY = 5.0
LONGEST_URL = 4000
CURL = (
    "curl", "--silent", "--show-error", "--include", "--globoff", "--noproxy", "*", "--proto", "=http,https",
    "--connect-timeout", "20", "--speed-limit", "1", "--speed-time", "60", "--config", "-",
)  # fmt: skip
# By its first bytes: how a stream is unpacked. zstd need not compute its own checksum beside the one that is wanted.
UNPACKERS = (
    (b"\x28\xb5\x2f\xfd", ("zstd", "--decompress", "--stdout", "--no-check")),
    (b"\x1f\x8b", ("gzip", "--decompress", "--stdout")),
    (b"\xfd7zXZ\0", ("xz", "--decompress", "--stdout", "--threads=0")),
    (b"BZh", ("bzip2", "--decompress", "--stdout")),
)


class Refused(Exception):
    """Nothing that another try could mend."""


class Broken(Exception):
    """A transfer that did not come to its end; what came of it is good."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is fetched: the same file from each of `urls`, known by its checksum."""

    urls: tuple[str, ...]
    checksum: str
    size: int | None = None
    headers: tuple[str, ...] = ()
    rate: str = ""
    most: int | None = None
    """Bytes that it may have."""
    networks: tuple[Network, ...] | None = None
    """Not None: public addresses alone, and these."""


@dataclass(slots=True)
class Answer:
    """What a server says before the bytes come."""

    status: int
    headers: http.client.HTTPMessage
    body: io.BufferedReader

    @property
    def start(self) -> int:
        """The offset in the file of the first byte that follows."""
        if self.status != 206:
            return 0
        text = self.headers.get("Content-Range", "")
        number = text.removeprefix("bytes ").partition("-")[0]
        if not number.isdecimal():
            raise Refused(f"the server's Content-Range cannot be read: {text!r}")
        return int(number)

    @property
    def whole(self) -> int | None:
        """The length of the whole file, where the server says it."""
        number = self.headers.get("Content-Length", "")
        return self.start + int(number) if number.isdecimal() else None


def say(text: str) -> None:
    """A line for the install's log."""
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Transfer:
    """One file on its way, over as many connections as it takes."""

    wanted: Wanted
    sink: "Sink"
    pause: Callable[[float], None] = time.sleep
    done: int = 0
    total: int | None = None
    _began: float = field(default_factory=time.monotonic)
    _next_word: float = field(default_factory=lambda: time.monotonic() + SAY_EVERY)

    def run(self) -> None:
        """Everything has come, and is what was wanted, when this returns."""
        kind, _, digits = self.wanted.checksum.partition(":")
        digest = hashlib.new(kind)
        self.total = self.wanted.size
        number = tries = 0
        while True:
            before = self.done
            try:
                self._attempt(self.wanted.urls[number % len(self.wanted.urls)], digest.update)
                break
            except Broken as error:
                tries = 0 if self.done > before else tries + 1
                if tries >= MOST_TRIES:
                    raise Refused(f"{error}; given up after {MOST_TRIES} tries") from error
                number += 1
                say(f"{error}; goes on at byte {self.done}")
                self.pause(min(2.0**tries, 30))
        if digest.hexdigest() != digits:
            raise Refused(f"the checksum of what came is {digest.hexdigest()}, not {digits}")

    def _attempt(self, url: str, update: Callable[[memoryview], None]) -> None:
        with opened(self.wanted, url, self.done) as answer:
            if self.wanted.size is not None and answer.whole not in (None, self.wanted.size):
                raise Refused(f"the file has {answer.whole} bytes, not {self.wanted.size}")
            self.total = answer.whole or self.total
            self._check_length(self.total or 0)
            self.sink.begin(self.total)
            # one for all pieces: a new one for each would be new pages for each
            buffer = memoryview(bytearray(CHUNK))
            skip = self.done - answer.start  # a server without ranges begins again
            if skip < 0:
                raise Refused("the server sent another range than was asked for")
            while length := answer.body.readinto1(buffer):
                if skip >= length:
                    skip -= length
                    continue
                piece, skip = buffer[skip:length], 0
                update(piece)
                self.sink.write(piece)
                self.done += len(piece)
                self._check_length(self.done)
                self._tell()
        if self.total is not None and self.done < self.total:
            raise Broken(f"the connection ended after {self.done} of {self.total} bytes")

    def _check_length(self, length: int) -> None:
        if self.wanted.most is not None and length > self.wanted.most:
            raise Refused(f"the image has more than {self.wanted.most >> 30} GiB, which is the limit")

    def _tell(self) -> None:
        if time.monotonic() < self._next_word:
            return
        self._next_word = time.monotonic() + SAY_EVERY
        if not self.total:
            say(f"{self.done >> 20} MiB")
            return
        left = round((time.monotonic() - self._began) * (self.total - self.done) / max(self.done, 1))
        span = f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        # deploy.logs reads this for the page
        say(f"{self.done >> 20} of {self.total >> 20} MiB, {100 * self.done // self.total} %, {span} left")


@contextmanager
def opened(wanted: Wanted, url: str, offset: int) -> Iterator[Answer]:
    """The answer to a request for the file from `offset` on, after redirects that were judged one by one."""
    headers, first = wanted.headers, parse(url, LONGEST_URL)
    for _ in range(MOST_REDIRECTS + 1):
        target = parse(url, LONGEST_URL)
        if (target.scheme, target.host, target.port) != (first.scheme, first.host, first.port):
            if first.is_encrypted and not target.is_encrypted:
                raise Refused("the server leads on from https:// to http://, which is not as safe")
            headers = ()  # they are for the server that they were given for
        with _asked(wanted, target, url, headers, offset) as answer:
            if not 300 <= answer.status < 400:
                yield answer
                return
            where = answer.headers.get("Location", "")
        if not where:
            raise Refused(f"the server returned {answer.status} without saying where to")
        url = urljoin(url, where.strip())
    raise Refused(f"the server leads on more than {MOST_REDIRECTS} times")


@contextmanager
def _asked(wanted: Wanted, target: Target, url: str, headers: tuple[str, ...], offset: int) -> Iterator[Answer]:
    lines = [("url", url), *(("header", line) for line in headers)]
    if offset:
        lines.append(("range", f"{offset}-"))
    if wanted.rate:
        lines.append(("limit-rate", wanted.rate))
    if wanted.networks is not None:
        found = addresses(target, wanted.networks)
        if literal(target.host) is None:
            those = ",".join(f"[{address}]" if address.version == 6 else str(address) for address in found)
            lines.append(("resolve", f"{target.host}:{target.port}:{those}"))
    config = "".join(f'{name} = "{_escaped(value)}"\n' for name, value in lines)
    with subprocess.Popen(CURL, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
        assert curl.stdin and isinstance(curl.stdout, io.BufferedReader)
        widen(curl.stdout)
        try:
            curl.stdin.write(config.encode())
            curl.stdin.close()
            status, said = _head(curl.stdout)
            if status in (408, 425, 429) or status >= 500:
                raise Broken(f"the server returned error {status}")
            if status >= 400:
                raise Refused(f"the server returned error: {status}")
            if status:
                yield Answer(status, said, curl.stdout)
        except BaseException:
            curl.kill()
            raise
        else:
            if 300 <= status < 400:
                curl.kill()
                return
        if curl.wait() or not status:
            raise Broken(f"curl ended with exit status {curl.returncode}")


def widen(pipe: IO[bytes]) -> None:
    """Lets more lie in a pipe, if it is one and that is allowed: programs then change places less often."""
    with suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)


def _escaped(value: str) -> str:
    """The value as it stands between quotes in curl's configuration."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _head(stream: io.BufferedReader) -> tuple[int, http.client.HTTPMessage]:
    """Status and headers of the answer, interim ones skipped; status 0 when there is none."""
    while True:
        line = stream.readline(1 << 16)
        words = line.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            return 0, http.client.HTTPMessage()
        headers = http.client.parse_headers(stream)
        if int(words[1]) >= 200:
            return int(words[1]), headers


@dataclass(slots=True)
class Sink:
    """Where the bytes go: a file, or standard output, unpacked on the way if asked for; or nowhere."""

    path: str = ""
    unpack: bool = False
    room: int | None = None
    _out: IO[bytes] | None = None
    _unpacker: "subprocess.Popen[bytes] | None" = None
    _begun: bool = False

    def begin(self, total: int | None) -> None:
        """Called before the first byte, and again after a break, with the length where it is known."""
        if self._begun:
            return
        self._begun = True
        if self.room is not None and (total is None or total > self.room):
            what = f"{total >> 20} MiB do" if total is not None else "a file of unknown length may"
            free = f"{max(self.room, 0) >> 20} MiB"
            say(f"{what} not fit into memory, where {free} are free: compared now, fetched again after the wipe")
            self.path = ""
        if self.path == "-":
            self._out = sys.stdout.buffer
            widen(self._out)
        elif self.path:
            self._out = Path(self.path + ".part").open("wb")  # noqa: SIM115, closed in finish

    def write(self, piece: bytes | memoryview) -> None:
        """Passes the bytes on."""
        if self.unpack:
            self.unpack = False
            self._start_unpacker(bytes(piece[:6]))
        if self._out:
            try:
                self._out.write(piece)
            except BrokenPipeError as error:
                raise Refused("what reads the stream has ended before it") from error

    def _start_unpacker(self, beginning: bytes) -> None:
        for magic, argv in UNPACKERS:
            if beginning.startswith(magic):
                self._unpacker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self._out)
                assert self._unpacker.stdin
                widen(self._unpacker.stdin)
                self._out = self._unpacker.stdin
                return

    def finish(self) -> None:
        """Everything is where it should be, and complete, when this returns."""
        if self._out:
            try:
                self._out.flush()
                if self._unpacker or self.path != "-":
                    self._out.close()
            except BrokenPipeError as error:
                raise Refused("what reads the stream has ended before it") from error
        if self._unpacker and self._unpacker.wait():
            raise Refused("the stream cannot be unpacked")
        if self.path and self.path != "-":
            Path(self.path + ".part").rename(self.path)

    def abandon(self) -> None:
        """Nothing of it is kept; whoever reads the stream sees it end."""
        if self._unpacker:
            self._unpacker.kill()
        if self.path and self.path != "-":
            Path(self.path + ".part").unlink(missing_ok=True)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fetching")
    parser.add_argument("--url", action="append", default=[])
    parser.add_argument("--url-file", type=Path)
    parser.add_argument("--header-file", type=Path)
    parser.add_argument("--checksum", required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--rate", default="")
    parser.add_argument("--most", type=int, help="bytes that the file may have")
    parser.add_argument("--public", metavar="NETWORKS", help="public addresses alone, and these, separated by commas")
    parser.add_argument("--output", default="", help="a file, - for standard output; none: only compared")
    parser.add_argument("--room", type=int, help="bytes that the file may have to be kept")
    parser.add_argument("--unpack", action="store_true")
    parser.add_argument("--kept", type=Path, help="is the file already, where it is there")
    parser.add_argument("--note-size", type=Path, help="a file that is told the length")
    return parser.parse_args(argv)


def _wanted(said: argparse.Namespace) -> Wanted:
    urls = [*said.url, *([said.url_file.read_text().strip()] if said.url_file else [])]
    lines = said.header_file.read_text().splitlines() if said.header_file else []
    networks = None
    if said.public is not None:
        networks = tuple(ip_network(text) for text in said.public.split(",") if text)
    return Wanted(tuple(urls), said.checksum, said.size, tuple(lines), said.rate, said.most, networks)


def _take_kept(kept: Path, sink: Sink) -> None:
    """Gives what was fetched and compared before, so that nothing is fetched twice."""
    say(f"{kept.stat().st_size} bytes were fetched before")
    if sink.path not in ("", "-"):
        if Path(sink.path) != kept:
            Path(sink.path).symlink_to(kept)
        return
    sink.begin(None)
    with kept.open("rb") as file:
        while piece := file.read(CHUNK):
            sink.write(piece)
    sink.finish()


def main(argv: list[str]) -> int:
    """0 when the file has come and is the one that was wanted; 1 says why not."""
    said = _arguments(argv)
    sink = Sink(said.output, said.unpack, said.room)
    transfer = Transfer(_wanted(said), sink)
    try:
        if said.kept and said.kept.exists():
            _take_kept(said.kept, sink)
            return 0
        transfer.run()
        sink.finish()
        if said.note_size:
            said.note_size.write_text(f"{transfer.done}\n")
    except (Refused, AddressRefused) as refused:
        sink.abandon()
        say(f"fetching: {refused}")
        return 1
    say(f"{transfer.done} bytes came, and their checksum is right")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
