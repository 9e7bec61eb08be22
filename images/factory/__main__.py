"""`python -m images.factory NAME [--form FORM]`: builds the image, or finds it, and prints its path."""

from __future__ import annotations

import argparse
import sys

from rescue.workshop import BuildFailed

from .recipe import RECIPES
from .variants import Form, ensure


def main() -> int:
    """The path on standard output, progress on standard error; 1 when it cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m images.factory", description=__doc__)
    parser.add_argument("name", choices=sorted(RECIPES), nargs="?", default="debian-12")
    parser.add_argument("--form", choices=[form.value for form in Form], default=Form.QCOW2.value)
    chosen = parser.parse_args()
    try:
        print(ensure(chosen.name, Form(chosen.form), lambda line: print(line, file=sys.stderr)))
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
