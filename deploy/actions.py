"""What people can do to installs: each action checks, appends an event, and leaves the rest to a worker."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import SSHKey, User
from accounts.secret import Secret
from images.inputs import Answers, InputsRefused, answers, parse_inputs
from images.life import Life, life
from images.models import Image, ImageState
from images.own import OwnImageWish, check_hook, is_own, own_image
from images.refusal import ImageRefused
from metadata import tokens
from metadata.documents import check_user_data
from metadata.errors import MetadataRefused
from metadata.hostnames import check_hostname
from metadata.models import Purpose
from servers.facts import Facts
from servers.models import Server
from servers.storage.draw import Drawing, drawing, drawing_of
from servers.storage.layout import Layout
from servers.storage.plan import Plan
from servers.storage.refusal import PlanImpossible

from . import errors, journal, passphrase
from .commands import Command, detail, shown
from .context import TOKEN_LIFETIME, dry_context, is_licensed, steps_of, storage_plan
from .events import LIVE, MOST_FAILED_ATTEMPTS, IllegalEvent, Kind, State
from .models import Install
from .steps import INTO_RESCUE, POINT_OF_NO_RETURN, STEPS

LONGEST_REASON = 500
"""Characters that the reason of a forced end may have."""


class Refused(Exception):
    """An action that cannot be done: why, what to do instead, and the HTTP status that says it to a program."""

    def __init__(self, message: str, fix: str = "", status: int = 400) -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message = message
        self.fix = fix
        self.status = status


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What a customer asks for: an image of the catalogue, or `own`, one that the customer brings.

    The hook is a script that runs in the new system's tree before its first start.
    """

    server: Server
    image: Image | None
    layout: Layout
    hostname: str
    ssh_keys: tuple[SSHKey, ...]
    user_data: bytes = b""
    own: OwnImageWish | None = None
    hook: str = ""
    passphrase: Secret = field(default_factory=lambda: Secret(""))
    """For encrypted disks; where none is given, one is made."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The answers to what the image asks, secret ones among them."""


