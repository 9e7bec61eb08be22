"""The program with which a rescue system fetches: run as there, with real curl, against a server that misbehaves."""

import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deploy import fetching
from deploy.sent import sources
from deploy.steps.fetch import PROGRAM

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = b"".join(b"%08d\n" % number for number in range(200_000))
SHA256 = hashlib.sha256(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
LAB = "127.0.0.0/8"


@dataclass
class Shop(http.server.ThreadingHTTPServer):
    """A web server with one file, that breaks off, leads on or refuses when it is told to."""

    break_after: list[int] = field(default_factory=list)
    """How many bytes each of the next answers gets."""
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    says_length: bool = True
    lead_to: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Counter)

    __hash__ = object.__hash__

    def url(self, path: str = "/image") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Counter(http.server.BaseHTTPRequestHandler):
    server: Shop

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        shop = self.server
        shop.seen.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        if shop.statuses:
            self.send_error(shop.statuses.pop(0))
            return
        if shop.lead_to and self.path != "/image":
            self.send_response(302)
            self.send_header("Location", shop.lead_to)
            self.end_headers()
            return
        start = 0
        if shop.ranges and (found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(found[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        if shop.says_length:
            self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        self.wfile.write(DATA[start : start + shop.break_after.pop(0)] if shop.break_after else DATA[start:])


@contextmanager
def open_shop(**changes: Any) -> Iterator[Shop]:
    shop = Shop(**changes)
    thread = threading.Thread(target=shop.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield shop
    finally:
        shop.shutdown()
        thread.join()
        shop.server_close()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop() as it:
        yield it


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program in a folder of its own, as the steps write it; waiting is made short."""
    folder = tmp_path_factory.mktemp("lib")
    for name, text in sources("deploy.fetching").items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.replace(b"time.sleep", b"(lambda seconds: None)"))
    return folder


@dataclass
class Fetched:
    status: int
    out: bytes
    said: str


@pytest.fixture
def fetch(lib: Path) -> Any:
    def run(*arguments: str, checksum: str = f"sha256:{SHA256}", output: str = "-") -> Fetched:
        assert PROGRAM[2:] == ("python3", "-m", "deploy.fetching")
        # -S: nothing of our virtual environment, as on the rescue system
        command = [sys.executable, "-S", "-m", "deploy.fetching", "--checksum", checksum, "--output", output]
        done = subprocess.run(
            [*command, *arguments], env={"PYTHONPATH": str(lib), "PATH": os.environ["PATH"]}, cwd=lib,
            capture_output=True, timeout=60,
        )  # fmt: skip
        return Fetched(done.returncode, done.stdout, done.stderr.decode())

    return run


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"sha512:{SHA512}"])
def test_what_came_whole_and_right_is_handed_on(fetch: Any, shop: Shop, checksum: str) -> None:
    done = fetch("--url", shop.url(), "--size", str(len(DATA)), checksum=checksum)
    assert (done.status, done.out == DATA) == (0, True), done.said


def test_a_connection_that_breaks_goes_on_at_the_byte_where_it_broke(fetch: Any, shop: Shop) -> None:
    shop.break_after = [70_000, 1, 0, 500_000]
    done = fetch("--url", shop.url())
    assert (done.status, done.out == DATA) == (0, True), done.said
    asked = [seen.get("range", "") for seen in shop.seen]
    assert asked == ["", "bytes=70000-", "bytes=70001-", "bytes=70001-", "bytes=570001-"]


def test_a_server_without_ranges_is_read_again_without_a_byte_doubled(fetch: Any, shop: Shop) -> None:
    shop.ranges, shop.break_after = False, [1_000_000]
    done = fetch("--url", shop.url())
    assert (done.status, done.out == DATA) == (0, True), done.said


def test_the_next_mirror_goes_on_where_one_has_died(fetch: Any, shop: Shop) -> None:
    with open_shop(break_after=[300_000], statuses=[]) as other:
        done = fetch("--url", other.url(), "--url", shop.url())
    assert (done.status, done.out == DATA) == (0, True), done.said
    assert [seen.get("range") for seen in shop.seen] == ["bytes=300000-"]


def test_another_checksum_is_a_failure_though_all_has_come(fetch: Any, shop: Shop) -> None:
    done = fetch("--url", shop.url(), checksum="sha256:" + "0" * 64)
    assert done.status == 1
    assert f"the checksum of what came is {SHA256}, not 0" in done.said


def test_a_file_of_another_size_is_refused_at_once(fetch: Any, shop: Shop) -> None:
    done = fetch("--url", shop.url(), "--size", "77")
    assert (done.status, done.out) == (1, b"")
    assert f"the file has {len(DATA)} bytes, not 77" in done.said


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_that_is_larger_than_the_limit_is_refused_before_it_has_come(
    fetch: Any, shop: Shop, says_length: bool
) -> None:
    shop.says_length = says_length
    done = fetch("--url", shop.url(), "--most", "5000")
    assert (done.status, len(shop.seen)) == (1, 1)
    assert "the image has more than 0 GiB, which is the limit" in done.said


def test_a_refusal_is_not_tried_again_and_an_error_is(fetch: Any, shop: Shop) -> None:
    shop.statuses = [503, 429, 404]
    done = fetch("--url", shop.url())
    assert (done.status, len(shop.seen)) == (1, 3)
    assert "the server returned error: 404" in done.said


def test_nobody_there_is_given_up_in_the_end(fetch: Any) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = fetch("--url", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert done.status == 1
    assert "curl: (7)" in done.said
    assert "given up after 8 tries" in done.said


def test_a_compressed_stream_is_unpacked_by_what_it_is(fetch: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("zstd", "gzip", "xz", "bzip2"):
        packed = subprocess.run([tool, "-c"], input=b"the tree", capture_output=True, check=True).stdout
        monkeypatch.setattr(sys.modules[__name__], "DATA", packed)
        done = fetch("--url", shop.url(), "--unpack", checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}")
        assert (done.status, done.out) == (0, b"the tree"), (tool, done.said)


def test_a_stream_that_ends_early_inside_is_a_failure(fetch: Any, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = subprocess.run(["zstd", "-c"], input=os.urandom(5000), capture_output=True, check=True).stdout[:-20]
    monkeypatch.setattr(sys.modules[__name__], "DATA", packed)
    done = fetch("--url", shop.url(), "--unpack", checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}")
    assert done.status == 1
    assert "cannot be unpacked" in done.said


def test_headers_go_to_the_server_that_they_are_for_and_to_no_other(fetch: Any, shop: Shop, tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text('Authorization: Bearer of-the-customer\nX-Quoted: "a" \\ b\n')
    with open_shop(lead_to=shop.url()) as first:
        done = fetch("--url", first.url("/start"), "--header-file", str(headers), "--public", LAB)
    assert (done.status, done.out == DATA) == (0, True), done.said
    assert first.seen[0]["authorization"] == "Bearer of-the-customer"
    assert first.seen[0]["x-quoted"] == '"a" \\ b'
    assert "authorization" not in shop.seen[0]


def test_an_address_out_of_a_file_is_not_said(fetch: Any, shop: Shop, tmp_path: Path) -> None:
    address = tmp_path / "url"
    address.write_text(shop.url("/image?signature=of-the-address") + "\n")
    shop.statuses = [500, 403]
    done = fetch("--url-file", str(address))
    assert done.status == 1
    assert "of-the-address" not in done.said


@pytest.mark.parametrize("inside", ["http://127.0.0.1:{port}/image", "http://localhost:{port}/image"])
def test_an_address_inside_is_not_asked_at_all(fetch: Any, shop: Shop, inside: str) -> None:
    done = fetch("--url", inside.format(port=shop.server_address[1]), "--public", "")
    assert (done.status, shop.seen) == (1, [])
    assert "not a public address" in done.said


@pytest.mark.parametrize(
    "where",
    ["http://169.254.169.254/latest", "http://[::1]:8600/", "https://10.0.0.1/", "file:///etc/shadow", "//10.0.0.1/"],
)  # fmt: skip
def test_a_redirect_inside_is_not_followed(fetch: Any, where: str) -> None:
    with open_shop(lead_to=where) as outside:
        # the shop's own address counts as public here, and that of no other
        done = fetch("--url", outside.url("/start"), "--public", "127.0.0.1/32")
    assert (done.status, done.out, len(outside.seen)) == (1, b"", 1)
    assert re.search("not a public address|not an address", done.said)


def test_redirects_end(fetch: Any) -> None:
    with open_shop(lead_to="/again") as outside:
        done = fetch("--url", outside.url("/start"))
    assert "leads on more than 5 times" in done.said


def test_curl_is_held_to_the_address_that_was_judged(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers with one address when it is judged, and with another one to whoever asks a moment later."""
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    url = f"http://no-such-name.invalid:{shop.server_address[1]}/image"
    wanted = fetching.Wanted((url,), f"sha256:{SHA256}", networks=(fetching.ip_network("127.0.0.1/32"),))
    sink = fetching.Sink(str(tmp_path / "file"))
    fetching.Transfer(wanted, sink, pause=lambda _: None).run()
    sink.finish()
    assert (tmp_path / "file").read_bytes() == DATA


def test_curl_is_told_the_rate_of_a_reader_and_nothing_secret_in_its_arguments(
    fetch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curl = tmp_path / "curl"
    curl.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/arguments; cat >{tmp_path}/config\nprintf "HTTP/1.1 403 No\\r\\n\\r\\n"\n'
    )
    curl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    address = tmp_path / "url"
    address.write_text("http://93.184.215.14/image?signature=1")
    assert fetch("--url-file", str(address), "--rate", "50M").status == 1
    assert (tmp_path / "config").read_text() == 'url = "http://93.184.215.14/image?signature=1"\nlimit-rate = "50M"\n'
    assert "signature" not in (tmp_path / "arguments").read_text()


def test_what_does_not_fit_into_memory_is_compared_and_not_kept(fetch: Any, shop: Shop, tmp_path: Path) -> None:
    kept = tmp_path / "file"
    done = fetch("--url", shop.url(), "--room", "1000", "--note-size", str(tmp_path / "size"), output=str(kept))
    assert (done.status, kept.exists()) == (0, False)
    assert "do not fit into memory" in done.said
    assert (tmp_path / "size").read_text() == f"{len(DATA)}\n"


def test_what_was_kept_is_not_fetched_again(fetch: Any, shop: Shop, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert fetch("--url", shop.url(), "--room", str(1 << 30), output=str(kept)).status == 0
    done = fetch("--url", shop.url(), "--kept", str(kept))
    assert (done.out == DATA, len(shop.seen)) == (True, 1)
    fetch("--url", shop.url(), "--kept", str(kept), output=str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == DATA
    assert len(shop.seen) == 1


def test_nothing_is_left_of_a_file_that_is_not_what_was_wanted(fetch: Any, shop: Shop, tmp_path: Path) -> None:
    assert fetch("--url", shop.url(), checksum="sha256:" + "0" * 64, output=str(tmp_path / "file")).status == 1
    assert list(tmp_path.iterdir()) == []
