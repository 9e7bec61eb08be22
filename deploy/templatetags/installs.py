"""What the pages about installs need beyond times and pills: log lines, clocks that tick, whose a failure is."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from accounts.templatetags.landfall import LOOKS, duration, icon
from deploy import logs
from deploy.events import Blame
from deploy.logs import Line, LineKind
from deploy.pages.checked import Checked
from deploy.pages.draft import Draft, Section
from deploy.reading import UNSHOWN, Chunk, Extract, Found
from deploy.steps import STEPS
from deploy.timeline import Attempt, StepRow
from images.flavours import FLAVOURS
from images.life import Life, life
from images.models import Image

register = template.Library()


# --- times


@register.simple_tag
def stopwatch(since: datetime | None) -> SafeString | str:
    """How long it has been, as a clock that the browser lets tick; without scripts it stands as it was rendered."""
    if since is None:
        return ""
    seconds = (timezone.now() - since).total_seconds()
    return format_html('<time class="mono" data-since="{}">{}</time>', f"{since.timestamp():.1f}", duration(seconds))


@register.simple_tag
def countdown(at: datetime) -> SafeString:
    """How long it is until then, as a clock that ticks down."""
    seconds = max((at - timezone.now()).total_seconds(), 0)
    clock = format_html('<time class="mono" data-until="{}">{}</time>', f"{at.timestamp():.1f}", duration(seconds))
    return format_html("in {}", clock)


@register.simple_tag
def moment(at: datetime) -> SafeString:
    """A time of the day to the second, the whole of it on hover; with its date when that is not today's."""
    utc = at.astimezone(timezone.get_default_timezone())
    day = "" if utc.date() == timezone.now().date() else f"{utc:%Y-%m-%d} "
    return format_html(
        '<time class="mono nowrap" datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="milliseconds"), f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03} UTC",
        f"{day}{utc:%H:%M:%S}",
    )  # fmt: skip


@register.filter
def roughly(seconds: float) -> str:
    """A length of time in round words: `45 s`, `9 min`, `2 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.0f} h"


@register.filter
def clock(left: str) -> str:
    """What rsync says is left (`0:00:19`) as a stopwatch shows it (`0:19`)."""
    hours, minutes, seconds = (int(part) for part in left.split(":"))
    return duration(hours * 3600 + minutes * 60 + seconds)


@register.filter
def spaced(rate: str) -> str:
    """A rate with a space before its unit: `412 MB/s`."""
    number = rate.rstrip("kMGB/s")
    return f"{number.removesuffix('.00')} {rate[len(number) :]}"


# --- steps and failures


@register.simple_tag
def step_word(row: StepRow) -> str:
    """The word beside a step's icon."""
    if row.stopped:
        return "stopped"
    return LOOKS[row.look].word


_WHOSE: Mapping[Blame, str] = {
    Blame.CUSTOMER: "This is yours to mend: something that was asked for cannot be done.",
    Blame.PROVIDER: "This is ours to mend: something in Landfall or its surroundings went wrong.",
    Blame.HARDWARE: "This is the hardware: the server, its disks, its BMC or the network did not do what was asked.",
}


@register.filter
def whose(blame: Blame) -> str:
    """Whose a failure is, as a sentence."""
    return _WHOSE[blame]


_WHOSE_SHORT: Mapping[Blame, str] = {
    Blame.CUSTOMER: "customer's",
    Blame.PROVIDER: "provider's",
    Blame.HARDWARE: "hardware",
}


@register.filter
def whose_short(blame: Blame) -> str:
    """Whose a failure is, in a table."""
    return _WHOSE_SHORT[blame]


@register.filter
def step_title(name: str) -> str:
    """What a step is called."""
    return STEPS[name].title if name in STEPS else name


@register.filter
def plainly(text: str) -> str:
    """The text without escape sequences and control characters."""
    return logs.plain(text)


# --- putting a reinstall together


@register.filter
def is_ending(image: Image) -> bool:
    """Whether the end of the image's life is near enough for a warning."""
    return life(image.end_of_life, timezone.now().date()) is Life.SOON


