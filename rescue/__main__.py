"""`python -m rescue`: builds the rescue system, or finds it, and prints its folder."""

from __future__ import annotations

import sys

from .build import ensure
from .workshop import BuildFailed


def main() -> int:
    """The folder on standard output, progress on standard error; 1 when it cannot be built."""
    try:
        print(ensure(lambda line: print(line, file=sys.stderr)))
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
