"""`python -m bench.chaos`: runs of seeded faults, and what was survived; writes docs/reliability.md in ten minutes.

Runs that were made one by one are counted with `--reports FILE...`: each is what `python -m tests.chaos` printed, the
last of them what `python -m tests.chaos.kills` did.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from . import report

PAGE = report.ROOT / "docs" / "reliability.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4])
    parser.add_argument("--servers", type=int, default=60)
    parser.add_argument("--reports", type=Path, nargs="*", help="of runs that were made: nothing is run")
    options = parser.parse_args()
    *runs, kills = [json.loads(file.read_text()) for file in options.reports or ()] or _run(options)
    report.put("chaos", _text(runs, kills), PAGE)
    wrong = [sentence for run in (*runs, kills) for sentence in run["wrong"]]
    sys.exit("\n".join(wrong) or None)


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    servers = ["--servers", str(options.servers)]
    runs = [_report("tests.chaos", "--seed", str(seed), *servers) for seed in options.seeds]
    # One more with the database away for as long as the promise says.
    runs.append(_report("tests.chaos", "--seed", "60", *servers, "--database-away", "60", "--limit", "400"))
    return [*runs, _report("tests.chaos.kills")]


def _report(module: str, *arguments: str) -> dict[str, Any]:
    """What one run printed; its progress goes to the terminal."""
    print(f"python -m {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{found['ended']} {found['wrong'] or 'nothing wrong'}", file=sys.stderr, flush=True)
    return found


def _text(runs: list[dict[str, Any]], kills: dict[str, Any]) -> str:
    faults: Counter[str] = sum((Counter(run["faults"]) for run in runs), Counter())
    ended: Counter[str] = sum((Counter(run["ended"]) for run in runs), Counter())
    total = {name: sum(run[name] for run in runs) for name in ("installs", "events", "log chunks", "taken over")}
    survived = ", ".join(f"{number} {status}" for status, number in kills["ended"].items())
    wrong = sum(len(run["wrong"]) for run in runs)
    rows = [(name, times) for name, times in sorted(faults.items()) if times]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    away = ", ".join(f"{run['database away']:g}" for run in runs)
    how = ", ".join(f"{number} {status}" for status, number in ended.most_common())
    return f"""\
{report.table(("fault", "injected"), rows)}

{len(runs)} runs (seeds {seeds}), {total["installs"]} installs: {how}. {total["events"]:,} events,
{total["log chunks"]:,} pieces of log, {total["taken over"]} takeovers. The database was away for {away} s. Found wrong
afterwards, by the doctor or against what the machines did: {wrong}.

Every worker killed while thirteen installs were each in another of the thirteen steps: {survived}, no step begun
twice, the last taken over after {kills["last taken over after seconds"]} s; found wrong: {len(kills["wrong"])}.

{report.machine()}"""


if __name__ == "__main__":
    main()
