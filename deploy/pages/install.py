"""The page of an install, and its logs."""

import re
from collections.abc import Iterator
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from deploy import logs, reading
from deploy.actions import may_see_passphrase
from deploy.logs import LineKind
from deploy.models import Install, LogChunk
from deploy.reading import Extract
from deploy.steps import STEPS

from . import person
from .view import InstallView, view_of

FIRST_LINES = 200
"""How many lines of the open log are in the page itself."""

_ANCHOR = re.compile(r"(?P<step>[a-z-]{1,40})-(?P<attempt>\d{1,6})-L(?P<line>\d{1,9})")


@login_required
@require_safe
def install_page(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """The install as it stands; `?step=` opens a step, `?at=` a line of a log, else the current step is open."""
    install = visible(request, uuid)
    if install.archive_id:
        return render(request, "deploy/archived.html", {"install": install})
    after = reading.cursor(install)
    view = view_of(install, for_ops=person(request).is_ops)
    step, attempt, line = _asked_for(request, view)
    context = {
        "view": view,
        "passphrase": view.can_show_passphrase and may_see_passphrase(install, person(request)),
        "selected": step,
        "opened": attempt,
        "extracts": _extracts(view, step, attempt, line),
        "after": after,
        "now": timezone.now().timestamp(),
    }
    return render(request, "deploy/install.html", context)


def _asked_for(request: HttpRequest, view: InstallView) -> tuple[str, int, int]:
    """The step, attempt and line to show; what the install does not have is passed over. 0 is none in particular."""
    anchor = _ANCHOR.fullmatch(request.GET.get("at", ""))
    if anchor and (row := view.row(anchor["step"])):
        attempt = int(anchor["attempt"])
        if any(one.number == attempt for one in row.attempts):
            return row.name, attempt, int(anchor["line"])
    row = view.row(request.GET.get("step", "")) or view.row(view.current)
    return row.name if row else view.current, 0, 0


def _extracts(view: InstallView, step: str, attempt: int, line: int) -> dict[tuple[str, int], Extract]:
    """The logs that are in the page itself: the one to look at, and the one that grows. The others come when opened."""
    found: dict[tuple[str, int], Extract] = {}
    for name in dict.fromkeys((view.current, step)):
        row = view.row(name)
        if row and row.latest:
            key = (name, row.latest.number)
            found[key] = reading.tail(view.install, *key, lines=FIRST_LINES)
    if line:
        found[step, attempt] = reading.around(view.install, step, attempt, line)
    return found


@login_required
@require_safe
def log_page(request: HttpRequest, uuid: UUID, step: str, attempt: int) -> HttpResponse:
    """A stretch of a log: `?before=` and `?behind=` an offset, around a `?line=`, lines with `?q=`, else its end.

    `?bare=1` gives the lines alone, for a page that puts them into itself.
    """
    install = visible(request, uuid)
    if step not in STEPS:
        raise Http404
    if install.archive_id:
        return redirect(install)  # its page says where the log is
    extract, number = _extract(request, install, step, attempt)
    words = request.GET.get("q", "").replace("\0", "").strip()[:200]
    context = {
        "install": install, "step": STEPS[step], "attempt": attempt, "extract": extract, "line": number,
        "lines_url": request.path, "q": words,
    }  # fmt: skip
    if request.GET.get("bare"):
        return render(request, "deploy/_extract.html", context)
    if words:
        context["found"] = reading.search(install, step, attempt, words)
    return render(request, "deploy/log.html", context)


def _extract(request: HttpRequest, install: Install, step: str, attempt: int) -> tuple[Extract, int]:
    """What was asked for, and the line that is meant; 0 when none is."""
    if anchor := _ANCHOR.fullmatch(request.GET.get("at", "")):
        return reading.around(install, step, attempt, int(anchor["line"])), int(anchor["line"])
    for name, read in (("before", reading.before), ("behind", reading.behind), ("line", reading.around)):
        value = request.GET.get(name, "")
        if value.isdecimal() and len(value) <= 18:
            return read(install, step, attempt, int(value)), int(value) if name == "line" else 0
    if request.GET.get("from") == "start":
        return reading.behind(install, step, attempt, -1), 0
    return reading.tail(install, step, attempt), 0


@login_required
@require_safe
def log_download(request: HttpRequest, uuid: UUID, step: str, attempt: int) -> HttpResponseBase:
    """A whole log as plain text, a line for a line, so that permalinks and line numbers agree."""
    install = visible(request, uuid)
    if step not in STEPS:
        raise Http404
    if install.archive_id:
        return redirect(install)
    response = StreamingHttpResponse(_as_text(install, step, attempt), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{install.hostname}-{step}-{attempt}.txt"'
    return response


def _as_text(install: Install, step: str, attempt: int) -> Iterator[str]:
    rows = LogChunk.objects.filter(install=install, step=step, attempt=attempt).order_by("offset")
    for row in rows.iterator(chunk_size=100):
        yield "".join(f"{line_text(line)}\n" for line in logs.parse(row.text, row.first_line))


def line_text(line: logs.Line) -> str:
    """The line as plain text: what the commands' marks mean is written out."""
    if line.kind is LineKind.COMMAND:
        return f"$ {line.text}"
    if line.kind is LineKind.EXIT:
        return f"[{line.text} after {line.seconds:.3f} s]"
    return f"# {line.text}" if line.kind is LineKind.NOTE else line.text


def visible(request: HttpRequest, uuid: UUID) -> Install:
    """The install, if this person may see it; else there is no such page."""
    return get_object_or_404(reading.installs_of(request.user), uuid=uuid)
