"""One house for all end-to-end tests, and the installs that are done in it: elm's in threads, oak's beside them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser

from tests.e2e import installs
from tests.e2e.house import House, running
from tests.e2e.installs import Elm, Proof


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with running(tmp_path_factory.mktemp("landfall")) as house:
        yield house


@pytest.fixture(scope="session")
def elm(house: House) -> Iterator[Elm]:
    """elm's two installs, one after the other, while oak is installed too."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(installs.of_elm_with_power_cut_and_phone_home_blocked, house)

        def once_more() -> Proof:
            first.exception()  # whatever became of it
            return installs.of_elm_with_cloud_init_deleted(house)

        yield Elm(first, pool.submit(once_more))
        house.end_commands()


@pytest.fixture(scope="session")
def oak(house: House, elm: Elm, chromium: Browser) -> Proof:
    """oak's install, begun after elm's."""
    return installs.of_oak_by_clicking(house, chromium)


@pytest.fixture(scope="session")
def aftermath_of_oak(house: House, oak: Proof) -> str:
    """What the phone-home guard would read of the system on oak's mirror."""
    return str(house.inside("aftermath", server="oak", patience=installs.LONGEST))


@pytest.fixture(scope="session")
def elm_first(elm: Elm) -> Proof:
    return elm.first.result(timeout=2 * installs.LONGEST)


@pytest.fixture(scope="session")
def elm_second(elm: Elm) -> Proof:
    return elm.second.result(timeout=3 * installs.LONGEST)
