"""What storage says no with: a reason that names the numbers, and what to do next."""

from __future__ import annotations


class StorageRefused(Exception):
    """A layout or a plan that cannot be: `why` in one sentence, `fix` in another."""

    def __init__(self, why: str, fix: str) -> None:
        super().__init__(f"{why} {fix}")
        self.why = why
        self.fix = fix


class LayoutRefused(StorageRefused):
    """What was asked for makes no sense on any machine."""


class PlanImpossible(StorageRefused):
    """What was asked for cannot be had on this machine."""
