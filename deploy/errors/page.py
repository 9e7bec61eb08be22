"""The catalogue as `docs/errors.md`."""

from collections.abc import Iterator

from .catalogue import CHAPTERS
from .entry import Entry

_ABOUT = """\
# Failures

Every failure of an install has a code, somebody whose it is to mend, and a sentence that says what to do. The code is
what the API, the metrics and the webhooks carry; it never changes its meaning. This page is written by
`python -m deploy.errors` from the catalogue in `deploy/errors/`; do not edit it.

Whose it is: **customer**, something that was asked for cannot be done; **provider**, something in Landfall or its
surroundings went wrong; **hardware**, the server, its disks, its BMC or the network did not do what was asked.
"""


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _ABOUT
    for chapter in CHAPTERS:
        yield f"## {chapter.title}\n\n{chapter.about}\n"
        yield "| code | whose | what it means | what to do |\n|---|---|---|---|"
        yield from (_row(entry) for entry in chapter.entries)
        yield ""


def _row(entry: Entry) -> str:
    fix = f"{entry.fix} (Not tried again by itself.)" if entry.final else entry.fix
    return f"| `{entry.code}` | {entry.blame.value} | {entry.meaning} | {fix} |"
