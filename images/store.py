"""The folder of images: files that are named by their SHA-256, complete from the moment they have their name.

A file comes in under a name of its own, is counted and hashed on the way, and gets its final name at the end, in one
step. What fails on the way leaves nothing behind.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, InvalidURL
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

from servers.storage.sizes import human

from .refusal import ImageRefused

Progress = Callable[[int, int | None], None]
"""Called now and then with the bytes so far, and all of them where that is known."""

CHUNK: Final = 2**20
SILENCE: Final = 30
"""Seconds without a byte after which a download has failed."""

MOST_REDIRECTS: Final = 5
_FETCH_AGAIN: Final = "Try it again later, or fetch the file yourself and import it from there."


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that has come in, not yet in its place."""

    path: Path
    sha256: str
    size: int
    sha512: str = ""
    """Where it was asked for."""

    def refuse_other(self, checksum: str) -> None:
        """ImageRefused unless the file has this checksum, sha256:… or sha512:…."""
        kind, _, wanted = checksum.partition(":")
        found = self.sha512 if kind == "sha512" else self.sha256
        if found != wanted:
            raise ImageRefused(
                f"The file's {kind.upper().replace('SHA', 'SHA-')} is {found}, not {wanted}.",
                "Fetch it again; if it stays different, do not use it.",
            )


@dataclass(frozen=True, slots=True)
class Store:
    """The images in a folder."""

    folder: Path

    def path(self, sha256: str) -> Path:
        """Where the image with this checksum is, or would be."""
        return self.folder / sha256

    @contextmanager
    def receive(self, source: str, limit: int, progress: Progress, *, sha512: bool = False) -> Iterator[Arrival]:
        """The file at a path or an http(s) URL, copied and hashed; gone at the end of the block unless it was kept.

        Its SHA-512 is worked out where that is asked for: it costs as much again as the SHA-256.

        ImageRefused when it is not there, has more than `limit` bytes, or breaks off.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.folder) as scratch:
            path = Path(scratch) / "file"
            with _opened(source) as (stream, length):
                if length is not None and length > limit:
                    raise _too_large(limit)
                digests = [hashlib.sha256(), *([hashlib.sha512()] if sha512 else [])]
                size = _copy(stream, path, limit, digests, lambda done: progress(done, length))
            if length is not None and size != length:
                raise ImageRefused(f"{public_source(source)} broke off after {size} of {length} bytes.", _FETCH_AGAIN)
            yield Arrival(path, digests[0].hexdigest(), size, digests[1].hexdigest() if sha512 else "")

    def keep(self, arrival: Arrival) -> bool:
        """Gives the file its place; False when the same was there already."""
        arrival.path.chmod(0o444)
        try:
            # a link, not a rename: of two that bring the same, one learns that it is the second
            self.path(arrival.sha256).hardlink_to(arrival.path)
        except FileExistsError:
            return False
        _sync(self.folder)
        return True


def is_url(source: str) -> bool:
    """Whether the source is fetched over the network."""
    return "://" in source


def public_source(source: str) -> str:
    """The source as it may be shown: an address without the password or the signature that may be in it."""
    if not is_url(source):
        return source
    parts = urlsplit(source)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _copy(
    stream: IO[bytes], path: Path, limit: int, digests: Sequence["hashlib._Hash"], progress: Callable[[int], None]
) -> int:
    """The size of what was copied to `path`, which is on the disk when this returns; the digests have seen it all."""
    size = 0
    try:
        with path.open("wb") as file:
            while chunk := _read(stream):
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                for digest in digests:
                    digest.update(chunk)
                file.write(chunk)
                progress(size)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(path.parent).free
        raise ImageRefused(
            f"The image store is full: {human(free)} are left after {human(size)} of this file.",
            "Make room in LANDFALL_IMAGES_DIR, or let it name a larger disk.",
        ) from error
    return size


def _read(stream: IO[bytes]) -> bytes:
    try:
        return stream.read(CHUNK)
    except (OSError, HTTPException) as error:
        raise ImageRefused(f"Reading it failed: {_reason(error)}.", _FETCH_AGAIN) from error


@contextmanager
def _opened(source: str) -> Iterator[tuple[IO[bytes], int | None]]:
    """The bytes of the source, and how many they are, where that is known."""
    if is_url(source):
        with _requested(source) as response:
            length = response.headers.get("Content-Length", "")
            yield response, int(length) if length.isdecimal() else None
        return
    path = Path(source)
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise ImageRefused(f"{source} {what}.", "Name the file, or a URL that begins with http:// or https://.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise ImageRefused(f"{source} cannot be read: {_reason(error)}.", "Give its reader the right to.") from error
    with file:
        yield file, path.stat().st_size


def _checked(url: str) -> str:
    """The address as messages may name it; ImageRefused when it is none."""
    try:
        parts = urlsplit(url)
        shown = public_source(url)
    except ValueError:
        raise ImageRefused("This is no address of a file.", "Look for a typing mistake in its host.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImageRefused(f"{shown} is no address of a file.", "Give a URL that begins with http:// or https://.")
    return shown


@contextmanager
def _requested(url: str) -> Iterator[Any]:
    """The answer of the server, after no more than a few redirects."""
    shown = _checked(url)
    request = urllib.request.Request(url, headers={"User-Agent": "Landfall", "Accept-Encoding": "identity"})
    try:
        response = _OPENER.open(request, timeout=SILENCE)
    except urllib.error.HTTPError as error:
        raise ImageRefused(f"{shown} was answered with {error.code} {error.reason}.", "Check the address.") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ImageRefused(f"{shown} cannot be fetched: {_reason(error)}.", "Check the address.") from error
    with response:
        yield response


class _FewRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, none of them from https to http: what comes then could be anybody's."""

    max_redirections = MOST_REDIRECTS
    max_repeats = 1

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme == "http"):
            here, there = public_source(req.full_url), public_source(newurl)
            raise ImageRefused(f"{here} leads on to {there}, which is not as safe.", "Use the final address.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _make_opener() -> urllib.request.OpenerDirector:
    """An opener for http and https alone: the usual one would read file:// and ftp:// too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _FewRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


_OPENER: Final = _make_opener()


def _too_large(limit: int) -> ImageRefused:
    return ImageRefused(f"The file has more than {human(limit)}, which is the limit.", "Make it smaller.")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, InvalidURL | UnicodeError):
        return "it is no address"  # the error's own words repeat it, and what may be secret in it
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE} s"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _sync(folder: Path) -> None:
    """The folder's entries are on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
