"""Steps 11 to 13: off into the new system, its call, and the proof that it is the one that called."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from servers.power import Target
from servers.storage.plan import Plan

from .. import certificate, errors
from ..certificate import Certificate
from ..commands import Command, run, write_file
from ..events import Call, State
from ..step import RUN, TARGET, Context, Control, Done, Outcome, Step, StepFailed, WaitUntil, failed
from ..transport import fingerprint
from .aftermath import read_aftermath
from .bootable import BOOTABLE
from .bootable.tables import opened_early

GONE_WITHIN = timedelta(minutes=1)
"""A rescue system that cannot be reached for so long after somebody began to restart its server was restarted."""
PROBE = f"{RUN}/probe.py"


def hand_over(ctx: Context) -> Iterator[Command]:
    """What is on the disks, told as it is read from them; then everything written, and nothing mounted any more."""
    yield from read_back(ctx)
    yield from unmount(ctx)


def read_back(ctx: Context) -> Iterator[Command]:
    """What is really on the disks, as JSON; a tree that an earlier attempt has unmounted is mounted for it again."""
    for filesystem in ctx.plan.mounts:
        where = TARGET + filesystem.mount.rstrip("/")
        mount = f"findmnt {where} >/dev/null || mount --types {filesystem.type.value} {filesystem.device} {where}"
        yield run("sh", "-c", mount, may_fail=True)
    yield write_file(PROBE, probe_script())
    yield run("python3", PROBE, stdin=json.dumps(asked(ctx), indent=1), result=True)


def probe_script() -> str:
    """The text of the program that reads the disks."""
    return Path(certificate.__file__).with_name("probe.py").read_text()


def asked(ctx: Context) -> dict[str, Any]:
    """What the probe is asked."""
    checksums = {path: hashlib.sha256(data).hexdigest() for path, data in ctx.config_drive.items()}
    return certificate.wanted(ctx.plan, TARGET, ctx.flavour, opened_early(ctx), checksums)


def unmount(ctx: Context) -> Iterator[Command]:
    """Everything written, and nothing mounted any more."""
    yield run("sync")
    # Lazily: a bind of /sys stays busy, and goes with the rescue system.
    for bound in ("run/udev", "run", "dev", "sys", "proc"):
        yield run("umount", "--recursive", "--lazy", f"{TARGET}/{bound}", may_fail=True)
    yield run("sh", "-c", f"findmnt {TARGET} >/dev/null || exit 0; umount --recursive {TARGET}")
    yield run("sync")


def reboot(control: Control) -> Outcome:
    """The server restarted, with its own disk as the next thing to boot.

    After a crash: a restart that was begun is not begun again unless the rescue system still answers, for which it is
    given some time: a connection that does not come about at once is no restart. A server that was restarted since its
    system was made bootable has nothing mounted in rescue, and may be off, hang in the new system, or run it although
    its BMC said that it could not restart it: it is just restarted.
    """
    attempt = control.state.of(REBOOT.name)
    begun = any(seq > attempt.started_seq for seq in control.state.cycling)
    finished = any(seq > attempt.started_seq for seq in control.state.cycled)
    if begun and (finished or not control.still_in_rescue(GONE_WITHIN)):
        return Done()
    again = any(seq > control.state.of(BOOTABLE.name).started_seq for seq in control.state.cycling)
    if not begun and not (again and not control.still_in_rescue()):
        told = control.run_job(result=True, any_rescue=again)
        if not again:
            _certify(control, told)
    control.boot_from_disk()
    control.power_cycle(Target.DISK)
    return Done()


def _tell(control: Control, found: Certificate) -> None:
    """The outcome in the step's log: what is as planned in one line, what is not one by one."""
    if found.findings:
        control.say(f"{len(found.findings) - len(found.wrong)} of {len(found.findings)} things are as planned.")
    for finding in found.wrong:
        control.say(finding.sentence())


