"""Step 9: registration with the vendor, where the image needs it; and what gives the seat back at the next wipe.

Before the system is made bootable, as a package that it lacks may come from the vendor's own repositories.
"""

import re
from collections.abc import Iterator
from datetime import timedelta

from accounts.secret import Secret

from ..commands import Command, in_chroot, run, write_file
from ..step import RUN, TARGET, Context, Control, Done, Outcome, Seat, Step
from .bootable.surroundings import surroundings

_KEY = "/run/landfall-activation-key"
# Registered once: a second attempt finds the consumer identity of the first, and takes no second seat. The key comes
# from a file in RAM and is told to the program inside its own process, as its arguments could be read by all. That is
# possible because subscription-manager is a Python program: its first line says of which Python.
_REGISTER = f"""\
set -eu
if subscription-manager identity >/dev/null 2>&1; then
    echo "registered already"
    exit 0
fi
program=$(command -v subscription-manager)
read -r first <"$program"
${{first#??}} - "$program" "$1" "$2" <<'PYTHON'
import runpy, sys
program, organisation, name = sys.argv[1:]
key = open("{_KEY}").read().strip()
sys.argv = [program, "register", "--org=" + organisation, "--name=" + name, "--activationkey=" + key]
runpy.run_path(program, run_name="__main__")
PYTHON
"""
# Whatever was told of the key to a log is not to be read in the installed system.
_FORGET = f"""\
set -eu
found=$(grep -rlF -f "$1{_KEY}" "$1/var/log" "$1/etc/rhsm" 2>/dev/null) || true
for file in $found; do
    : >"$file"
    echo "emptied $file, which held the activation key"
done
rm -f "$1{_KEY}"
"""
_IDENTITY = """\
set -eu
chroot "$1" subscription-manager identity
setting() { sed -n "s/^ *$2 *= *//p" "$1/etc/rhsm/rhsm.conf" | head -n 1; }
echo "service: https://$(setting "$1" hostname):$(setting "$1" port)$(setting "$1" prefix)"
cat "$1/etc/pki/consumer/cert.pem" "$1/etc/pki/consumer/key.pem"
echo "authority:"
cat "$1"/etc/rhsm/ca/*.pem
"""


def licence(ctx: Context) -> Iterator[Command]:
    """The system registered with organisation and activation key; nothing for who brings the own licence."""
    registration = ctx.registration
    if registration is None:
        return
    yield from surroundings()
    yield write_file(f"{TARGET}{_KEY}", Secret(registration.activation_key.reveal()), mode=0o600)
    yield in_chroot(TARGET, "sh", "-c", _REGISTER, "register", registration.organisation, ctx.hostname)
    yield run("sh", "-c", _FORGET, "forget", TARGET)
    yield run("sh", "-c", _IDENTITY, "identity", TARGET, result=True)


def register(control: Control) -> Outcome:
    """Registered; what identifies the system is kept, to give the seat back one day."""
    said, _, authority = control.run_job(result=True).decode(errors="replace").partition("authority:\n")
    identity = {
        name.strip().lower().replace(" ", "_"): value.strip()
        for name, _, value in (line.partition(":") for line in _BLOCK.sub("", said).splitlines())
        if value.strip()
    }
    service, consumer = identity.pop("service", ""), identity.get("system_identity", "")
    credentials = "".join(_BLOCK.findall(said))
    if re.fullmatch(r"[0-9A-Za-z-]{1,64}", consumer) and credentials:
        control.keep_seat(Seat(consumer, service, Secret(credentials), authority))
    else:
        control.say("The system's identity cannot be read: its seat must be given back by hand one day.")
    return Done(identity)


_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----\n?", re.DOTALL)


LICENCE = Step(
    "licence",
    title="Licence",
    timeout=timedelta(minutes=5),
    retries=2,
    after_crash="licence",
    cancellable=False,
    perform=register,
    commands=licence,
)

# Each line that it prints is an identity and what the service answered: 410, it was given back before.
_GIVE_BACK = """\
folder=$1
shift
while [ $# -gt 0 ]; do
    status=$(curl --silent --show-error --max-time 30 --cert "$folder/$2.pem" --cacert "$folder/$2.authority.pem" \\
        --request DELETE --output /dev/null --write-out '%{http_code}' "$1/consumers/$2")
    echo "seat $2: the licence service answered $status" >&2
    echo "$2 $status"
    shift 2
done
rm -rf "$folder"
"""
_BACK = frozenset({"200", "204", "404", "410"})


def give_back(ctx: Context) -> Iterator[Command]:
    """The seats of the server's earlier systems given back by the vendor's service; no reason not to go on if not."""
    seats = ctx.seats()
    if not seats:
        return
    folder = f"{RUN}/seats"
    words: list[str] = []
    for seat in seats:
        yield write_file(f"{folder}/{seat.identity}.pem", seat.credentials, mode=0o600)
        yield write_file(f"{folder}/{seat.identity}.authority.pem", seat.authority)
        words += [seat.service, seat.identity]
    yield run("sh", "-c", _GIVE_BACK, "give-back", folder, *words, result=True, may_fail=True)


def note_seats(control: Control, answers: bytes) -> dict[str, list[str]]:
    """What became of the seats, by what `give_back` printed; those that are not back are said, and tried once more."""
    answered = dict(line.split() for line in answers.decode(errors="replace").splitlines() if len(line.split()) == 2)
    outcome: dict[str, list[str]] = {"seats_given_back": [], "seats_still_taken": []}
    for seat in control.context.seats():
        if answered.get(seat.identity) in _BACK:
            control.seat_is_back(seat.identity)
            outcome["seats_given_back"].append(seat.identity)
            continue
        outcome["seats_still_taken"].append(seat.identity)
        control.say(
            f"The licence seat of the earlier system {seat.identity} could not be given back. It is tried again at the "
            "next wipe of this server; or remove the system by hand at the vendor's."
        )
    return {name: those for name, those in outcome.items() if those}
