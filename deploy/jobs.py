"""Detached jobs on the rescue system: a folder per attempt, with script, log and exit status.

A job outlives the connection that began it, and starting it twice starts it once. So a worker may die at any time:
the next one finds the folder, follows the log from the byte where the stored log ends, and misses nothing.
"""

import shlex
from contextlib import suppress
from dataclasses import dataclass

from .transport import Completed, Connection, Stream, Unreachable

ROOT = "/run/landfall/jobs"
LOST = 255
"""What following a job ends with when it was killed before it could leave an exit status."""

# `mkdir` is the test-and-set: of two workers one makes the folder. The script is in place before the folder has its
# name, so a folder that exists is a job that was really begun, or will never be. What is cut off in the middle ends
# like what is whole, and a shell would run the half of it: the size tells. A job that nobody could end when it
# should have been (the connection was broken, nobody was there) is ended before the next one begins. Where memory runs
# out, the kernel is to take a program of the job: not the shell that tells how it ended, and not sshd.
_START = r"""
set -eu
folder=$1; umask 077
new=$folder.$$; mkdir -p "$new"; cat > "$new/script"; : > "$new/log"
came=$(stat --format=%s "$new/script")
[ "$came" = "$2" ] || { rm -r "$new"; echo "of its script $came of $2 bytes have come" >&2; exit 1; }
if ! mkdir "$folder" 2>/dev/null; then rm -r "$new"; exit 0; fi
mv "$new/script" "$new/log" "$folder/"; rmdir "$new"
for pid in "${folder%/*}"/*/pid; do
  [ ! -e "$pid" ] || [ -e "${pid%pid}status" ] || kill -KILL -- "-$(cat "$pid")" 2>/dev/null || true
done
RESULT=$folder/result setsid bash -c '
  echo $$ > "$1/pid"
  (echo 500 > /proc/self/oom_score_adj; exec bash "$1/script") >> "$1/log" 2>&1
  echo $? > "$1/status.new"; mv "$1/status.new" "$1/status"
' landfall-job "$folder" </dev/null >/dev/null 2>&1 &
while [ ! -s "$folder/pid" ]; do sleep 0.05; done
"""

# tail looks four times a second and sends what is new in one piece: a wake-up per line would cost the controller
# its processor. It ends when the job's process has, and then the status is there, or the job was killed.
_FOLLOW = r"""
folder=$1
tail -c +"$(($2 + 1))" -f ---disable-inotify -s 0.25 --pid="$(cat "$folder/pid")" "$folder/log"
[ -e "$folder/status" ] && exit "$(cat "$folder/status")"
exit 255
"""

_KILL = r"""
folder=$1
[ -e "$folder/pid" ] || exit 0
kill -TERM -- "-$(cat "$folder/pid")" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 -- "-$(cat "$folder/pid")" 2>/dev/null || exit 0; sleep 0.3; done
kill -KILL -- "-$(cat "$folder/pid")" 2>/dev/null || exit 0
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at a step, as a folder on the rescue system."""

    connection: Connection
    folder: str

    def exists(self) -> bool:
        """Whether it was begun on this rescue system."""
        return self._sh('test -e "$1"').status == 0

    def start(self, script: str) -> None:
        """Begins it, unless it was begun before; returns once it runs."""
        text = script.encode()
        started = self._sh(f'mkdir -p "$(dirname "$1")"\n{_START}', str(len(text)), stdin=text)
        if started.status:
            raise Unreachable(f"the job could not be started: {started.errors.decode(errors='replace').strip()}")

    def follow(self, offset: int) -> Stream:
        """Its log from this byte on, as it grows; the stream's status is the job's, `LOST` when it was killed."""
        return self.connection.stream(_command(_FOLLOW, self.folder, str(offset)))

    def result(self) -> bytes:
        """What a command with `result` printed; empty when none did."""
        return self._sh('head -c 1048576 "$1/result" 2>/dev/null || true').output

    def kill(self) -> None:
        """Ends it and everything it started, if the rescue system can be reached; else the next job ends it."""
        with suppress(Unreachable):
            self._sh(_KILL)

    def _sh(self, text: str, *arguments: str, stdin: bytes = b"") -> Completed:
        return self.connection.run(_command(text, self.folder, *arguments), stdin)


def _command(text: str, *arguments: str) -> str:
    return shlex.join(["bash", "-c", text, "landfall", *arguments])
