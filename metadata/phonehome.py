"""What step 9 leaves in the installed system: a unit that says once that it can be logged into, then removes itself.

It owes nothing to cloud-init. It is ordered behind none of its units, it asks for its state instead of waiting inside
it, and goes on when cloud-init vanishes under its hands, as a customer's first-boot script may have it.
"""

from pathlib import Path
from shlex import quote

NAME = "landfall-phone-home"
UNIT_PATH = f"/etc/systemd/system/{NAME}.service"
WANTED_PATH = f"/etc/systemd/system/multi-user.target.wants/{NAME}.service"
"""A link to UNIT_PATH: it is what `systemctl enable` would make."""
SCRIPT_PATH = f"/usr/local/sbin/{NAME}"
TOKEN_PATH = f"/etc/{NAME}.token"
"""Mode 0600: the token alone."""

_SCRIPT = Path(__file__).with_name("phonehome.sh")


def unit() -> str:
    """The text of UNIT_PATH.

    Type=simple: multi-user.target is reached at once, and with it whatever cloud-init's last stage waits for.
    """
    return f"""\
[Unit]
Description=Tell Landfall that this server can be logged into
After=network.target

[Service]
Type=simple
ExecStart=/bin/sh {SCRIPT_PATH}
# killed, it starts again; when Landfall refuses, it stays stopped until the next boot
Restart=on-abnormal
RestartSec=30
StandardOutput=journal+console
# by this name, and not that of its shell, the journal is searched when the call does not come
SyslogIdentifier={NAME}

[Install]
WantedBy=multi-user.target
"""


def script(url: str, token_path: str = TOKEN_PATH) -> str:
    """The text of SCRIPT_PATH: POSIX sh, for a machine that reaches Landfall at `url`."""
    values = {"@URL@": quote(f"{url}/machine/phone-home"), "@TOKEN@": quote(token_path), "@NAME@": NAME}
    text = _SCRIPT.read_text()
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
