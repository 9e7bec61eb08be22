"""Step 10: registration with the vendor, where the image needs it."""

from collections.abc import Iterator
from datetime import timedelta

from accounts.secret import Secret

from ..commands import Command, in_chroot, run, write_file
from ..step import TARGET, Context, Control, Done, Outcome, Step

_KEY = "/run/landfall-activation-key"
# Registered once: a second attempt finds the consumer identity of the first and takes no second seat. The key comes
# from a file in RAM: the arguments of a program can be read by all.
_REGISTER = f"""\
set -eu
if subscription-manager identity >/dev/null 2>&1; then
    echo "registered already"
else
    subscription-manager register --org="$1" --name="$2" --activationkey="$(cat {_KEY})"
fi
"""


def licence(ctx: Context) -> Iterator[Command]:
    """The system registered with organisation and activation key; nothing for who brings the own licence."""
    registration = ctx.registration
    if registration is None:
        return
    # The vendor's service has a name: the chroot needs a resolver, and /run is where a resolv.conf may point to.
    yield run("sh", "-c", f"cp --dereference --remove-destination /etc/resolv.conf {TARGET}/etc/resolv.conf")
    yield write_file(f"{TARGET}{_KEY}", Secret(registration.activation_key.reveal()), mode=0o600)
    yield in_chroot(TARGET, "sh", "-c", _REGISTER, "register", registration.organisation, ctx.hostname)
    yield run("rm", f"{TARGET}{_KEY}")
    yield run("chroot", TARGET, "subscription-manager", "identity", result=True)


def register(control: Control) -> Outcome:
    """Registered; the consumer identity is kept, to give the seat back one day."""
    identity = control.run_job(result=True).decode(errors="replace")
    lines = (line.partition(":") for line in identity.splitlines())
    return Done({name.strip().lower().replace(" ", "_"): value.strip() for name, _, value in lines if value.strip()})


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
