from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.cache import cache
from pytest_django import Settings

from tests.metadata.inventory import make_rescue


@pytest.fixture(autouse=True)
def machine_settings(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """A rescue system and an image store of the test's own, and no calls counted yet."""
    images = tmp_path / "images"
    images.mkdir()
    settings.LANDFALL_MACHINE_URL = "http://10.0.2.2:8600"
    settings.LANDFALL_RESCUE_DIR = make_rescue(tmp_path / "rescue")
    settings.LANDFALL_IMAGES_DIR = images
    settings.LANDFALL_MACHINE_RATE = 10_000
    cache.clear()
    yield
    cache.clear()
