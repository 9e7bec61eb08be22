"""QEMU's machine protocol over two pipes: commands out, answers and events in."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import IO, Any

ANSWER_TIMEOUT = 20.0


class QmpError(Exception):
    """QEMU refused a command, or is gone."""


class Qmp:
    """One monitor connection. Commands may come from any thread; each call of `on_event(name, data)` has its own."""

    def __init__(
        self, commands: IO[bytes], answers: IO[bytes], on_event: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._commands, self._answers, self._on_event = commands, answers, on_event
        self._replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._read, name="qmp", daemon=True).start()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """What QEMU returned; QmpError when it refused, or does not answer."""
        with self._one_at_a_time:
            try:
                self._commands.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
                self._commands.flush()
                reply = self._replies.get(timeout=ANSWER_TIMEOUT)
            except (OSError, ValueError, queue.Empty) as error:
                raise QmpError(f"{command}: QEMU does not answer") from error
        if "error" in reply:
            raise QmpError(f"{command}: {reply['error']['desc']}")
        return reply["return"]

    def _read(self) -> None:
        for line in self._answers:
            if not line.startswith(b"{"):
                continue  # QEMU 7 says here, too, which terminal the console has become
            message = json.loads(line)
            if "event" in message:
                # on a thread of its own: what an event asks for may be another command
                handler = threading.Thread(
                    target=self._on_event, args=(message["event"], message.get("data", {})), daemon=True
                )
                handler.start()
            elif "QMP" not in message:
                self._replies.put(message)
        self._replies.put({"error": {"desc": "QEMU has ended"}})
