import hashlib
import io
import stat
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path
from urllib.request import Request

import pytest

from images import store as store_module
from images.refusal import ImageRefused
from images.store import Store
from tests.images.web import Site, site

CONTENT = bytes(range(256)) * 12_000  # some chunks, the last one not whole
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 10 * 2**20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def web() -> Iterator[Site]:
    with site({"/image": CONTENT}) as server:
        yield server


def bring(store: Store, source: object, limit: int = LIMIT) -> str:
    """The SHA-256 of what came, kept in the store."""
    with store.receive(str(source), limit, lambda done, total: None) as arrival:
        store.keep(arrival)
        return arrival.sha256


def why(store: Store, source: object, limit: int = LIMIT) -> str:
    """The reason for which nothing came; and nothing is left of it."""
    with pytest.raises(ImageRefused) as refused:
        bring(store, source, limit)
    assert not list(store.folder.iterdir())
    return str(refused.value)


def test_a_file_is_kept_under_its_checksum(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(CONTENT)
    assert bring(store, source) == SHA256
    assert [path.name for path in store.folder.iterdir()] == [SHA256]
    assert store.path(SHA256).read_bytes() == CONTENT


def test_changing_the_source_later_does_not_change_the_store(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(CONTENT)
    bring(store, source)
    with source.open("r+b") as file:
        file.write(b"something else")
    assert store.path(SHA256).read_bytes() == CONTENT
    assert stat.S_IMODE(store.path(SHA256).stat().st_mode) == 0o444


def test_a_url_is_fetched(store: Store, web: Site) -> None:
    assert bring(store, web.url("/image")) == SHA256
    assert store.path(SHA256).read_bytes() == CONTENT


def test_progress_is_told_with_the_whole(store: Store, web: Site) -> None:
    told: list[tuple[int, int | None]] = []
    with store.receive(web.url("/image"), LIMIT, lambda done, total: told.append((done, total))):
        pass
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_what_is_not_kept_is_gone(store: Store, web: Site) -> None:
    with store.receive(web.url("/image"), LIMIT, lambda done, total: None) as arrival:
        assert arrival.path.stat().st_size == arrival.size == len(CONTENT)
    assert not list(store.folder.iterdir())


def test_the_second_of_two_equal_files_learns_that_it_is_the_second(store: Store, web: Site) -> None:
    with store.receive(web.url("/image"), LIMIT, lambda done, total: None) as one:
        with store.receive(web.url("/image"), LIMIT, lambda done, total: None) as other:
            assert store.keep(other) is True
        assert store.keep(one) is False
    assert [path.name for path in store.folder.iterdir()] == [SHA256]


def test_a_file_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    assert f"{tmp_path}/nothing does not exist" in why(store, tmp_path / "nothing")
    assert "is no file" in why(store, tmp_path)


@pytest.mark.parametrize(
    "url", ["ftp://example.org/image", "file:///etc/passwd", "http:///image", "ssh://example.org/x"]
)
def test_only_http_and_https_are_fetched(url: str, store: Store) -> None:
    assert "http:// or https://" in why(store, url)


def test_an_address_that_leads_nowhere_says_so(store: Store, web: Site) -> None:
    assert "answered with 404" in why(store, web.url("/other"))


def test_a_server_that_is_not_there_says_so(store: Store) -> None:
    assert "cannot be fetched: Connection refused" in why(store, "http://127.0.0.1:1/image")


def test_a_redirect_is_followed(store: Store, web: Site) -> None:
    web.files["/latest"] = "/image"
    assert bring(store, web.url("/latest")) == SHA256


@pytest.mark.parametrize("links", [{"/0": "/1", "/1": "/0"}, {f"/{n}": f"/{n + 1}" for n in range(20)}])
def test_too_many_redirects_are_not_followed(links: dict[str, bytes | str], store: Store, web: Site) -> None:
    web.files |= links
    assert "302" in why(store, web.url("/0"))
    assert len(web.asked) <= store_module.MOST_REDIRECTS + 1


@pytest.mark.parametrize(
    ("elsewhere", "message"), [("file:///etc/passwd", "is not allowed"), ("ftp://example.org/image", "not as safe")]
)
def test_no_redirect_leads_out_of_the_web(elsewhere: str, message: str, store: Store, web: Site) -> None:
    web.files["/a"] = elsewhere
    assert message in why(store, web.url("/a"))


def test_no_redirect_leads_from_https_to_http() -> None:
    request = Request("https://example.org/image")
    with pytest.raises(ImageRefused, match="not as safe"):
        store_module._FewRedirects().redirect_request(
            request, io.BytesIO(), 302, "Found", HTTPMessage(), "http://example.org/image"
        )


def test_a_file_over_the_limit_is_refused_before_it_is_fetched(store: Store, web: Site) -> None:
    assert "more than 1 MiB" in why(store, web.url("/image"), 2**20)


def test_a_file_over_the_limit_is_refused_although_its_length_was_not_told(store: Store, web: Site) -> None:
    web.tells_length = False
    assert "more than 1 MiB" in why(store, web.url("/image"), 2**20)


def test_a_download_that_breaks_off_is_refused(store: Store, web: Site) -> None:
    web.lie = 1000
    assert "broke off after" in why(store, web.url("/image"))


def test_a_download_that_falls_silent_is_refused(store: Store, web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SILENCE", 0.3)
    web.silent_after = 1000
    assert "no answer" in why(store, web.url("/image"))


def test_a_full_disk_is_said_to_be_full() -> None:
    # a write to it fails as on a disk without room
    with pytest.raises(ImageRefused, match="The image store is full"):
        store_module._copy(io.BytesIO(CONTENT), Path("/dev/full"), LIMIT, [], lambda done: None)