@register.filter
def is_untested(flavour: str) -> bool:
    """Whether no machine of the lab was installed with the flavour: its commands alone were tested."""
    return not (flavour in FLAVOURS and FLAVOURS[flavour].tested_here)


@register.simple_tag
def section_state(open: str, name: str, draft: Draft, checked: Checked) -> str:
    """How a section is shown: open, folded to its sentence, or only named because it comes later."""
    if name == open:
        return "open"
    section = Section(name)
    return "done" if name in draft.done and checked.is_good(section) else "later"


@register.filter
def at(values: Mapping[str, str], key: str) -> str:
    """What stands at a key that a template has in a variable; empty when nothing does."""
    return values.get(key, "")


# --- logs


@register.simple_tag
def extract_of(extracts: Mapping[tuple[str, int], Extract], row: StepRow, attempt: Attempt) -> Extract | None:
    """The stretch of log that is on the page for an attempt; None when it is loaded later."""
    return extracts.get((row.name, attempt.number))


@register.simple_tag
def progress_of(extracts: Mapping[tuple[str, int], Extract], row: StepRow) -> Line | None:
    """How far the running command of a step is, where its log is on the page."""
    extract = extracts.get((row.name, row.latest.number)) if row.latest and row.is_open else None
    return extract.progress() if extract else None


@register.simple_tag
def log_lines(chunk: Chunk) -> SafeString:
    """The lines of a chunk, each with its permalink. Progress is not among them: it moves the bar above the log.

    Written here and not as a template, because a template takes ten times as long and a log has many lines.
    """
    anchor = f"{chunk.step}-{chunk.attempt}-L"
    return _lines(chunk.lines, lambda line: f"{anchor}{line.number}", lambda line: f"?at={anchor}{line.number}")


@register.simple_tag
def found_lines(found: Found, step: str, attempt: int, url: str) -> SafeString:
    """The lines that a search gave; each number leads to the line among its neighbours."""
    anchor = f"{step}-{attempt}-L"
    return _lines(found.lines, lambda line: f"{anchor}{line.number}", lambda line: f"{url}?line={line.number}")


@register.simple_tag
def context_line(line: Line, url: str) -> SafeString:
    """A command that stands further above, as a heading for the lines that it printed; its number leads there."""
    return format_html(
        '<div class="log-line is-command"><a href="{}?line={}" class="log-no" data-far>{}</a>'
        '<span class="log-text">{}</span>{}</div>',
        url, line.number, line.number, line.text, _side(line),
    )  # fmt: skip


def _lines(lines: Iterable[Line], anchor: Callable[[Line], str], link: Callable[[Line], str]) -> SafeString:
    return format_html_join(
        "",
        '<div class="log-line is-{}" id="{}"><a class="log-no" href="{}#{}" aria-label="Line {}">{}</a>'
        '<span class="log-text">{}</span>{}</div>',
        (
            (_classes(line), anchor(line), link(line), anchor(line), line.number, line.number, line.text, _side(line))
            for line in lines
            if line.kind not in UNSHOWN
        ),
    )


def _classes(line: Line) -> str:
    return f"{line.kind.value} is-failed" if line.status else line.kind.value


def _side(line: Line) -> SafeString:
    """What stands at the right: when a command began, how long it took."""
    if line.kind is LineKind.COMMAND and line.at is not None:
        began = datetime.fromtimestamp(line.at, tz=timezone.get_default_timezone())
        return format_html(
            '<time class="log-side" datetime="{}" title="{}">{}</time>',
            began.isoformat(), f"{began:%Y-%m-%d %H:%M:%S} UTC", f"{began:%H:%M:%S}",
        )  # fmt: skip
    if line.kind is LineKind.EXIT and line.seconds is not None:
        mark = icon("cross" if line.status else "check")
        return format_html('<span class="log-side">{}{} s</span>', mark, f"{line.seconds:.1f}")
    return mark_safe("")
