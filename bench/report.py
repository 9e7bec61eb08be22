"""Tables in Markdown, the line that says what they were measured on, and their place in docs/performance.md."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from django.utils import timezone

from images.accelerator import accelerator
from rescue.workshop import cache_folder

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table: the first column of words, the others of figures."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Where and when, in one line: figures are worth nothing without it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True, capture_output=True, check=False
    ).stdout.strip()
    host = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, {memory:.0f} GiB of memory"
    python = f"Python {platform.python_version()}"
    return f"{timezone.now():%Y-%m-%d}, commit {commit or 'unknown'}: {host}, {_virtual_machines()}, {python}."


def _virtual_machines() -> str:
    """How virtual machines run here; KVM is tried with the rescue system's kernel, once one was built."""
    kernel = next(cache_folder().glob("rescue/*/vmlinuz"), None)
    return f"virtual machines by {accelerator(kernel).name}" if kernel else "no virtual machine tried yet"


def put(name: str, text: str, where: Path = PAGE) -> None:
    """Writes the text into docs/performance.md (or another page), between the markers of this name."""
    page = where.read_text()
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not place.search(page):
        raise SystemExit(f"{where} has no place for {name}: it needs a line {begin} and a line {end}.")
    where.write_text(place.sub(lambda _: f"{begin}\n{text.strip()}\n{end}", page))
