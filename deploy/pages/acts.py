"""The buttons on an install: each asks first where something may be lost, acts, and says what has come of it."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import role_required
from accounts.models import Role
from deploy import actions
from deploy.models import Install
from deploy.steps import STEPS

from . import person
from .install import visible
from .view import view_of

asking = require_http_methods(["GET", "HEAD", "POST"])
"""GET is the question, for browsers without scripts; POST is the answer."""


@login_required
@asking
def cancel(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Cancels, and asks before."""
    install = visible(request, uuid)
    if request.method != "POST":
        return _question(request, install, "deploy/cancel.html")
    return _acted(request, install, "The install is being cancelled.", lambda: actions.cancel(install, person(request)))


@login_required
@require_POST
def retry(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Lets a failed or cancelled install go on; `from_start` from its first step."""
    install = visible(request, uuid)
    from_start = bool(request.POST.get("from_start"))
    return _acted(
        request, install, "The install goes on.", lambda: actions.retry(install, person(request), from_start=from_start)
    )


@role_required(Role.OPS)
@asking
def hold(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Holds the install before a step, and asks before which."""
    install = visible(request, uuid)
    if request.method != "POST":
        return _question(request, install, "deploy/hold.html")
    before = step_asked_for(request)
    said = f"It is to be held before {STEPS[before].title}." if before in STEPS else ""
    return _acted(request, install, said, lambda: actions.hold(install, person(request), before))


@role_required(Role.OPS)
@require_POST
def release(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Lets a held install go on, or takes back that it is to be held."""
    install = visible(request, uuid)
    return _acted(request, install, "The install goes on.", lambda: actions.release(install, person(request)))


@role_required(Role.OPS)
@asking
def force_reset(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Ends the install whatever it does, and asks for the reason before; one that will not do is asked for again."""
    install = visible(request, uuid)
    if request.method != "POST":
        return _question(request, install, "deploy/reset.html")
    reason = reason_given(request)
    if problem := reason_problem(reason):
        return _question(request, install, "deploy/reset.html", status=400, reason=reason, problem=problem)
    said = "The install was ended by force."
    return _acted(request, install, said, lambda: actions.force_reset(install, person(request), reason))


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def passphrase(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Asks, then shows the passphrase of the disks for the only time, to those whose it is; no copy of it is stored."""
    install = visible(request, uuid)
    if not actions.may_see_passphrase(install, person(request)):
        raise Http404
    if request.method != "POST":
        asks = view_of(install).can_show_passphrase
        return _question(request, install, "deploy/passphrase.html") if asks else redirect(install)
    try:
        shown = actions.show_passphrase(install, person(request))
    except actions.Refused as refused:
        context = {"refused": refused, "install": install}
        return render(request, "deploy/refused.html", context, status=refused.status)
    return render(request, "deploy/passphrase.html", {"view": view_of(install), "shown": shown.reveal()})


def step_asked_for(request: HttpRequest) -> str:
    """The step that was chosen; whether there is such a step is the action's to say."""
    return _text(request, "before")[:40]


def reason_given(request: HttpRequest) -> str:
    """The reason as it was typed, its line breaks one character each."""
    return _text(request, "reason").replace("\r\n", "\n")


def reason_problem(reason: str) -> str:
    """What is wrong with a reason; empty when it will do."""
    try:
        actions.check_reason(reason)
    except actions.Refused as refused:
        return str(refused)
    return ""


def _text(request: HttpRequest, name: str) -> str:
    """What was typed. PostgreSQL stores no NUL in a text."""
    return request.POST.get(name, "").replace("\0", "").strip()


def _question(request: HttpRequest, install: Install, template: str, status: int = 200, **more: str) -> HttpResponse:
    view = view_of(install, for_ops=person(request).is_ops)
    return render(request, template, {"view": view, **more}, status=status)


def _acted(request: HttpRequest, install: Install, done: str, act: Callable[[], None]) -> HttpResponse:
    """Back to the install, with a word of what has come of it; a refusal keeps its status."""
    try:
        act()
    except actions.Refused as refused:
        context = {"refused": refused, "install": install}
        return render(request, "deploy/refused.html", context, status=refused.status)
    messages.success(request, done)
    return redirect(install)
