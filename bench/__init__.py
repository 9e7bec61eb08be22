"""Figures about Landfall that anyone can measure again: `python -m bench` after `bin/setup --test`.

Importing this sets Django up for a Landfall of its own, in a folder that is gone at the end: no bench touches the data
of the Landfall that it is run from. Processes that a bench starts share the folder of the one that started them.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import django

_MINE = "BENCH_FOLDER"

if _MINE not in os.environ:
    for name in [name for name in os.environ if name.startswith(("LANDFALL_", "DJANGO_", "DATABASE_"))]:
        if name != "LANDFALL_CHROMIUM":
            del os.environ[name]
    os.environ[_MINE] = tempfile.mkdtemp(prefix="landfall-bench-")
    atexit.register(shutil.rmtree, os.environ[_MINE], ignore_errors=True)
    (Path(os.environ[_MINE]) / "static").mkdir()  # whitenoise warns where there is none
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "LANDFALL_VAR": os.environ[_MINE],
        "LANDFALL_SECRET_KEY": "of the benches alone",
        "LANDFALL_SEAL_KEYS": "dGhlIHRlc3RzIG93biBrZXksIGZvciBub3RoaW5nLiA=",
        "LANDFALL_LOG_LEVEL": "WARNING",
        "LANDFALL_HOSTS": "127.0.0.1",
    }

django.setup()
