"""Landfall's settings with another channel layer, which `bench.hints` measures beside its own."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, INSTALLED_APPS

LAYER = os.environ["BENCH_LAYER"]
INSTALLED_APPS = [*INSTALLED_APPS, LAYER.partition(".")[0]]
CHANNEL_LAYERS = {"default": {"BACKEND": LAYER, "CONFIG": {**DATABASES["default"], "OPTIONS": {}, "TIME_ZONE": None}}}
