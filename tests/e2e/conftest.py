"""One house for all end-to-end tests, and the installs that are done in it: elm's in a thread, oak's beside it."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests import chromium
from tests.e2e import installs
from tests.e2e.house import House, running
from tests.e2e.installs import Proof


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("landfall")) as house:
        yield house


@pytest.fixture(scope="session")
def elm_begun(house: House) -> "Iterator[Future[Proof]]":
    """elm's install, in a thread, as it comes."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(installs.of_elm_with_all_taken_away, house)
        house.end_commands()


@pytest.fixture(scope="session")
def oak(house: House, elm_begun: "Future[Proof]") -> Proof:
    """oak's install, begun after elm's."""
    with chromium.running() as browser:
        return installs.of_oak_by_clicking(house, browser)


@pytest.fixture(scope="session")
def elm(elm_begun: "Future[Proof]") -> Proof:
    return elm_begun.result(timeout=2 * installs.LONGEST)
