"""The mirror's nginx configuration, in a real nginx, read by the program with which rescue systems fetch."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ports import free_port

pytestmark = pytest.mark.daemons

ROOT = Path(__file__).resolve().parents[2]


def test_a_mirror_serves_streams_by_their_name_and_in_ranges_and_nothing_else(tmp_path: Path) -> None:
    data, port = os.urandom(3_000_000), free_port()
    sha256 = hashlib.sha256(data).hexdigest()
    tmp_path.chmod(0o755)
    files = tmp_path / "srv"
    files.mkdir()
    (files / sha256).write_bytes(data)
    (files / "notes.txt").write_text("not for everybody")
    text = (ROOT / "packaging/nginx/mirror.conf").read_text()
    text = text.replace("listen 8700", f"listen 127.0.0.1:{port}").replace("/srv/landfall", str(files))
    config = tmp_path / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    config.write_text(
        f"daemon off; {user} pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{ }}\nhttp {{ access_log off; client_body_temp_path {tmp_path}/body; {text} }}\n"
    )
    nginx = subprocess.Popen(
        ["nginx", "-p", tmp_path, "-c", config], env=os.environ | {"PATH": "/usr/sbin:/usr/bin:/bin"}
    )
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(["curl", "-s", "-o", "/dev/null", base], check=False).returncode:
            assert time.monotonic() < deadline, (tmp_path / "error.log").read_text()
            time.sleep(0.1)
        fetched = subprocess.run(
            [sys.executable, "-m", "deploy.fetching", "--url", f"{base}/{sha256}", "--checksum", f"sha256:{sha256}",
             "--size", str(len(data)), "--output", tmp_path / "fetched"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert fetched.returncode == 0, fetched.stderr
        assert (tmp_path / "fetched").read_bytes() == data
        part = subprocess.run(["curl", "-s", "-r", "2000000-", f"{base}/{sha256}"], capture_output=True, check=True)
        assert part.stdout == data[2_000_000:]
        for name in ("", "notes.txt", "../etc/passwd", sha256[:-1]):
            said = subprocess.run(
                ["curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", f"{base}/{name}"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert said.stdout in ("404", "400"), name
    finally:
        nginx.terminate()
        nginx.wait()
