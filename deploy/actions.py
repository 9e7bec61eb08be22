"""What people can do to installs: each action checks, appends an event, and leaves the rest to a worker."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import SSHKey, User
from images.models import Image, ImageState
from metadata.documents import check_user_data
from metadata.errors import MetadataRefused
from metadata.hostnames import check_hostname
from servers.facts import Facts
from servers.models import Server
from servers.storage.draw import Drawing, drawing, drawing_of
from servers.storage.layout import Layout
from servers.storage.plan import Plan
from servers.storage.refusal import PlanImpossible

from . import journal
from .commands import Command, detail, shown
from .context import dry_context, is_licensed, storage_plan
from .events import LIVE, IllegalEvent, Kind
from .models import Install
from .steps import POINT_OF_NO_RETURN, STEPS, steps_for


class Refused(Exception):
    """An action that cannot be done: why, what to do instead, and the HTTP status that says it to a program."""

    def __init__(self, message: str, fix: str = "", status: int = 400) -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message = message
        self.fix = fix
        self.status = status


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What a customer asks for."""

    server: Server
    image: Image
    layout: Layout
    hostname: str
    ssh_keys: tuple[SSHKey, ...]
    user_data: bytes = b""


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
            install.save()
            journal.append(
                install,
                Kind.REQUESTED,
                {
                    "by": by.get_username(),
                    "server": request.server.name,
                    "image": {"name": request.image.name, "sha256": request.image.sha256},
                    "hostname": install.hostname,
                    "layout": install.layout,
                    "plan": install.approved_plan,
                    "ssh_keys": [name for name, _ in install.ssh_keys],
                    "user_data_bytes": len(request.user_data),
                },
            )
    except IntegrityError as error:
        raise _busy(request.server) from error
    return install


def cancel(install: Install, by: User) -> None:
    """Asks for a cancel: at once before the wipe, at the end of the running step after it."""
    if install.cancel_requested:
        raise Refused("This install is being cancelled already.", "It stops at its next safe point.", status=409)
    _append(install, Kind.CANCEL_REQUESTED, by)


def retry(install: Install, by: User, from_start: bool = False) -> None:
    """Lets an install that failed or was cancelled go on: with the step that failed, or from the rescue system."""
    state = install.state()
    step = "rescue" if from_start else _resume_from(install)
    if Install.objects.filter(server=install.server, status__in=LIVE).exclude(pk=install.pk).exists():
        raise _busy(install.server)
    if state.steps and step not in state.steps:
        step = state.steps[0]
    _append(install, Kind.RETRIED, by, step=step)


def _resume_from(install: Install) -> str:
    """The step to go on with. A server that was sent back to its own disks has to come into rescue again."""
    state = install.state()
    if not state.of(POINT_OF_NO_RETURN).attempt or state.step not in STEPS:
        return "rescue"
    if state.failure and state.failure.code in ("rescue-lost", "job-lost"):
        return "rescue"
    return STEPS[state.step].after_crash


def _append(install: Install, kind: Kind, by: User, **data: str) -> None:
    try:
        journal.append(install, kind, {"by": by.get_username(), **data})
    except IllegalEvent as error:
        raise Refused(
            f"This install is {Install.objects.get(pk=install.pk).status}: that cannot be done now.",
            "Reload the page to see where it stands.",
            status=409,
        ) from error
    except IntegrityError as error:
        raise _busy(install.server) from error


def _busy(server: Server) -> Refused:
    return Refused(f"{server.name} is being installed already.", "Watch that install, or cancel it first.", status=409)


def _checked(request: InstallRequest) -> Install:
    """An install that could be saved, its plan made; `Refused` with the first thing that is wrong."""
    server, image = request.server, request.image
    if Install.objects.filter(server=server, status__in=LIVE).exists():
        raise _busy(server)
    if image.state != ImageState.OFFERED or (image.project_id and image.project_id != server.project_id):
        raise Refused(f"{image.name} is not offered.", "Choose another image.")
    if image.end_of_life and image.end_of_life < timezone.now().date():
        raise Refused(f"{image.name} has reached its end of life.", "Choose a newer version.")
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
    install = Install(
        uuid=uuid4(),
        project=server.project,
        server=server,
        image=image,
        hostname=hostname,
        layout=request.layout.to_json(),
        ssh_keys=[[key.name, key.public_key] for key in request.ssh_keys],
        user_data=request.user_data,
    )
    try:
        install.approved_plan = storage_plan(request.layout, server.facts(), image, install.uuid).to_json()
    except PlanImpossible as error:
        raise Refused(error.why, error.fix) from error
    return install


def _check_keys(keys: Iterable[SSHKey], server: Server) -> None:
    keys = list(keys)
    if not keys:
        raise Refused("No SSH key is chosen.", "Choose at least one: without it nobody could log in.")
    if any(key.project_id != server.project_id for key in keys):
        raise Refused("One of the SSH keys belongs to another project.", "Choose keys of this server's project.")


def _commands(install: Install, facts: Facts) -> Iterable[StepCommands]:
    try:
        context = dry_context(install, facts)
    except MetadataRefused as error:
        raise Refused(str(error)) from error
    for name in steps_for(licensed=is_licensed(install.image)):
        step = STEPS[name]
        if step.commands:
            yield StepCommands(name, step.title, _lines(step.commands(context)))


def _lines(commands: Iterable[Command]) -> tuple[str, ...]:
    return tuple(
        line
        for command in commands
        for line in (shown(command), *(f"    {more}" for more in detail(command).splitlines()))
    )
