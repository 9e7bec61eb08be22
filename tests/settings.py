"""Landfall's own settings, with a folder, keys and a database that live as long as the tests.

`LANDFALL_TEST_DATABASE=postgres` runs the tests on PostgreSQL; else they run on SQLite, in a file: threads and
processes then meet in it as they do in earnest.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix="landfall-tests-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)

ON_POSTGRES = os.environ.get("LANDFALL_TEST_DATABASE", "sqlite").startswith("postgres")

# What somebody has set for the own Landfall is not for the tests: they would write into its folders.
for name in [name for name in os.environ if name.startswith("LANDFALL_") and name != "LANDFALL_TEST_DATABASE"]:
    if name not in ("LANDFALL_CHROMIUM", "LANDFALL_LOG_LEVEL"):
        del os.environ[name]
os.environ["LANDFALL_VAR"] = str(FOLDER)
os.environ["LANDFALL_SECRET_KEY"] = "of the tests alone"
os.environ["LANDFALL_SEAL_KEYS"] = "dGhlIHRlc3RzIG93biBrZXksIGZvciBub3RoaW5nLiA="
# The tests talk to this machine alone, whatever proxy it has for others.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"
# The server's address is known only once the tests have started it: see tests/postgres.py.
os.environ["DATABASE_URL"] = (
    "postgres://landfall@/landfall" if ON_POSTGRES else f"sqlite:///{FOLDER / 'unused.sqlite3'}"
)

from config.settings import *  # noqa: E402, F403
from config.settings import DATABASES  # noqa: E402

if not ON_POSTGRES:
    DATABASES["default"]["TEST"] = {"NAME": str(FOLDER / "tests.sqlite3")}

STATIC_ROOT = FOLDER / "static"
STATIC_ROOT.mkdir()  # whitenoise warns where there is none
WHITENOISE_AUTOREFRESH = True  # it would look at every static file for every client that a test makes

# Strong hashes are slow on purpose; the tests log in often.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ALLOWED_HOSTS = ["*"]
