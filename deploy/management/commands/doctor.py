import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from deploy import doctor
from deploy.doctor import Finding, Report


class Command(BaseCommand):
    help = (
        "Proves every history and every log, and looks for leases, tokens, wake-ups and servers that are not as they "
        "should be. Exit status 0 when nothing is found."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--mend", action="store_true", help="put right what can be; history is never changed")
        parser.add_argument("--no-power", action="store_true", help="ask no BMC")
        parser.add_argument("--archives", action="store_true", help="read and prove every archive")
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = doctor.look(with_power=not options["no_power"], with_archives=options["archives"])
        mended = {finding for finding in report.findings if options["mend"] and doctor.mend(finding)}
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(report, mended), indent=2))
        else:
            self._print(report, mended)
        if len(mended) < len(report.findings):
            sys.exit(1)

    def _print(self, report: Report, mended: set[Finding]) -> None:
        for finding in report.findings:
            about = " of ".join(str(one) for one in (finding.install, finding.server) if one)
            self.stdout.write(f"{finding.severity.value}: {finding.code.value}{f', {about}' if about else ''}")
            self.stdout.write(f"  {finding.what}")
            self.stdout.write("  Mended." if finding in mended else f"  {finding.fix}")
        looked_at = ", ".join(f"{count:,} {what}" for what, count in report.counts.items()) or "an empty database"
        found = len(report.findings)
        result = f"{found} found, {len(mended)} of them mended" if found else "nothing found"
        self.stdout.write(f"Looked at {looked_at}: {result}.")


def _as_json(report: Report, mended: set[Finding]) -> dict[str, Any]:
    return {
        "findings": [finding.to_json() | {"mended": finding in mended} for finding in report.findings],
        "looked_at": dict(report.counts),
    }
