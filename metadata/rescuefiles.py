"""The files of the rescue system that machines download at boot."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings


class NoRescueSystem(Exception):
    """There is none to boot; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the build of the rescue system says of itself."""

    folder: Path
    files: frozenset[str]
    kernel_args: str

    def path(self, name: str) -> Path | None:
        """Where the file lies; None for every name that the manifest does not list."""
        return self.folder / name if name in self.files else None


def manifest() -> Manifest:
    """The manifest of the rescue system that settings.LANDFALL_RESCUE_DIR names; raises NoRescueSystem."""
    folder = settings.LANDFALL_RESCUE_DIR
    if folder is None:
        raise NoRescueSystem("No rescue system is set up. Run `python -m rescue` and set LANDFALL_RESCUE_DIR.")
    try:
        data = json.loads((folder / "manifest.json").read_text())
        files: Mapping[str, object] = data["files"]
        # a name with a slash would lead out of the folder
        names = frozenset(name for name in files if Path(name).name == name)
        return Manifest(folder, names, str(data["kernel_args"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoRescueSystem(f"The rescue system has no usable manifest.json. Build it again. ({error})") from error
