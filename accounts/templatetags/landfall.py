"""What every template uses: times, sizes, icons, status pills, form fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.forms import BoundField, CheckboxInput
from django.template.context import RequestContext
from django.templatetags.static import static
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@dataclass(frozen=True, slots=True)
class Look:
    """How a status is shown: the tone (a colour's meaning), the icon, and the word beside them."""

    tone: str
    icon: str
    word: str


UNKNOWN = Look("idle", "pending", "unknown")
LOOKS: Mapping[str, Look] = {
    # an install
    "queued": Look("idle", "queue", "queued"),
    "running": Look("run", "running", "running"),
    "waiting": Look("warn", "clock", "waiting"),
    "held": Look("warn", "pause", "held"),
    "succeeded": Look("ok", "check", "succeeded"),
    "failed": Look("bad", "failed", "failed"),
    "cancelled": Look("idle", "stop", "cancelled"),
    # a step; the other states it shares with an install
    "pending": Look("idle", "pending", "to do"),
    "done": Look("ok", "check", "done"),
    # an image
    "candidate": Look("warn", "clock", "candidate"),
    "offered": Look("ok", "check", "offered"),
    "retired": Look("idle", "stop", "retired"),
    # a file on its way into the catalogue; the other states it shares with an install
    "found": Look("warn", "alert", "here"),
    "refused": Look("bad", "failed", "refused"),
    # a webhook, and what is told to it
    "on": Look("ok", "check", "on"),
    "off": Look("idle", "pause", "off"),
    "due": Look("run", "running", "on its way"),
    "retrying": Look("warn", "again", "trying again"),
    "delivered": Look("ok", "check", "delivered"),
    "given-up": Look("bad", "failed", "given up"),
    # a worker
    "alive": Look("ok", "check", "at work"),
    "stopping": Look("warn", "pause", "stopping"),
    "gone": Look("bad", "failed", "gone"),
    # a server that Landfall has not installed
    "new": Look("idle", "pending", "not installed"),
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """An icon from the sprite, for beside a word: screen readers skip it."""
    sprite = static("landfall/icons.svg")
    return format_html('<svg class="icon" aria-hidden="true"><use href="{}#{}"></use></svg>', sprite, name)


@register.simple_tag
def pill(status: str, word: str = "", plain: bool = False) -> SafeString:
    """A status as icon, word and colour; `word` says more than the status's own, `plain` leaves out the ground."""
    look = LOOKS.get(str(status), UNKNOWN)
    classes = f"pill tone-{look.tone}{' pill-plain' if plain else ''}{' is-live' if look.tone == 'run' else ''}"
    return format_html('<span class="{}">{}{}</span>', classes, icon(look.icon), word or look.word)


@register.filter
def tone(status: str) -> str:
    """The tone of a status: ok, warn, bad, run or idle."""
    return LOOKS.get(str(status), UNKNOWN).tone


@register.filter
def look_icon(status: str) -> str:
    """The name of a status's icon, for `{% icon %}`."""
    return LOOKS.get(str(status), UNKNOWN).icon


@register.simple_tag(takes_context=True)
def nav_link(context: RequestContext, name: str, label: str) -> SafeString:
    """A link of the main navigation, marked where the page is below it."""
    url = reverse(name)
    path = context["request"].path if "request" in context else ""
    within = path == url or (url != "/" and path.startswith(url)) or (url == "/" and path.startswith("/servers/"))
    return format_html('<a href="{}"{}>{}</a>', url, SafeString(' aria-current="page"') if within else "", label)


@register.simple_tag
def ago(when: datetime | None, never: str = "never") -> SafeString:
    """A time as one says it, the exact one on hover: `<time ... title="2026-11-23 02:24:26 UTC">5 min ago</time>`."""
    if when is None:
        return format_html("{}", never)
    utc = when.astimezone(timezone.get_default_timezone())
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M:%S} UTC", relative(timezone.now() - when),
    )  # fmt: skip


def relative(age: timedelta) -> str:
    """`just now`, `5 min ago`, `yesterday`, `in 3 days`; beyond two months in months, beyond two years in years."""
    seconds = abs(age.total_seconds())
    if seconds < 45:
        return "just now"
    for limit, unit, one, many in _STEPS:
        if seconds < limit:
            count = round(seconds / unit)
            words = one if count == 1 else f"{count} {many}"
            return f"{words} ago" if age > timedelta() else f"in {words}"
    return "long ago"


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (
    (59.5 * _MINUTE, _MINUTE, "1 min", "min"),
    (23.5 * _HOUR, _HOUR, "1 hour", "hours"),
    (60 * _DAY, _DAY, "1 day", "days"),
    (730 * _DAY, 30.44 * _DAY, "1 month", "months"),
    (36525 * _DAY, 365.25 * _DAY, "1 year", "years"),
)


@register.filter
def duration(value: timedelta | float | None) -> str:
    """A length of time as a stopwatch shows it: `0:51`, `4:12`, `1:02:03`; a dash when there is none."""
    if value is None or value == "":
        return "–"
    whole = max(0, int(value.total_seconds() if isinstance(value, timedelta) else value))
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@register.inclusion_tag("accounts/_field.html")
def field(bound: BoundField, placeholder: str = "", mono: bool = False, hint: str = "") -> dict[str, Any]:
    """A form field with label, help and errors, tied together for screen readers."""
    attributes: dict[str, Any] = {}
    described = [f"{bound.auto_id}-help"] if bound.help_text or hint else []
    if bound.errors:
        described.append(f"{bound.auto_id}-error")
        attributes["aria-invalid"] = "true"
    if described:
        attributes["aria-describedby"] = " ".join(described)
    if placeholder:
        # a literal of a template is marked safe: joined anew it is not, and its quotes are escaped
        attributes["placeholder"] = "".join(placeholder)
    if mono:
        attributes |= {"class": "mono", "spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}
    return {
        "field": bound,
        "control": bound.as_widget(attrs=attributes),
        "help": hint or bound.help_text,
        "check": isinstance(bound.field.widget, CheckboxInput),
    }
