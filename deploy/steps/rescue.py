"""Steps 1 and 2: into the rescue system, and is it the right machine?"""

import json
from collections.abc import Iterator
from datetime import timedelta

from servers.facts import FactsRefused, parse_facts, to_json, wrong_machine
from servers.power import Target

from ..commands import Command, run
from ..events import Call
from ..step import Context, Control, Done, Outcome, Step, WaitUntil, failed
from ..transport import fingerprint


def rescue(control: Control) -> Outcome:
    """The server, booted from the network into the rescue system, has called.

    When it does not call in half of the time it is switched off and on, and told to boot from the network for good:
    some BMCs forget a boot order that is meant for one start, and some firmware hangs until it has no power. An attempt
    that finds the server in its rescue system already, because an earlier one was not the last, takes it as it is.
    """
    state = control.state
    attempt = state.of(RESCUE.name)
    cycles = [seq for seq in state.cycling if seq > attempt.started_seq]
    if not cycles and state.rescue and control.still_in_rescue():
        control.say("The rescue system that has called before still answers.")
        return _called(state.rescue)
    if cycles and state.rescue and state.rescue.seq > cycles[0]:
        control.say(f"The rescue system has called. Its SSH host key is {fingerprint(state.rescue.host_keys[0])}.")
        return _called(state.rescue)
    began = control.after(timedelta(0))
    halfway = began + (control.deadline - began) / 2
    if not cycles:
        control.boot_into_rescue()
        control.power_cycle(Target.NETWORK)
    elif len(cycles) == 1 and halfway <= control.now < control.deadline and not control.hands:
        control.say("The rescue system has not called: off and on, with the network as the boot device for good.")
        control.power_cycle(Target.NETWORK, persistent=True)
        cycles.append(state.seq)
    if control.hands:
        return WaitUntil(control.deadline, f"somebody at the server. {control.hands}", "give up")
    if len(cycles) < 2:
        return WaitUntil(halfway, "the server to call from rescue", "power cycle again")
    return WaitUntil(control.deadline, "the server to call from rescue", "give up")


def _called(call: Call) -> Done:
    return Done({"boot_id": call.boot_id, "host_keys": list(call.host_keys)})


RESCUE = Step(
    "rescue",
    title="Rescue",
    timeout=timedelta(minutes=15),
    retries=1,
    after_crash="rescue",
    cancellable=True,
    perform=rescue,
    on_timeout="rescue-silent",
)


def look_inside(ctx: Context) -> Iterator[Command]:
    """What the rescue system sees of the machine, as JSON."""
    # The kernel finds disks some time after the system is up: seconds, in an emulated machine.
    yield run("udevadm", "settle", "--timeout=30")
    yield run("landfall-facts", result=True)
    # For whoever reads the log: the same in the words of the usual tools.
    yield run("lsblk", "--output", "NAME,SIZE,TYPE,LOG-SEC,MODEL,SERIAL,FSTYPE,LABEL", may_fail=True)
    yield run("ip", "-brief", "link", may_fail=True)


def inspect(control: Control) -> Outcome:
    """The machine is the right one, and its facts are in the inventory."""
    try:
        facts = parse_facts(json.loads(control.run_job(result=True)))
    except (ValueError, FactsRefused) as error:
        said = f"What the rescue system said of the machine cannot be read: {error}"
        raise failed("facts-unreadable", said, final=True) from error
    if why := wrong_machine(control.expected_serial, control.expected_macs, facts):
        raise failed("wrong-machine", why, final=True)
    control.remember_facts(facts)
    return Done({"facts": to_json(facts)})


INSPECT = Step(
    "inspect",
    title="Inspect",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="inspect",
    cancellable=True,
    perform=inspect,
    commands=look_inside,
)