def _certify(control: Control, told: bytes) -> None:
    """What was read back of the disks is in the history; `StepFailed` when it is not what was planned."""
    context = control.context
    try:
        seen = json.loads(told)
    except ValueError as error:
        raise failed("read-back-differs", f"What was read back of the disks is not JSON: {error}.") from error
    found = certificate.before_reboot(asked(context), context.plan, seen)
    control.certify(found)
    _tell(control, found)
    if wrong := found.unacceptable:
        first = "; ".join(f"{finding.what}: {finding.found}" for finding in wrong[:3])
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise failed("read-back-differs", f"What is on the disks is not what was planned. {first}{more}.")


REBOOT = Step(
    "reboot",
    title="Reboot",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="reboot",
    cancellable=False,
    perform=reboot,
    commands=hand_over,
)

HOME_WITHIN = timedelta(minutes=15)
"""How long the new system may take to call."""
ONCE_MORE_WITHIN = timedelta(minutes=2)
"""Then it is waited for once more. Landfall itself may have been away: whoever called in vain does so every minute."""
RESCUE_WITHIN = timedelta(minutes=10)
"""How long the rescue system that is then booted may take to call; as long again when it is booted once more."""

UNLOCKED_WITHIN = timedelta(hours=1)
"""How much longer when the new system does not start before somebody has typed a passphrase at its console."""

FOR_HOME = "the new system to phone home"
FOR_UNLOCKED = "somebody to type the passphrase of the disks at the server's console, and the new system to phone home"
FOR_ONE_MORE_CALL = "one more call of the new system, which makes one every minute"
FOR_RESCUE = "the rescue system to call, to read the new system's logs"
FOR_RESCUE_AGAIN = "the rescue system to call, once the server was restarted again to read the new system's logs"


def phone_home(control: Control) -> Outcome:
    """The installed system has called: cloud-init has finished there, and sshd answers.

    When it has not called in time, the server is booted into rescue once more, and what the system left behind is read
    into this step's log: then the failure can say what is most likely to have gone wrong.
    """
    attempt = control.state.of(PHONE_HOME.name)
    cycles = [seq for seq in control.state.cycling if seq > attempt.started_seq]
    call = _call_from_home(control.state)
    if call and not cycles:
        cloud_init = call.data.get("cloud_init", "absent")
        control.say(f"The new system has phoned home: kernel {call.data.get('kernel', '?')}, cloud-init {cloud_init}.")
        return Done({"boot_id": call.boot_id, "host_keys": list(call.host_keys), "cloud_init": cloud_init})
    unlocked = unlock_time(control.context.plan)
    if not cycles and control.now < (late := control.after(HOME_WITHIN + unlocked)):
        return WaitUntil(late, FOR_UNLOCKED if unlocked else FOR_HOME, "wait for one more call")
    if not cycles and (end := _until(control, ONCE_MORE_WITHIN, FOR_ONE_MORE_CALL)):
        return WaitUntil(end, FOR_ONE_MORE_CALL, "boot into rescue, and read its logs")
    return _read_aftermath(control, cycles)


def unlock_time(plan: Plan) -> timedelta:
    """How much longer the new system may take where somebody has to unlock its disks first."""
    return UNLOCKED_WITHIN if any(not one.lost_is_fine for one in plan.containers) else timedelta(0)


def _until(control: Control, span: timedelta, reason: str) -> datetime | None:
    """Until when to wait for this, counted from when somebody began to; None when that is over."""
    attempt = control.state.of(PHONE_HOME.name)
    began = attempt.waiting_since if attempt.waiting_for == reason else control.now
    end = control.after(span, began)
    return end if control.now < end else None


def _call_from_home(state: State) -> Call | None:
    """The call of the system that was made bootable last, from whichever of its starts."""
    call = state.phone_home
    return call if call and call.seq > state.of(BOOTABLE.name).started_seq else None


