"""Who may drive an install: claims, races, leases that run out. On SQLite and on PostgreSQL."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from deploy import queue
from deploy.models import Install
from tests.builders import make_install, make_server


@pytest.mark.django_db(transaction=True)
def test_of_twenty_racing_claimers_exactly_one_wins() -> None:
    make_install()
    now, won = timezone.now(), []
    barrier = threading.Barrier(20)

    def claim(name: str) -> None:
        barrier.wait()
        if queue.claim(name, now):
            won.append(name)
        connection.close()

    threads = [threading.Thread(target=claim, args=(f"worker {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Install.objects.get().lease_worker == won[0]


@pytest.mark.django_db
def test_a_held_install_is_taken_over_only_when_its_lease_has_run_out() -> None:
    make_install()
    now = timezone.now()
    assert queue.claim("first", now)
    assert queue.claim("second", now + queue.LEASE_TIME / 2) is None
    taken = queue.claim("second", now + queue.LEASE_TIME * 1.1)
    assert taken
    assert taken[1].taken_from == "first"


@pytest.mark.django_db
def test_renewed_leases_do_not_run_out() -> None:
    make_install()
    now = timezone.now()
    claimed = queue.claim("first", now)
    assert claimed
    assert queue.renew([claimed[1]], now + queue.LEASE_TIME / 2) == 1
    assert queue.claim("second", now + queue.LEASE_TIME * 1.1) is None


@pytest.mark.django_db
def test_a_lost_lease_is_not_given_back_again() -> None:
    make_install()
    now = timezone.now()
    first = queue.claim("first", now)
    assert first
    assert queue.claim("second", now + queue.LEASE_TIME * 1.1)
    assert not queue.release(first[1], None, 1)
    assert Install.objects.get().lease_worker == "second"


@pytest.mark.django_db
def test_an_install_that_waits_is_nobodys_until_its_time() -> None:
    make_install()
    now = timezone.now()
    claimed = queue.claim("w", now)
    assert claimed
    queue.release(claimed[1], now + timedelta(minutes=5), claimed[0].last_seq)
    assert not queue.due(now + timedelta(minutes=4)).exists()
    assert queue.due(now + timedelta(minutes=6)).exists()
    assert Install.objects.get().lease_token is None


@pytest.mark.django_db
def test_a_server_has_one_live_install_at_most() -> None:
    server = make_server()
    make_install(server)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_install(server)
    Install.objects.update(status="failed")
    make_install(server)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_an_install_that_somebody_keeps_locked_does_not_keep_the_others_waiting() -> None:
    locked, free = make_install(), make_install()
    is_locked, may_go = threading.Event(), threading.Event()

    def freeze_in_a_transaction() -> None:
        with transaction.atomic():
            Install.objects.select_for_update().get(pk=locked.pk)
            is_locked.set()
            may_go.wait(30)
        connection.close()

    frozen = threading.Thread(target=freeze_in_a_transaction)
    frozen.start()
    is_locked.wait(30)
    try:
        claimed = queue.claim("second", timezone.now())
    finally:
        may_go.set()
        frozen.join()
    assert claimed
    assert claimed[0] == free


@pytest.mark.django_db
def test_all_that_a_dead_worker_had_is_taken_over_at_once() -> None:
    make_install()
    now = timezone.now()

    def statements() -> int:
        nonlocal now
        now += queue.LEASE_TIME * 1.1
        with CaptureQueriesContext(connection) as captured:
            claimed = queue.claim_all("worker", now, 50)
        assert len(claimed) == Install.objects.count()
        assert all(install.lease_token == lease.token for install, lease in claimed)
        return len(captured)

    assert statements()
    few = statements()
    for _ in range(10):
        make_install()
    assert statements() == few
    assert {lease.taken_from for _, lease in queue.claim_all("another", now + queue.LEASE_TIME * 1.1, 50)} == {"worker"}


@pytest.mark.django_db
def test_a_worker_renews_what_has_run_out_in_its_own_hands_and_does_not_take_it_over() -> None:
    make_install()
    now = timezone.now()
    ((_, lease),) = queue.claim_all("worker", now, 50)
    late = now + queue.LEASE_TIME * 1.1
    assert queue.claim_all("worker", late, 50, {lease.token}) == []
    assert queue.renew([lease], late) == 1
    assert not queue.due(late + queue.LEASE_TIME / 2).exists()


@pytest.mark.django_db
def test_no_more_are_claimed_than_there_are_slots_and_those_first_that_wait_the_longest() -> None:
    now = timezone.now()
    installs = [make_install() for _ in range(5)]
    for number, install in enumerate(installs):
        Install.objects.filter(pk=install.pk).update(wake_at=now - timedelta(minutes=number))
    claimed = queue.claim_all("worker", now, 2)
    assert [install.pk for install, _ in claimed] == [installs[4].pk, installs[3].pk]
    assert len(queue.claim_all("worker", now, 50)) == 3
