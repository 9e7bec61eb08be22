"""What the tests of the engine share."""

from collections.abc import Iterator

import pytest

from tests import sshd as sshd_module
from tests.sshd import Sshd


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """A rescue system, as far as SSH goes."""
    with sshd_module.running() as server:
        yield server
