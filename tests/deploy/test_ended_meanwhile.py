"""An install that is ended by force, or taken over, while a worker is in the middle of it: that has no say any more.

The server may have another install by then, or somebody who is logged in, who are not to be disturbed.
"""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.secret import Secret
from deploy import actions, journal, queue
from deploy.commands import Command, run
from deploy.driver import Driver
from deploy.events import Kind
from deploy.leased import Cancelled
from deploy.models import Install
from deploy.queue import LeaseLost
from deploy.step import Context, Control, Done, Outcome, Perform, Step
from metadata import boot, tokens
from metadata.models import Boot, Purpose, Token
from servers.power import Target
from servers.power.redfish import Redfish
from tests import sshd as sshd_module
from tests.builders import make_install, make_server, make_user
from tests.servers.bad_bmc import PASSWORD, USER
from tests.servers.bad_bmc import running as running_bmc

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(sshd_module.USER != "root", reason="a rescue system is entered as root: run the tests as root"),
]


def echo(ctx: Context) -> Iterator[Command]:
    yield run("echo", "here")


def a_step(perform: Perform) -> Step:
    return Step(
        "rescue", "Rescue", timedelta(minutes=1), 0, "rescue", True, perform, echo, tokens=frozenset({"phone-home"})
    )


def ended_by_force(install: Install) -> None:
    """By ops, who install the server anew at once: it is to come into the new install's rescue system."""
    actions.force_reset(install, make_user("ops"), "it hangs")
    boot.direct_to_rescue(install.server, make_install(install.server).uuid, "the new one's key", timedelta(hours=1))


def boot_into_rescue(control: Control) -> Outcome:
    control.boot_into_rescue()
    return Done()


def boot_from_disk(control: Control) -> Outcome:
    control.boot_from_disk()
    return Done()


def send_back(control: Control) -> Outcome:
    raise Cancelled


def run_a_job(control: Control) -> Outcome:
    control.run_job()
    return Done()


@pytest.mark.parametrize("act", [boot_into_rescue, boot_from_disk, send_back, run_a_job])
def test_a_worker_whose_install_was_ended_by_force_directs_no_server_and_hands_out_no_token(act: Perform) -> None:
    with sshd_module.running() as sshd:
        server = make_server(disks=1, address="127.0.0.1", ssh_port=sshd.port, power_driver="manual")
        install = make_install(server, private_key=sshd.private_key, public_key=sshd.public_key)
        journal.append(install, Kind.PLANNED, {"steps": ["rescue"]})
        journal.append(install, Kind.RESCUE_READY, {"host_keys": [sshd.host_key], "boot_id": "b1"})
        tokens.mint(install.uuid, server, Purpose.PHONE_HOME, timedelta(hours=1))
        claimed = queue.claim("worker", timezone.now())
        assert claimed

        def perform(control: Control) -> Outcome:
            ended_by_force(install)
            return act(control)

        with pytest.raises(LeaseLost):
            Driver(*claimed, threading.Event(), {"rescue": a_step(perform)}).drive()
    assert Boot.objects.get(server=server).public_key == "the new one's key"
    assert not Token.objects.filter(install=install.uuid, expires_at__gt=timezone.now()).exists()


def power_cycle(control: Control) -> Outcome:
    control.power_cycle(Target.DISK)
    return Done()


@pytest.mark.parametrize("word", ["boot_from", "reset"])
def test_a_worker_that_was_frozen_before_a_word_to_the_bmc_does_not_say_it_when_it_goes_on(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bmc() as bmc:
        account = {"bmc_url": f"http://127.0.0.1:{bmc.port}", "bmc_system": "1", "bmc_user": USER}
        install = make_install(make_server(disks=1, bmc_password=Secret(PASSWORD), **account))
        journal.append(install, Kind.PLANNED, {"steps": ["rescue"]})
        claimed = queue.claim("worker", timezone.now())
        assert claimed
        at_once = getattr(Redfish, word)

        def after_a_while(driver: Redfish, *arguments: Any, **named: Any) -> None:
            assert queue.claim("another", timezone.now() + 1.1 * queue.LEASE_TIME)
            bmc.asked.clear()
            at_once(driver, *arguments, **named)

        monkeypatch.setattr(Redfish, word, after_a_while)
        with pytest.raises(LeaseLost):
            Driver(*claimed, threading.Event(), {"rescue": a_step(power_cycle)}).drive()
        assert bmc.asked
        assert bmc.writes() == []


def test_a_server_that_asks_what_to_start_while_its_install_is_ended_is_given_no_key_to_it() -> None:
    install = make_install()
    mac = install.server.nics.get().mac
    boot.direct_to_rescue(install.server, install.uuid, "key", timedelta(hours=1))
    told: list[str | None] = []

    def ask() -> None:
        told.append(boot.script_for(mac))
        connection.close()

    asking = threading.Thread(target=ask)
    with transaction.atomic():
        actions.force_reset(install, make_user("ops"), "it hangs")
        asking.start()
        time.sleep(0.5)
    asking.join()
    assert told[0]
    assert "landfall.token" not in told[0]
    assert not Token.objects.filter(install=install.uuid, expires_at__gt=timezone.now()).exists()
