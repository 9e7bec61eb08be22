"""What a step asks of the rescue system: commands as values, and the one script that they make.

Pure. The review page, the dry run, the golden tests and the real run read the same commands; `shown` is what people see
of one, `script` what the rescue system gets of all of them.
"""

import base64
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from accounts.secret import Secret

Word = str | Secret


@dataclass(frozen=True, slots=True)
class Run:
    """One program with its arguments. Ends the step when it fails, unless `may_fail`."""

    argv: tuple[Word, ...]
    stdin: str | bytes | Secret | None = None
    result: bool = False
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with this content and mode, in place of whatever was there."""

    path: str
    content: str | bytes | Secret
    mode: int = 0o644


Command = Run | WriteFile


def run(*argv: Word, stdin: str | bytes | Secret | None = None, result: bool = False, may_fail: bool = False) -> Run:
    """A program to run; with `result` its standard output is handed to the step when the job has ended."""
    return Run(argv, stdin, result, may_fail)


def write_file(path: str, content: str | bytes | Secret, mode: int = 0o644) -> WriteFile:
    """A file to write."""
    return WriteFile(path, content, mode)


def in_chroot(root: str, *argv: Word, stdin: str | None = None, may_fail: bool = False) -> Run:
    """A program to run inside the installed system's tree."""
    return Run(("chroot", root, *argv), stdin=stdin, may_fail=may_fail)


def shown(command: Command) -> str:
    """The command as people read it, in one line: quoted for a shell, secrets masked, scripts left to `detail`."""
    if isinstance(command, WriteFile):
        return f"write {shlex.quote(command.path)} ({_amount(command.content)}, mode {command.mode:o})"
    return shlex.join("…" if _is_script(word) else str(word) for word in command.argv)


def detail(command: Command) -> str:
    """What goes with the command beyond its line: scripts, and the text that it reads or writes; often nothing."""
    if isinstance(command, WriteFile):
        texts: list[object] = [command.content]
    else:
        texts = [*(word for word in command.argv if _is_script(word)), command.stdin]
    return "".join(text for text in texts if isinstance(text, str))


def _is_script(word: Word) -> bool:
    return isinstance(word, str) and "\n" in word


def _amount(content: str | bytes | Secret) -> str:
    if isinstance(content, Secret):
        return "a secret"
    size = len(content if isinstance(content, bytes) else content.encode())
    return f"{size:,} bytes"


# Every command is framed by two lines that begin with the record separator: its number, when it began and its text;
# then its number, exit status and seconds. `deploy.logs` reads them back.
_PRELUDE = r"""#!/bin/bash
set -u -o pipefail
export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
umask 022
begin() { printf '\036> %s %s %s\n' "$1" "$EPOCHREALTIME" "$2"; began=${EPOCHREALTIME/./}; }
end() {
  local status=$2 took=$(( ${EPOCHREALTIME/./} - began ))
  printf '\n\036< %s %s %d.%03d\n' "$1" "$status" $((took / 1000000)) $((took / 1000 % 1000))
  [ "$status" = 0 ] || [ "$3" = may-fail ] || exit "$status"
}
"""


def script(commands: Iterable[Command]) -> str:
    """The commands as one bash script; it holds secrets in clear, so only root on the rescue system may read it.

    The script ends with the exit status of the first command that fails.
    """
    return _PRELUDE + "".join(_framed(number, command) for number, command in enumerate(commands, 1))


def _framed(number: int, command: Command) -> str:
    grace = "may-fail" if isinstance(command, Run) and command.may_fail else "must"
    title = shlex.quote(shown(command))
    return f"\nbegin {number} {title}\n{_shell(command)}\nend {number} $? {grace}\n"


def _shell(command: Command) -> str:
    if isinstance(command, WriteFile):
        path = shlex.quote(command.path)
        return _fed(f"install -D -m {command.mode:o} /dev/stdin {path}", command.content)
    line = " ".join(shlex.quote(_clear(word)) for word in command.argv)
    if command.result:
        line += ' > "$RESULT"'
    return _fed(line, command.stdin)


def _fed(line: str, content: str | bytes | Secret | None) -> str:
    """The line with content as its standard input: base64, because a here-document holds neither NUL nor every line."""
    if content is None:
        return f"{line} </dev/null"
    data = content if isinstance(content, bytes) else _clear(content).encode()
    text = base64.encodebytes(data).decode()
    return f"base64 -d <<'LANDFALL' | {line}\n{text}LANDFALL"


def _clear(word: Word) -> str:
    return word.reveal() if isinstance(word, Secret) else word
