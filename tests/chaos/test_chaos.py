"""Landfall as a whole, in processes of its own, with the worst done to it. Figures: docs/reliability.md."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chaos

ROOT = Path(__file__).resolve().parent.parent.parent


def report_of(module: str, *arguments: str) -> dict[str, Any]:
    """What the module printed; its errors when it printed nothing."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_workers_killed_in_each_of_the_thirteen_steps_leave_no_trace_but_the_takeovers() -> None:
    report = report_of("tests.chaos.kills")
    assert report["wrong"] == [], json.dumps(report, indent=1)
    assert report["ended"] == {"succeeded": 13}
    assert report["taken over"] >= report["held then"] > 0
    assert report["last taken over after seconds"] < 30


@pytest.mark.parametrize("seed", [20, 21])
def test_whatever_is_done_to_it_every_install_ends_where_its_history_says(seed: int) -> None:
    report = report_of("tests.chaos", "--seed", str(seed), "--servers", "40", "--faithful", "6")
    assert report["wrong"] == [], json.dumps(report, indent=1)
    assert report["faults"]["kill -9 of a worker"] == 4
    assert "running" not in report["ended"]
    assert "waiting" not in report["ended"]