@dataclass(frozen=True, slots=True)
class StepCommands:
    """What a step will run, as people read it: a line a command, what it reads or writes indented below it."""

    step: str
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen, shown before anything is lost."""

    plan: Plan
    before: Drawing
    after: Drawing
    erased: str
    notes: tuple[str, ...]
    commands: tuple[StepCommands, ...]


def preview(request: InstallRequest) -> Preview:
    """The plan and the exact commands of an install; nothing is written. `Refused` says why there can be none."""
    install = _checked(request)
    facts = request.server.facts()
    plan = Plan.from_json(install.approved_plan)
    return Preview(
        plan=plan,
        before=drawing_of(facts),
        after=drawing(plan),
        erased=plan.losses(request.server.name),
        notes=plan.notes,
        commands=tuple(_commands(install, facts)),
    )


def request_install(request: InstallRequest, by: User) -> Install:
    """A new install of the server, queued. `Refused` with status 409 when another one is under way."""
    install = _checked(request)
    install.requested_by = by
    try:
        with transaction.atomic():
            _save(install)
            journal.append(
                install,
                Kind.REQUESTED,
                {
                    "by": by.get_username(),
                    "server": request.server.name,
                    "image": _told(install.image),
                    "hostname": install.hostname,
                    "layout": install.layout,
                    "plan": install.approved_plan,
                    "ssh_keys": [name for name, _ in install.ssh_keys],
                    "user_data_bytes": len(request.user_data),
                    "hook_bytes": len(install.hook.encode()),
                    "inputs": install.inputs,
                    **_passphrase_source(request),
                },
            )
    except IntegrityError as error:
        raise _busy(request.server) from error
    return install


def _save(install: Install) -> None:
    """Stores the install, and first the image that its customer brings."""
    if is_own(install.image):
        own = install.image.own
        install.image.save()
        own.image = install.image
        own.save()
        install.image_id = install.image.pk
    install.save()


def _told(image: Image) -> dict[str, str]:
    """The image as the history keeps it, without anything secret."""
    if is_own(image):
        return {"name": image.name, "own": image.own.shown_url, "checksum": image.own.checksum}
    return {"name": image.name, "sha256": image.sha256}


def _passphrase_source(request: InstallRequest) -> dict[str, str]:
    """For the history: whether the passphrase was given or made; nothing where nothing is encrypted."""
    return {"passphrase": "given" if request.passphrase else "made"} if request.layout.encrypted else {}


def cancel(install: Install, by: User) -> None:
    """Asks for a cancel: at once where nothing is half done, else at the end of the running step."""
    if install.cancel_requested and install.is_live:
        raise Refused("This install is being cancelled already.", "It stops at its next safe point.", status=409)
    _append(install, Kind.CANCEL_REQUESTED, by)


def hold(install: Install, by: User, before: str) -> None:
    """Has the install stop before a step that has not begun, until somebody releases it."""
    names = install.state().steps or steps_of(install.image)
    if before not in names:
        raise Refused(f"This install has no step {before!r}.", f"Its steps are: {', '.join(names)}.")
    _append(install, Kind.HOLD_REQUESTED, by, before=before)


def release(install: Install, by: User) -> None:
    """Lets a held install go on, or takes back that it is to be held."""
    _append(install, Kind.RELEASED, by)


def force_reset(install: Install, by: User, reason: str) -> None:
    """Ends an install at once, whatever it is doing and whoever drives it; the server can be installed anew then.

    Nothing is waited for. What still runs on the server is ended by whoever drives it, if anybody does, else by the
    next install. One that never came past the wipe still has what was on its disks.
    """
    reason = check_reason(reason)
    failure = errors.failure("force-reset", f"{by.get_username()} ended this install by force: {reason}")
    _append(install, Kind.FORCE_RESET, by, reason=reason, failure=failure.to_json())


def check_reason(reason: str) -> str:
    """The reason of a forced end as it is kept; `Refused` when there is none, or a novel."""
    if not (reason := reason.strip()):
        raise Refused("A reason is missing.", "Say in a few words why: it becomes part of the history.")
    if len(reason) > LONGEST_REASON:
        raise Refused(f"The reason is longer than {LONGEST_REASON} characters.", "Say it in fewer words.")
    return reason


def retry(install: Install, by: User, from_start: bool = False) -> None:
    """Lets an install that failed or was cancelled go on: with the step that failed, or from the rescue system."""
    state = install.state()
    step = INTO_RESCUE if from_start else resume_from(state)
    if state.passphrase and not install.disk_passphrase:
        raise Refused("The passphrase of its disks is not kept any more.", "Start a new install.", status=409)
    if Install.objects.filter(server=install.server, status__in=LIVE).exclude(pk=install.pk).exists():
        raise _busy(install.server)
    if state.failed_attempts >= MOST_FAILED_ATTEMPTS:
        raise Refused(
            f"This install has failed {state.failed_attempts} times.", "Start a new one: its page has the button.", 409
        )
    if state.steps and step not in state.steps:
        step = state.steps[0]
    with transaction.atomic():
        _append(install, Kind.RETRIED, by, step=step)
        # The token that the new system calls with is on its disk already, and may have run out meanwhile.
        tokens.prolong(install.uuid, Purpose.PHONE_HOME, TOKEN_LIFETIME)


def show_passphrase(install: Install, by: User) -> Secret:
    """The passphrase of the install's disks, this once: the history tells who has seen it."""
    with transaction.atomic():
        kept = Install.objects.only("disk_passphrase").get(pk=install.pk).disk_passphrase
        if install.state().passphrase and not kept:
            raise Refused(
                "The passphrase is not kept any more: whoever asked for the install chose it, or the disks were erased"
                " since.",
                "Without it, reinstall the server.", status=409,
            )  # fmt: skip
        # opened before the journal forgets it
        shown = Secret(kept.reveal() if kept else "")
        _append(install, Kind.PASSPHRASE_SHOWN, by)
    return shown


def may_see_passphrase(install: Install, person: User) -> bool:
    """Whether it is theirs to see: of those who may see the install, its requester and the members of its project."""
    return install.requested_by_id == person.pk or install.project.memberships.filter(user=person).exists()


def resume_from(state: State) -> str:
    """The step with which a retry goes on. A server that was sent back to its disks has to come into rescue again."""
    if not state.of(POINT_OF_NO_RETURN).attempt or state.step not in STEPS:
        return INTO_RESCUE
    if state.failure and state.failure.code in _RESCUE_GONE:
        return INTO_RESCUE
    return STEPS[state.step].retry_from or STEPS[state.step].after_crash


_RESCUE_GONE = ("rescue-lost", "job-lost", "force-reset")
"""Failures after which the rescue system is not there, or not in a state that is known."""


def _append(install: Install, kind: Kind, by: User, **data: Any) -> None:
    if install.archive_id:
        raise Refused("The history of this install was archived: it is over.", "Reinstall the server instead.", 409)
    try:
        journal.append(install, kind, {"by": by.get_username(), **data})
    except IllegalEvent as error:
        raise Refused(
            f"That cannot be done now: {error.why}.", "Reload the page to see where the install stands.", status=409
        ) from error
    except IntegrityError as error:
        raise _busy(install.server) from error


