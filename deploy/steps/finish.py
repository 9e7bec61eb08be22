"""Steps 11 to 13: off into the new system, its call, and the proof that it is the one that called."""

from collections.abc import Iterator
from datetime import timedelta

from servers.power import Target

from ..commands import Command, run
from ..step import TARGET, Context, Control, Done, Outcome, Step, WaitUntil, failed
from ..transport import fingerprint


def unmount(ctx: Context) -> Iterator[Command]:
    """Everything written, and nothing mounted any more."""
    yield run("sync")
    # Lazily: a bind of /sys stays busy, and goes with the rescue system.
    for bound in ("run/udev", "run", "dev", "sys", "proc"):
        yield run("umount", "--recursive", "--lazy", f"{TARGET}/{bound}", may_fail=True)
    yield run("umount", "--recursive", TARGET)
    yield run("sync")


def reboot(control: Control) -> Outcome:
    """The server restarted, with its own disk as the next thing to boot.

    After a crash: a restart that was begun is not begun again unless the rescue system still answers.
    """
    attempt = control.state.of(REBOOT.name)
    begun = any(seq > attempt.started_seq for seq in control.state.cycling)
    finished = any(seq > attempt.started_seq for seq in control.state.cycled)
    if begun and (finished or not control.still_in_rescue()):
        return Done()
    if not begun:
        control.run_job()
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


def phone_home(control: Control) -> Outcome:
    """The installed system has called: cloud-init has finished there, and sshd answers."""
    call = control.state.phone_home
    reboots = control.state.of(REBOOT.name).started_seq
    if not call or call.seq < reboots:
        return WaitUntil(control.deadline, "the new system to phone home", "give up")
    state = call.data.get("cloud_init", "absent")
    control.say(f"The new system has phoned home: kernel {call.data.get('kernel', '?')}, cloud-init {state}.")
    return Done({"boot_id": call.boot_id, "host_keys": list(call.host_keys), "cloud_init": state})


PHONE_HOME = Step(
    "phone-home",
    title="Phone-home",
    timeout=timedelta(minutes=15),
    retries=0,
    after_crash="phone-home",
    cancellable=False,
    perform=phone_home,
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
    cancellable=False,
    perform=verify,
    on_timeout="ssh-silent",
)
