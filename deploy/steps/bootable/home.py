"""The unit by which the new system says that it can be logged into."""

from collections.abc import Iterator

from metadata import phonehome

from ...commands import Command, run, write_file
from ...step import TARGET, Context


def phone_home(ctx: Context) -> Iterator[Command]:
    """Its token, its script and its unit, enabled."""
    yield write_file(TARGET + phonehome.TOKEN_PATH, ctx.phone_home_token, mode=0o600)
    yield write_file(TARGET + phonehome.SCRIPT_PATH, phonehome.script(ctx.machine_url), mode=0o700)
    yield write_file(TARGET + phonehome.UNIT_PATH, phonehome.unit())
    yield run("mkdir", "-p", TARGET + phonehome.WANTED_PATH.rsplit("/", 1)[0])
    yield run("ln", "-sf", phonehome.UNIT_PATH, TARGET + phonehome.WANTED_PATH)
