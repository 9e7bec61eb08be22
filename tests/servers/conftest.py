"""How hypothesis runs here: without a deadline, because a busy machine is slow and no failure."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
