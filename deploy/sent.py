"""Programs of ours that are sent along to run on a rescue system: each with all of our modules that it imports."""

from collections.abc import Mapping
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def sources(*modules: str) -> Mapping[str, bytes]:
    """The files that `python3 -m MODULE` needs of ours, by their paths below one folder.

    Python itself says what is imported, wherever in a module; the rescue system has its standard library, and no more.
    """
    finder = ModuleFinder(path=[str(ROOT)])
    for module in modules:
        finder.import_hook(module)
    files = sorted(Path(file) for found in finder.modules.values() if (file := vars(found)["__file__"]))
    # a folder is a package without an empty __init__.py, too
    return {str(file.relative_to(ROOT)): text for file in files if (text := file.read_bytes())}
