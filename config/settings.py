"""Settings, all from the environment; the defaults are those of one machine on SQLite.

`bin/demo` needs none of them set. What each one means is in docs/settings.md.
"""

import os
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import dj_database_url
from csp.constants import NONE, SELF

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("LANDFALL_VAR", BASE_DIR / "var"))

DEBUG = os.environ.get("LANDFALL_DEBUG") == "1"


def _secret(variable: str, filename: str) -> str:
    """The secret in the environment, else the one that `bin/setup` wrote into var/; empty when there is neither."""
    if value := os.environ.get(variable):
        return value
    file = VAR_DIR / filename
    return file.read_text().strip() if file.exists() else ""


# Without them Django and the sealing refuse to start, each with a sentence: no default key can end up in production.
SECRET_KEY = _secret("LANDFALL_SECRET_KEY", "secret.key")
LANDFALL_SEAL_KEYS = [key for key in _secret("LANDFALL_SEAL_KEYS", "seal.keys").replace(",", "\n").split() if key]
# Signs the files that histories are moved into; needed only for that.
LANDFALL_ARCHIVE_KEY = _secret("LANDFALL_ARCHIVE_KEY", "archive.key")
LANDFALL_ARCHIVES_DIR = Path(os.environ.get("LANDFALL_ARCHIVES_DIR", VAR_DIR / "archives"))

ALLOWED_HOSTS = os.environ.get("LANDFALL_HOSTS", "localhost,127.0.0.1,[::1],10.0.2.2").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("LANDFALL_ORIGINS", "").split(",") if origin]

# People and machines may reach Landfall by different addresses: a virtual machine sees its host as 10.0.2.2.
LANDFALL_URL = os.environ.get("LANDFALL_URL", "http://127.0.0.1:8600").rstrip("/")
LANDFALL_MACHINE_URL = os.environ.get("LANDFALL_MACHINE_URL", "http://10.0.2.2:8600").rstrip("/")
LANDFALL_RESCUE_DIR = Path(os.environ["LANDFALL_RESCUE_DIR"]) if os.environ.get("LANDFALL_RESCUE_DIR") else None
# Kernel arguments for the rescue system beyond its own, for instance console=ttyS1,115200.
LANDFALL_RESCUE_ARGS = os.environ.get("LANDFALL_RESCUE_ARGS", "")
LANDFALL_IMAGES_DIR = Path(os.environ.get("LANDFALL_IMAGES_DIR", VAR_DIR / "images"))
# Who calls is told by the proxy in front, in X-Forwarded-For; without a proxy anybody could claim anything there.
LANDFALL_BEHIND_PROXY = os.environ.get("LANDFALL_BEHIND_PROXY") == "1"
LANDFALL_MACHINE_RATE = int(os.environ.get("LANDFALL_MACHINE_RATE", "240"))
# Seconds between two looks at the database when no hint comes; hints make it faster than that.
LANDFALL_POLL = float(os.environ.get("LANDFALL_POLL", "1"))
LANDFALL_SLOTS = int(os.environ.get("LANDFALL_SLOTS", "20"))
# How many installs may run at once: over all, of one project, from one image; 0 is no limit.
LANDFALL_LIMIT = int(os.environ.get("LANDFALL_LIMIT", "0"))
LANDFALL_LIMIT_PROJECT = int(os.environ.get("LANDFALL_LIMIT_PROJECT", "0"))
LANDFALL_LIMIT_IMAGE = int(os.environ.get("LANDFALL_LIMIT_IMAGE", "0"))
# Where published images lie beside Landfall itself: base addresses. How many installs may read from one at once (0 is
# no limit), and how many bytes a second one reader takes, as curl writes them: 50M.
LANDFALL_MIRRORS = [
    base.strip().rstrip("/") for base in os.environ.get("LANDFALL_MIRRORS", "").split(",") if base.strip()
]
LANDFALL_MIRROR_READERS = int(os.environ.get("LANDFALL_MIRROR_READERS", "0"))
LANDFALL_MIRROR_RATE = os.environ.get("LANDFALL_MIRROR_RATE", "")
# Timeouts are made for real hardware; an emulated machine needs a multiple of them.
LANDFALL_PATIENCE = float(os.environ.get("LANDFALL_PATIENCE", "1"))


