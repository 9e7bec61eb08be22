"""How near an image is to the day from which on its distribution mends it no more. Pure: values only."""

from datetime import date, timedelta
from enum import StrEnum
from typing import Final

SOON: Final = timedelta(days=90)
"""How long before the end of an image's life people begin to be warned."""


class Life(StrEnum):
    """Where an image stands in its life."""

    FINE = ""
    SOON = "soon"  # it ends within `SOON`: choose a newer version where there is one
    PAST = "past"  # it has ended: no new install can be asked for


def life(end: date | None, day: date) -> Life:
    """Where an image stands on a day; on the day of its end it has ended."""
    if end is None or end > day + SOON:
        return Life.FINE
    return Life.PAST if end <= day else Life.SOON
