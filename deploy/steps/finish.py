"""Steps 11 to 13: off into the new system, its call, and the proof that it is the one that called."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from servers.power import Target

from .. import errors
from ..commands import Command, run
from ..events import Call, State
from ..step import TARGET, Context, Control, Done, Outcome, Step, StepFailed, WaitUntil, failed
from ..transport import fingerprint
from .aftermath import read_aftermath
from .bootable import BOOTABLE


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

    After a crash: a restart that was begun is not begun again unless the rescue system still answers. A server that
    was restarted since its system was made bootable has nothing mounted in rescue, and may be off, hang in the new
    system, or run it although its BMC said that it could not restart it: it is just restarted.
    """
    attempt = control.state.of(REBOOT.name)
    begun = any(seq > attempt.started_seq for seq in control.state.cycling)
    finished = any(seq > attempt.started_seq for seq in control.state.cycled)
    if begun and (finished or not control.still_in_rescue()):
        return Done()
    again = any(seq > control.state.of(BOOTABLE.name).started_seq for seq in control.state.cycling)
    if not begun and not (again and not control.still_in_rescue()):
        control.run_job(any_rescue=again)
    control.boot_from_disk()
    control.power_cycle(Target.DISK)
    return Done()


REBOOT = Step(
    "reboot",
    title="Reboot",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="reboot",
    cancellable=False,
    perform=reboot,
    commands=unmount,
)

HOME_WITHIN = timedelta(minutes=15)
"""How long the new system may take to call."""
ONCE_MORE_WITHIN = timedelta(minutes=2)
"""Then it is waited for once more. Landfall itself may have been away: whoever called in vain does so every minute."""
RESCUE_WITHIN = timedelta(minutes=10)
"""How long the rescue system that is then booted may take to call."""

FOR_HOME = "the new system to phone home"
FOR_ONE_MORE_CALL = "one more call of the new system, which makes one every minute"
FOR_RESCUE = "the rescue system to call, to read the new system's logs"


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
    if not cycles and control.now < (late := control.after(HOME_WITHIN)):
        return WaitUntil(late, FOR_HOME, "wait for one more call")
    if not cycles and (end := _until(control, ONCE_MORE_WITHIN, FOR_ONE_MORE_CALL)):
        return WaitUntil(end, FOR_ONE_MORE_CALL, "boot into rescue, and read its logs")
    return _read_aftermath(control, cycles)


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
    if not cycles:
        control.boot_into_rescue()
        # Nothing is said here: the log is that of the job which follows.
        control.power_cycle(Target.NETWORK, say=False)
        cycles = [control.state.cycling[-1]]
    rescue = control.state.rescue
    if not rescue or rescue.seq < cycles[0]:
        reason = f"{FOR_RESCUE}. {control.hands}" if control.hands else FOR_RESCUE
        if end := _until(control, RESCUE_WITHIN, reason):
            return WaitUntil(end, reason, "give up")
        if _call_from_home(control.state):
            raise failed("phone-home-late")
        never = "The new system never phoned home; and the rescue system, booted to read its logs, never called."
        raise failed("phone-home-missing", never, final=True)
    try:
        control.run_job(any_rescue=True)
    except StepFailed as error:
        said = f"The new system never phoned home, and its logs could not be read: {error.failure.message}"
        raise failed("phone-home-missing", said, final=True) from error
    if _call_from_home(control.state):
        # It will not call twice: another attempt starts it from its disk.
        raise failed("phone-home-late")
    raise StepFailed(errors.likely_cause(control.log_text()), final=True)


PHONE_HOME = Step(
    "phone-home",
    title="Phone-home",
    timeout=timedelta(minutes=30),
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
    return Done(
        {
            "ssh": f"{control.context.flavour.login}@{control.address.host}",
            "port": control.address.port,
            "host_keys": sorted(fingerprint(key) for key in known),
            "verified": fingerprint(answering),
        }
    )


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
