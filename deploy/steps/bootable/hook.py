"""A customer's own script, run in the new system's tree: given with the request, or found in the image."""

import shlex
from collections.abc import Iterator

from accounts.secret import Secret

from ...commands import Command, in_chroot, run, write_file
from ...step import TARGET, Context

FOLDER = "/run/landfall-hook"
"""In a file system in RAM: nothing of it stays in the new system."""

IN_IMAGE = ("/etc/landfall/hook", "/root/.landfall/make_image_bootable.sh")

_RUN = """\
set -eu
folder=$1; shift
for hook in "$folder/hook" "$@"; do
    [ -f "$hook" ] || continue
    [ -x "$hook" ] || { echo "the hook $hook cannot be run: it is not executable" >&2; exit 126; }
    echo "running the hook $hook"
    set -a; . "$folder/environment"; set +a
    exec "$hook"
done
"""


def hook(ctx: Context) -> Iterator[Command]:
    """The request's script, or else the image's; its whole output goes into the step's log.

    The answers to the image's questions are its environment, LANDFALL_INPUT_<NAME>; they come in a file, because some
    of them are passwords.
    """
    said = {"LANDFALL_INSTALL": str(ctx.install), "LANDFALL_HOSTNAME": ctx.hostname}
    said |= {
        name: value.reveal() if isinstance(value, Secret) else value for name, value in ctx.hook.environment.items()
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in said.items())
    yield run("mkdir", "-p", "-m", "0700", TARGET + FOLDER)
    yield write_file(f"{TARGET}{FOLDER}/environment", Secret(lines), mode=0o600)
    if ctx.hook.script:
        yield write_file(f"{TARGET}{FOLDER}/hook", ctx.hook.script, mode=0o700)
    yield in_chroot(TARGET, "sh", "-c", _RUN, "hook", FOLDER, *IN_IMAGE)
    yield run("rm", "-rf", TARGET + FOLDER)