def _read_aftermath(control: Control, cycles: list[int]) -> Outcome:
    rescue = control.state.rescue
    if not (cycles and rescue and rescue.seq > cycles[0]):
        return _wait_for_rescue(control, len(cycles))
    try:
        control.run_job(any_rescue=True)
    except StepFailed as error:
        said = f"The new system never phoned home, and its logs could not be read: {error.failure.message}"
        raise failed("phone-home-missing", said, final=True) from error
    if _call_from_home(control.state):
        # It will not call twice: another attempt starts it from its disk.
        raise failed("phone-home-late")
    raise StepFailed(errors.likely_cause(control.log_text()), final=True)


def _wait_for_rescue(control: Control, restarts: int) -> WaitUntil:
    """Waits for a rescue system in which to read the logs. One that does not call is booted once more.

    A worker may have died between the word of a restart and the restart; and some BMCs forget a boot order.
    """
    if not restarts:
        control.boot_into_rescue()
        # Nothing is said here: the log is that of the job which follows.
        control.power_cycle(Target.NETWORK, say=False)
    if control.hands:
        reason, then = f"{FOR_RESCUE}. {control.hands}", "give up"
    elif restarts < 2 and (until := _until(control, RESCUE_WITHIN, FOR_RESCUE)):
        return WaitUntil(until, FOR_RESCUE, "restart the server once more")
    else:
        reason, then = FOR_RESCUE_AGAIN, "give up"
        if restarts < 2:
            control.power_cycle(Target.NETWORK, persistent=True, say=False)
    if until := _until(control, RESCUE_WITHIN, reason):
        return WaitUntil(until, reason, then)
    if _call_from_home(control.state):
        raise failed("phone-home-late")
    never = "The new system never phoned home; and the rescue system, booted to read its logs, never called."
    raise failed("phone-home-missing", never, final=True)


PHONE_HOME = Step(
    "phone-home",
    title="Phone-home",
    timeout=timedelta(minutes=30),
    longer=unlock_time,
    after_wait=timedelta(minutes=15),
    retries=1,
    after_crash="phone-home",
    cancellable=True,
    perform=phone_home,
    commands=read_aftermath,
    when_missed=True,
    retry_from="reboot",
    on_timeout="phone-home-missing",
)


def verify(control: Control) -> Outcome:
    """The SSH server at the server's address is the one whose host keys were phoned home."""
    home = control.state.phone_home
    assert home  # the step before waited for it
    answering = control.host_key()
    if answering is None:
        return WaitUntil(control.now + timedelta(seconds=5), "SSH to answer at the server's address", "try again")
    known = {" ".join(key.split()[:2]) for key in home.host_keys}
    if answering not in known:
        raise failed(
            "host-key-mismatch",
            f"At {control.address.host} port {control.address.port} another machine answers: "
            f"its host key {fingerprint(answering)} is none of those that were phoned home.",
        )
    control.say(f"The host key {fingerprint(answering)} is the one that was phoned home.")
    whole = _whole_certificate(control, home)
    return Done(
        {
            "certificate": whole.to_json(),
            "ssh": f"{control.context.flavour.login}@{control.address.host}",
            "port": control.address.port,
            "host_keys": sorted(fingerprint(key) for key in known),
            "verified": fingerprint(answering),
        }
    )


def _whole_certificate(control: Control, home: Call) -> Certificate:
    """What was read back before the reboot, and what the new system has said of itself since.

    A customer's first-boot script may have changed what is mounted, and that fails nothing; but another root file
    system is another system.
    """
    plan = control.context.plan
    running = certificate.running_system(plan, home.data)
    _tell(control, Certificate(running))
    if certificate.is_another_system(plan, running):
        said = next(finding.found for finding in running if finding.what == plan.root.mount)
        raise failed("another-system", f"The system that has called runs from {said}, not from {plan.root.uuid}.")
    before = Certificate.from_json(control.state.certificate)
    return Certificate((*before.findings, *running))


VERIFY = Step(
    "verify",
    title="Verify",
    timeout=timedelta(minutes=3),
    retries=1,
    after_crash="verify",
    cancellable=True,
    perform=verify,
    on_timeout="ssh-silent",
)