def _busy(server: Server) -> Refused:
    return Refused(f"{server.name} is being installed already.", "Watch that install, or cancel it first.", status=409)


def _checked(request: InstallRequest) -> Install:
    """An install that could be saved, its plan made; `Refused` with the first thing that is wrong."""
    server = request.server
    if Install.objects.filter(server=server, status__in=LIVE).exists():
        raise _busy(server)
    try:
        image, hook = _image(request), check_hook(request.hook)
    except ImageRefused as error:
        raise Refused(error.why, error.fix) from error
    if life(image.end_of_life, timezone.now().date()) is Life.PAST:
        raise Refused(f"{image.name} has reached its end of life, on {image.end_of_life}.", "Choose a newer version.")
    if is_licensed(image) and not (image.licence and image.licence.activation_key):
        raise Refused(
            f"The licence of {image.name} has no activation key.", "An admin can add one on the licences page."
        )
    _check_keys(request.ssh_keys, server)
    try:
        hostname = check_hostname(request.hostname)
        check_user_data(request.user_data)
    except MetadataRefused as error:
        raise Refused(str(error)) from error
    answered = _answered(image, request.inputs)
    install = Install(
        uuid=uuid4(),
        project=server.project,
        server=server,
        image=image,
        hostname=hostname,
        layout=request.layout.to_json(),
        ssh_keys=[[key.name, key.public_key] for key in request.ssh_keys],
        user_data=request.user_data,
        hook=hook,
        inputs=dict(answered.plain),
        secret_inputs=_sealable(answered.secrets),
        disk_passphrase=_passphrase(request),
    )
    try:
        install.approved_plan = storage_plan(request.layout, server.facts(), image, install.uuid).to_json()
    except PlanImpossible as error:
        raise Refused(error.why, error.fix) from error
    return install


def _image(request: InstallRequest) -> Image:
    """What is to be installed: an image that is offered, or the customer's own, which is not stored yet."""
    image, project = request.image, request.server.project
    if request.own:
        return own_image(request.own, project)
    if image is None:
        raise Refused("No image is chosen.", "Choose one, or bring your own.")
    if image.state != ImageState.OFFERED or (image.project_id and image.project_id != project.pk):
        raise Refused(f"{image.name} is not offered.", "Choose another image.")
    return image


def _answered(image: Image, given: Mapping[str, str]) -> Answers:
    """The answers to the image's questions; `Refused` with the first that is none."""
    try:
        questions = parse_inputs(image.capabilities.get("inputs"))
    except InputsRefused as error:
        raise Refused(str(error), "An admin can mend the questions on the image's page.") from error
    answered = answers(questions, given)
    for question in questions:
        if wrong := answered.errors.get(question.name):
            raise Refused(f"{question.label}: {wrong}", "Answer what the image asks.")
    return answered


def _sealable(secrets: Mapping[str, Secret]) -> Secret | None:
    return Secret(json.dumps({name: value.reveal() for name, value in secrets.items()})) if secrets else None


def _passphrase(request: InstallRequest) -> Secret | None:
    """The given one, or one that is made; None where nothing is encrypted."""
    if not request.layout.encrypted:
        return None
    try:
        return passphrase.check(request.passphrase) if request.passphrase else passphrase.make()
    except passphrase.PassphraseRefused as error:
        raise Refused(str(error)) from error


def _check_keys(keys: Iterable[SSHKey], server: Server) -> None:
    keys = list(keys)
    if not keys:
        raise Refused("No SSH key is chosen.", "Choose at least one: without it nobody could log in.")
    if any(key.project_id != server.project_id for key in keys):
        raise Refused("One of the SSH keys belongs to another project.", "Choose keys of this server's project.")


def _commands(install: Install, facts: Facts) -> Iterable[StepCommands]:
    try:
        context = dry_context(install, facts)
        list(context.config_drive)  # made now, while somebody can still mend what cannot be made
    except MetadataRefused as error:
        raise Refused(str(error)) from error
    for name in steps_of(install.image):
        step = STEPS[name]
        if step.commands and not step.when_missed:
            yield StepCommands(name, step.title, _lines(step.commands(context)))


def _lines(commands: Iterable[Command]) -> tuple[str, ...]:
    return tuple(
        line
        for command in commands
        for line in (shown(command), *(f"    {more}" for more in detail(command).splitlines()))
    )
