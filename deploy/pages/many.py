"""Acting on many installs at once, from the board: each act is one button, and what it asks before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.models import User
from deploy import actions, reading
from deploy.events import Event, State, fold
from deploy.models import Install
from deploy.steps import STEPS

from . import fleet, person
from .acts import reason_given, reason_problem, step_asked_for
from .whereabouts import Whereabouts, after_a_cancel, whereabouts

MOST = 300
"""How many installs are acted on at once."""


@dataclass(frozen=True, slots=True)
class Words:
    """An act in words: what it asks, with the number of installs in it (empty: nothing), its results, and each."""

    question: str
    results: str
    done: str


class Act(Enum):
    """What can be done to many; the value is the button's."""

    CANCEL = "cancel"
    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    RESET = "reset"


WORDS: Mapping[Act, Words] = {
    Act.CANCEL: Words("Cancel {}", "Cancelling", "is being cancelled"),
    Act.RETRY: Words("", "Trying again", "goes on"),
    Act.HOLD: Words("Hold {}", "Holding", "is to be held"),
    Act.RELEASE: Words("", "Releasing", "goes on"),
    Act.RESET: Words("End {} by force", "Ending by force", "was ended by force"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One install that is asked about: where the act would leave its server, or which step it is in."""

    install: Install
    words: str


@dataclass(frozen=True, slots=True)
class Result:
    """What has come of one install."""

    install: Install
    done: bool
    words: str


@dataclass(frozen=True, slots=True)
class Given:
    """What was filled in."""

    before: str = ""
    reason: str = ""


def act(request: HttpRequest) -> HttpResponse:
    """Does what was asked to what was chosen, one by one; asks first where something may be lost or has to be said."""
    try:
        wanted = Act(request.POST.get("act"))
    except ValueError as error:
        raise Http404 from error
    chosen, words = _chosen(request), WORDS[wanted]
    given = Given(step_asked_for(request), reason_given(request))
    sure = bool(request.POST.get("sure"))
    problem = reason_problem(given.reason) if wanted is Act.RESET and sure else ""
    if chosen and words.question and (problem or not sure):
        return _question(request, wanted, chosen, given, problem)
    results = [_one(wanted, install, person(request), given) for install in chosen]
    outcome = {"results": results, "words": words, "back": request.get_full_path()}
    return render(request, "deploy/board_results.html", outcome)


def _question(request: HttpRequest, wanted: Act, chosen: Sequence[Install], given: Given, problem: str) -> HttpResponse:
    context = {
        "act": wanted.value,
        "question": WORDS[wanted].question.format(f"{len(chosen)} install{'' if len(chosen) == 1 else 's'}"),
        "asked": _asked(wanted, chosen),
        "steps": STEPS.values(),
        "given": given,
        "problem": problem,
        "back": request.get_full_path(),
    }
    return render(request, "deploy/board_ask.html", context, status=400 if problem else 200)


def _asked(wanted: Act, installs: Sequence[Install]) -> list[Asked]:
    """What is said of each before it is done: one query at most."""
    if wanted is Act.HOLD:
        return [Asked(one, STEPS[one.step].title if one.step in STEPS else "not begun") for one in installs]
    histories = fleet.histories(installs)
    where = after_a_cancel if wanted is Act.CANCEL else whereabouts
    return [Asked(one, _short(where, histories.get(one.pk, []))) for one in installs]


def _short(where: Callable[[State, Sequence[Event]], Whereabouts], history: Sequence[Event]) -> str:
    return where(fold(history), history).value.short


def _chosen(request: HttpRequest) -> list[Install]:
    """The installs whose boxes were ticked; what is no install is passed over."""
    uuids = []
    for text in request.POST.getlist("install")[:MOST]:
        try:
            uuids.append(UUID(text))
        except ValueError:
            continue
    return list(reading.installs_of(request.user).filter(uuid__in=uuids).order_by("server__name"))


def _one(wanted: Act, install: Install, by: User, given: Given) -> Result:
    try:
        match wanted:
            case Act.CANCEL:
                actions.cancel(install, by)
            case Act.RETRY:
                actions.retry(install, by)
            case Act.HOLD:
                actions.hold(install, by, given.before)
            case Act.RELEASE:
                actions.release(install, by)
            case Act.RESET:
                actions.force_reset(install, by, given.reason)
    except actions.Refused as refused:
        return Result(install, False, refused.message)
    return Result(install, True, WORDS[wanted].done)