def _networks(variable: str, default: str = "") -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text.strip()) for text in os.environ.get(variable, default).split(",") if text.strip())


LANDFALL_VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
# Webhooks go to public addresses, over TLS; who serves an inner network may allow it more.
LANDFALL_WEBHOOK_HTTP = os.environ.get("LANDFALL_WEBHOOK_HTTP") == "1"
LANDFALL_WEBHOOK_NETWORKS = _networks("LANDFALL_WEBHOOK_NETWORKS")
# Customers' own images come from public addresses; a lab may allow more.
LANDFALL_IMAGE_NETWORKS = _networks("LANDFALL_IMAGE_NETWORKS")
# Who may read /metrics: these addresses, when they ask directly, and whoever has the token.
LANDFALL_METRICS_FROM = _networks("LANDFALL_METRICS_FROM", "127.0.0.0/8,::1/128")
LANDFALL_METRICS_TOKEN = os.environ.get("LANDFALL_METRICS_TOKEN", "")

INSTALLED_APPS = [
    "daphne",
    "accounts.apps.PeopleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "csp",
    "django_htmx",
    "bootstrap",
    "accounts",
    "servers",
    "images",
    "metadata",
    "deploy",
]

MIDDLEWARE = [
    "deploy.middleware.Probes",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "deploy.middleware.Requests",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.buttons.ButtonsOnly",
    "config.away.DatabaseAway",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{VAR_DIR / 'landfall.sqlite3'}", conn_max_age=0)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE takes the write lock at BEGIN: a DEFERRED transaction that reads first and then writes cannot wait
    # for the lock, and fails with 'database is locked' (2,755 times under 20 writers; IMMEDIATE: none).
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
else:
    # Under ASGI every request may run in another thread: persistent connections leak, a pool does not. A connection
    # is tried before it is given out (27 us): after a restart of the database all the old ones are dead.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] = {
        # A network that swallows packets must be found out: these are seconds, and the last one milliseconds.
        "connect_timeout": 3,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        # A worker that is frozen in the middle of a transaction must not keep others from its installs.
        "options": "-c idle_in_transaction_session_timeout=20s",
        **DATABASES["default"].get("OPTIONS", {}),
        "pool": {
            "min_size": 1,
            "max_size": int(os.environ.get("LANDFALL_DB_POOL", "20")),
            # How long a request waits for a connection before it answers 503.
            "timeout": 5,
            # The pool's pauses double up to this many seconds; then whoever needs a connection makes it try anew.
            "reconnect_timeout": 3,
        },
    }
    CHANNEL_LAYERS = {"default": {"BACKEND": "deploy.pglayer.PostgresChannelLayer"}}

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
if LANDFALL_URL.startswith("https://"):
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "deploy.bound.Line", "fmt": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "json": {"()": "deploy.bound.Json"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "json" if os.environ.get("LANDFALL_LOG_FORMAT") == "json" else "line",
        }
    },
    "root": {"handlers": ["console"], "level": os.environ.get("LANDFALL_LOG_LEVEL", "INFO")},
    "loggers": {
        # paramiko tells of every lost connection with a traceback; the engine says it in one sentence.
        "paramiko": {"level": "CRITICAL"},
        # sushy prints request bodies at DEBUG: passwords among them.
        "sushy": {"level": "WARNING"},
        # Django prints the values of every statement at DEBUG: hashes of tokens and of sessions among them.
        "django.db.backends": {"level": "INFO"},
        "django.channels.server": {"level": "WARNING"},
    },
}
