"""What the stored log of an attempt says of its end."""

import pytest
from django.utils import timezone

from deploy import logs
from deploy.logbook import Logbook
from deploy.models import Install, LogChunk
from deploy.queue import Lease, claim
from tests.builders import make_install

pytestmark = pytest.mark.django_db


def a_log(*texts: str) -> Logbook:
    """The logbook of an attempt at the copy with these chunks in it."""
    install, lease = claimed()
    offset, line = 0, 1
    for text in texts:
        LogChunk.objects.create(
            install=install, step="copy", attempt=1, offset=offset, size=len(text.encode()), first_line=line,
            text=text, at=timezone.now(),
        )  # fmt: skip
        offset, line = offset + len(text.encode()), line + logs.count(text)
    return Logbook.open(install, lease, "copy", 1)


def claimed() -> tuple[Install, Lease]:
    make_install()
    found = claim("worker", timezone.now())
    assert found
    return found


def begun(number: int, command: str) -> str:
    return f"{logs.COMMAND_MARK}{number} 1.5 {command}\n"


def test_a_failed_command_is_named_with_its_own_words_alone() -> None:
    book = a_log(begun(1, "curl"), "fetched\n", begun(2, "rsync -a"), "no space\n", "\x1e< 2 11 3.000\n")
    assert book.tail() == ("rsync -a", ("no space",), 11)


def test_a_command_is_named_however_long_it_has_been_printing() -> None:
    book = a_log(begun(1, "curl"), begun(2, "rsync -a"), *(f"file {number}\n" for number in range(200)), "no space\n")
    command, words, status = book.tail()
    assert (command, words[-2:], status) == ("rsync -a", ("file 199", "no space"), None)
