"""Runs every quick bench, each in a process and a Landfall of its own, and writes the tables into the docs."""

import os
import subprocess
import sys

from bench import report

QUICK = ("config_drives", "log_latency", "pages", "doctor")


def main() -> int:
    """0 when all of them could be measured."""
    env = {key: value for key, value in os.environ.items() if key != "BENCH_FOLDER"}
    failed = False
    for name in QUICK:
        print(f"measuring {name}", file=sys.stderr)
        command = [sys.executable, "-m", f"bench.{name}"]
        done = subprocess.run(command, cwd=report.ROOT, env=env, text=True, stdout=subprocess.PIPE, check=False)
        print(done.stdout)
        if done.returncode == 0:
            report.put(name, f"{done.stdout}\n{report.machine()}")
        failed = failed or done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
