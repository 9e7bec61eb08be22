"""What the doctor finds, each of it provoked for real, and what it mends. On SQLite and on PostgreSQL."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.secret import Secret
from deploy import appendonly, doctor, events, journal, logbook, queue
from deploy.doctor import Code, Finding, Severity
from deploy.doctor.histories import COPIES
from deploy.doctor.power import reason_to_be_on
from deploy.events import GENESIS, Kind, State, digest, fold
from deploy.logbook import Logbook
from deploy.models import Event, Install, LogChunk
from metadata import boot, tokens
from metadata.models import Boot, Purpose, Target, Token
from tests.builders import make_install, make_server
from tests.deploy.happenings import both, requested, started
from tests.deploy.histories import command, feed, installed, running
from tests.servers import bad_bmc

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(hours=1)


@contextmanager
def behind_our_back() -> Iterator[None]:
    """Somebody with the database's password changes what was written."""
    with appendonly.lifted(connection):
        yield


def found(*, power: bool = False) -> list[Code]:
    """The codes of what is found now."""
    return [finding.code for finding in doctor.examine(power=power)]


def only(code: Code) -> Finding:
    """The one finding, which must be of this kind, and say what to do."""
    (finding,) = doctor.examine()
    assert finding.code is code, finding
    assert finding.what
    assert finding.fix
    return finding


def mended(code: Code) -> Finding:
    """The one finding, of this kind; after it was mended there is none."""
    finding = only(code)
    assert finding.mendable
    assert doctor.mend(finding)
    assert found() == []
    return finding


def change(install: Install, **columns: Any) -> None:
    """Writes columns of the row past the journal."""
    Install.objects.filter(pk=install.pk).update(**columns)


def lease(install: Install, until: timedelta) -> None:
    now = timezone.now()
    change(install, lease_token=uuid4(), lease_worker="w-1", lease_since=now - LONG_AGO, lease_until=now + until)


# --- nothing to find


def test_in_an_empty_database_nothing_is_found() -> None:
    assert doctor.examine() == []


def test_with_installs_in_every_state_nothing_is_found() -> None:
    installed()
    feed(running("copy")[0], command(1, "rsync", ["a", "b"]))
    make_install()
    _, past = running("wipe")
    past.fail("wipe")
    _, waiting = running("rescue")
    waiting.event(Kind.STEP_WAITING, step="rescue", attempt=1, reason="the call", next="give up", until=None)
    _, cancelled = running("rescue")
    cancelled.event(Kind.CANCEL_REQUESTED, by="alice")
    cancelled.event(Kind.CANCELLED, left="as it was")
    assert doctor.examine() == []


def test_a_log_whose_progress_was_condensed_has_no_gap() -> None:
    install, _ = running("copy")
    change(install, lease_token=(token := uuid4()), lease_worker="w", lease_until=timezone.now() + queue.LEASE_TIME)
    now = timezone.now()
    held = queue.Lease(install.pk, token, "w", now, now + queue.LEASE_TIME)
    book = Logbook.open(install, held, "copy", 1)
    for percent in range(0, 100, 10):
        book.take(f"     1,000  {percent}%   10.00MB/s    0:00:0{percent // 10}\r".encode() * 20)
        book.take(b"usr/lib/file\r\nno end yet")
        logbook.store_now(book)
    book.end()
    logbook.store_now(book)
    assert LogChunk.objects.filter(install=install).count() > 5
    assert doctor.examine() == []


# --- history


def test_an_event_that_was_changed_is_found() -> None:
    install = installed()
    with behind_our_back():
        install.events.filter(seq=3).update(data={"step": "rescue", "attempt": 1, "by": "somebody else"})
    finding = only(Code.CHAIN_BROKEN)
    assert finding.severity is Severity.CRITICAL
    assert finding.install == install.uuid
    assert finding.server == install.server.name
    assert "begin at number 3" in finding.what
    assert not finding.mendable


def test_an_event_that_was_changed_together_with_its_digest_is_found_at_the_next_one() -> None:
    install = installed()
    event = install.events.get(seq=3).value()
    forged = replace(event, at=event.at - timedelta(minutes=1))
    before = install.events.get(seq=2).digest
    with behind_our_back():
        install.events.filter(seq=3).update(at=forged.at, digest=digest(before, forged))
    assert "begin at number 4" in only(Code.CHAIN_BROKEN).what


def test_a_whole_chain_that_was_written_anew_differs_from_the_row() -> None:
    install = installed()
    link = GENESIS
    with behind_our_back():
        for row in install.events.order_by("seq"):
            row.data = {**row.data, "forged": True}
            link = digest(link, row.value())
            install.events.filter(pk=row.pk).update(data=row.data, digest=link)
    assert "The row's digest" in only(Code.CHAIN_BROKEN).what


def test_events_that_were_deleted_are_missed() -> None:
    install = installed()
    with behind_our_back():
        install.events.filter(seq__gt=10).delete()
    finding = only(Code.HISTORY_CUT)
    assert f"ends with event 10, its row knows of {install.last_seq - 10} more" in finding.what


def test_an_event_that_was_deleted_in_the_middle_breaks_the_chain_and_the_order() -> None:
    install = installed()
    with behind_our_back():
        install.events.filter(seq=5).delete()
    assert set(found()) == {Code.CHAIN_BROKEN, Code.HISTORY_IMPOSSIBLE, Code.HISTORY_CUT}


def test_a_row_without_any_event_is_found() -> None:
    install = installed()
    with behind_our_back():
        install.events.all().delete()
    only(Code.HISTORY_MISSING)


def test_an_event_that_cannot_follow_is_found_although_its_digest_is_right() -> None:
    install = make_install()
    event = events.Event(2, Kind.STEP_SUCCEEDED, timezone.now(), {"step": "copy", "attempt": 1})
    link = events.digest(install.digest, event)
    Event.objects.create(install=install, seq=2, kind=event.kind.value, at=event.at, data=event.data, digest=link)
    change(install, last_seq=2, digest=link)
    assert "no attempt at copy is open" in only(Code.HISTORY_IMPOSSIBLE).what


def test_an_event_of_an_unknown_kind_is_found_and_the_others_are_still_examined() -> None:
    install, other = installed(), installed()
    with behind_our_back():
        install.events.filter(seq=4).update(kind="blessed")
    change(other, status="running")
    assert sorted(found()) == sorted([Code.CHAIN_BROKEN, Code.HISTORY_IMPOSSIBLE, Code.ROW_DIFFERS])


@pytest.mark.parametrize(
    "columns",
    [
        {"status": "cancelled"}, {"step": "copy"}, {"attempt": 7}, {"failure": {"code": "none"}},
        {"cancel_requested": True}, {"hold_before": "copy"}, {"quiet_since": timezone.now()},
        {"step_started_at": None}, {"started_at": None}, {"ended_at": None},
    ],
    ids=lambda columns: next(iter(columns)),
)  # fmt: skip
def test_a_column_that_is_not_what_the_history_adds_up_to_is_found_and_written_anew(columns: dict[str, Any]) -> None:
    install = installed()
    change(install, **columns)
    assert next(iter(columns)) in mended(Code.ROW_DIFFERS).what
    assert Install.objects.get(pk=install.pk).state() == install.state()


def test_every_column_that_copies_the_state_is_compared() -> None:
    """A column that is added to the projection is examined without a word from anybody."""
    assert set(COPIES) | {"digest"} == set(journal.projection(State()))


def test_a_row_that_is_older_than_its_history_is_brought_up_to_date() -> None:
    install, past = running("copy")
    before = {name: getattr(install, name) for name in journal.projection(State())}
    past.finish("copy")
    change(install, **before)
    mended(Code.ROW_DIFFERS)
    assert Install.objects.get(pk=install.pk).last_seq == install.last_seq + 1


def test_a_row_is_not_written_from_a_history_that_was_changed() -> None:
    install = installed()
    with behind_our_back():
        install.events.filter(seq=3).update(data={"step": "rescue", "attempt": 1, "by": "somebody else"})
    change(install, attempt=5)
    findings = doctor.examine()
    assert {finding.code for finding in findings} == {Code.CHAIN_BROKEN, Code.ROW_DIFFERS}
    assert not any(finding.mendable or doctor.mend(finding) for finding in findings)
    assert Install.objects.get(pk=install.pk).attempt == 5


def test_a_row_that_would_be_a_second_live_install_is_left_for_people() -> None:
    server = make_server(disks=2)
    install, _ = running("copy", server=server)
    change(install, status="failed")
    make_install(server)
    finding = only(Code.ROW_DIFFERS)
    assert not doctor.mend(finding)
    assert found() == [Code.ROW_DIFFERS]


# --- logs


def a_log(install: Install) -> list[LogChunk]:
    return [feed(install, command(number, "rsync", ["a", "b"])) for number in range(1, 4)]


def test_a_piece_that_is_missing_in_a_log_is_found() -> None:
    install, _ = running("copy")
    _, middle, last = a_log(install)
    with behind_our_back():
        LogChunk.objects.filter(pk=middle.pk).delete()
    finding = only(Code.LOG_BROKEN)
    assert f"copy, attempt 1, lacks the bytes from {middle.offset} to {last.offset}" in finding.what


def test_a_log_without_its_beginning_is_found() -> None:
    install, _ = running("copy")
    first = a_log(install)[0]
    with behind_our_back():
        LogChunk.objects.filter(pk=first.pk).delete()
    assert "lacks the bytes from 0 to" in only(Code.LOG_BROKEN).what


def test_bytes_that_are_twice_in_a_log_are_found() -> None:
    install, _ = running("copy")
    middle = a_log(install)[1]
    LogChunk.objects.create(
        install=install, step="copy", attempt=1, offset=middle.offset + 3, size=5, first_line=6, text="twice\n",
        at=timezone.now(),
    )  # fmt: skip
    assert "twice" in only(Code.LOG_BROKEN).what


def test_line_numbers_that_do_not_go_on_are_found() -> None:
    install, _ = running("copy")
    with behind_our_back():
        LogChunk.objects.filter(pk=a_log(install)[1].pk).update(text="one line\n")
    finding = only(Code.LOG_BROKEN)
    assert "goes on with line 9" in finding.what
    assert "where line 6 should be" in finding.what


def test_a_log_of_an_attempt_that_never_began_is_found() -> None:
    install, _ = running("copy")
    feed(install, "a line\n", attempt=2)
    assert "copy, attempt 2, which never began" in only(Code.LOG_BROKEN).what


# --- the queue


def test_a_lease_that_ran_out_long_ago_is_found_and_taken_away() -> None:
    install, _ = running("copy")
    lease(install, -LONG_AGO)
    finding = mended(Code.LEASE_STALE)
    assert "w-1 holds it since" in finding.what
    assert Install.objects.get(pk=install.pk).lease_token is None
    assert queue.claim("w-2", timezone.now())


def test_a_lease_that_has_just_run_out_is_left_to_the_other_workers() -> None:
    lease(running("copy")[0], timedelta(seconds=-2))
    assert found() == []


def test_an_ended_install_that_is_still_held_is_found_and_let_go() -> None:
    install = installed()
    lease(install, timedelta(seconds=5))
    assert found() == []  # its worker is tidying up
    lease(install, timedelta(seconds=-1))
    assert "although it is succeeded" in mended(Code.LEASE_STALE).what


def test_a_lease_that_is_longer_than_any_can_be_is_found_and_taken_away() -> None:
    lease(running("copy")[0], LONG_AGO)
    mended(Code.LEASE_TOO_LONG)


def test_a_lease_that_was_renewed_meanwhile_is_not_taken_away() -> None:
    install, _ = running("copy")
    lease(install, -LONG_AGO)
    finding = only(Code.LEASE_STALE)
    lease(install, queue.LEASE_TIME)
    assert not doctor.mend(finding)
    assert Install.objects.get(pk=install.pk).lease_token


def test_a_live_install_that_nobody_will_wake_is_found_and_woken() -> None:
    install, _ = running("copy")
    change(install, wake_at=None)
    mended(Code.NEVER_WOKEN)
    assert queue.due(timezone.now()).get() == install


def test_an_install_that_is_held_waits_for_a_person_unless_it_is_to_be_cancelled() -> None:
    install, past = running("copy")
    past.finish("copy")
    past.event(Kind.HOLD_REQUESTED, by="ops", before="bootable")
    past.event(Kind.HELD, before="bootable")
    change(install, wake_at=None)
    assert found() == []
    past.event(Kind.CANCEL_REQUESTED, by="ops")
    change(install, wake_at=None)
    mended(Code.NEVER_WOKEN)


def test_who_stands_in_line_is_not_forgotten_but_who_has_no_place_in_it_is() -> None:
    install = make_install()
    change(install, wake_at=None, admitted_at=None, queued_at=timezone.now())
    assert found() == []
    change(install, queued_at=None)
    mended(Code.NEVER_WOKEN)
    assert Install.objects.get(pk=install.pk).queued_at


def test_an_install_that_no_worker_takes_is_told() -> None:
    change(make_install(), wake_at=timezone.now() - LONG_AGO)
    finding = only(Code.OVERDUE)
    assert "manage.py worker" in finding.fix
    assert not finding.mendable


# --- what is left over


def a_token(install: Install) -> Token:
    tokens.mint(install.uuid, install.server, Purpose.RESCUE, LONG_AGO)
    return Token.objects.latest("pk")


def test_tokens_of_an_install_that_succeeded_are_found_and_expire() -> None:
    install = installed()
    a_token(install)
    token = a_token(install)
    assert "2 of its tokens" in mended(Code.TOKEN_ORPHANED).what
    token.refresh_from_db()
    assert token.is_spent


def test_tokens_of_an_install_that_never_was_are_found() -> None:
    tokens.mint(uuid4(), make_server(), Purpose.FETCH, LONG_AGO)
    assert "there is no such install" in mended(Code.TOKEN_ORPHANED).what


def test_a_failed_install_keeps_its_tokens_until_its_server_is_installed_again() -> None:
    """It can be retried from where it failed: the system that it has installed may phone home yet."""
    server = make_server(disks=2)
    install, past = running("phone-home", server=server)
    past.fail("phone-home")
    a_token(install)
    assert found() == []
    installed(server=server, began=timezone.now())
    mended(Code.TOKEN_ORPHANED)


def test_used_and_expired_tokens_and_those_of_live_installs_are_in_order() -> None:
    a_token(running("copy")[0])
    install = installed()
    Token.objects.filter(pk=a_token(install).pk).update(used_at=timezone.now())
    Token.objects.filter(pk=a_token(install).pk).update(expires_at=timezone.now() - LONG_AGO)
    assert found() == []


@pytest.mark.parametrize("ended", ["succeeded", "never was", "failed before the wipe"])
def test_a_server_that_would_start_into_rescue_for_nothing_is_found_and_sent_to_its_disks(ended: str) -> None:
    if ended == "failed before the wipe":
        install, past = running("inspect", began=timezone.now() - LONG_AGO)
        past.fail("inspect")
    else:
        install = installed()
    uuid = uuid4() if ended == "never was" else install.uuid
    boot.direct_to_rescue(install.server, uuid, "ssh-ed25519 AAAA", LONG_AGO)
    assert mended(Code.BOOT_STRAY).server == install.server.name
    assert Boot.objects.get(server=install.server).target == Target.DISK


def test_a_server_whose_disks_were_erased_may_start_into_rescue() -> None:
    install, past = running("copy")
    boot.direct_to_rescue(install.server, install.uuid, "ssh-ed25519 AAAA", LONG_AGO)
    assert found() == []
    past.fail("copy")
    assert found() == []


def test_a_boot_decision_that_was_changed_meanwhile_stays() -> None:
    install = installed()
    boot.direct_to_rescue(install.server, install.uuid, "ssh-ed25519 AAAA", LONG_AGO)
    finding = only(Code.BOOT_STRAY)
    boot.direct_to_rescue(install.server, uuid4(), "ssh-ed25519 BBBB", LONG_AGO)
    assert not doctor.mend(finding)
    assert Boot.objects.get(server=install.server).target == Target.RESCUE


def test_a_private_key_that_outlived_its_install_is_found_and_forgotten() -> None:
    install = installed()
    install.private_key = Secret("-----BEGIN OPENSSH PRIVATE KEY-----")
    install.save(update_fields=["private_key"])
    mended(Code.KEY_KEPT)
    assert not Install.objects.get(pk=install.pk).private_key


# --- the database


@pytest.mark.django_db(transaction=True)
@pytest.mark.sqlite
@pytest.mark.parametrize(
    "sql",
    [
        "DROP TRIGGER deploy_event_no_update",
        (
            "DROP TRIGGER deploy_event_no_delete; "
            "CREATE TRIGGER deploy_event_no_delete BEFORE DELETE ON deploy_event BEGIN SELECT 1; END"
        ),
    ],
    ids=["dropped", "toothless"],
)
def test_a_table_that_sqlite_no_longer_protects_is_found_and_protected_again(sql: str) -> None:
    with connection.cursor() as cursor:
        for statement in sql.split("; ", 1):
            cursor.execute(statement)
    assert "deploy_event" in mended(Code.UNPROTECTED).what


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
@pytest.mark.parametrize(
    "sql",
    [
        "DROP TRIGGER deploy_event_append_only ON deploy_event",
        "ALTER TABLE deploy_event DISABLE TRIGGER deploy_event_append_only",
        (
            "DROP TRIGGER deploy_event_append_only ON deploy_event; CREATE TRIGGER deploy_event_append_only "
            "BEFORE UPDATE ON deploy_event FOR EACH STATEMENT EXECUTE FUNCTION landfall_append_only()"
        ),
    ],
    ids=["dropped", "switched off", "updates alone"],
)
def test_a_table_that_postgresql_no_longer_protects_is_found_and_protected_again(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
    assert "deploy_event" in mended(Code.UNPROTECTED).what


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
def test_triggers_that_refuse_nothing_any_more_are_found_and_made_again() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE OR REPLACE FUNCTION landfall_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RETURN NULL; END $$"
        )
    assert found() == [Code.UNPROTECTED, Code.UNPROTECTED]
    assert doctor.mend(doctor.examine()[0])
    assert found() == []


# --- power


def with_bmc(install: Install, bmc: bad_bmc.BadBmc) -> None:
    server = install.server
    server.bmc_url, server.bmc_system, server.bmc_user = f"http://127.0.0.1:{bmc.port}", "1", bad_bmc.USER
    server.bmc_password = Secret(bad_bmc.PASSWORD)
    server.save()


@pytest.fixture(autouse=True)
def _quick_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.doctor.power.LOOK_AGAIN", 0.0)


def test_a_server_that_was_installed_and_is_off_is_found() -> None:
    with bad_bmc.running(power="Off") as bmc:
        install = installed()
        with_bmc(install, bmc)
        assert found() == []  # nobody asked for it
        (finding,) = doctor.examine(power=True)
        assert (finding.code, finding.server, finding.install) == (
            Code.POWER_DIFFERS,
            install.server.name,
            install.uuid,
        )
        bmc.power = "On"
        assert found(power=True) == []


def test_a_server_that_loses_its_power_during_the_copy_is_found() -> None:
    with bad_bmc.running(power="Off") as bmc:
        install, past = running("inspect")
        past.event(Kind.RESCUE_READY, host_keys=["ssh-ed25519 AAAA"], boot_id="b")
        with_bmc(install, bmc)
        (finding,) = doctor.examine(power=True)
        assert "the step inspect needs its rescue system" in finding.what


def test_a_server_that_is_off_for_a_moment_is_asked_twice() -> None:
    with bad_bmc.running(power="On", lies_about_power=1) as bmc:
        with_bmc(installed(), bmc)
        assert found(power=True) == []
        assert bmc.lies_about_power == 0


def test_a_bmc_that_does_not_answer_is_a_finding_of_its_own() -> None:
    with bad_bmc.running() as bmc:
        install = installed()
        with_bmc(install, bmc)
    (finding,) = doctor.examine(power=True)
    assert (finding.code, finding.server) == (Code.BMC_SILENT, install.server.name)
    assert bad_bmc.PASSWORD not in str(finding)


def test_a_server_without_a_bmc_is_not_asked() -> None:
    installed(server=make_server(disks=2, power_driver="manual"))
    assert found(power=True) == []


CALLED = (Kind.RESCUE_READY, {"host_keys": ["k"], "boot_id": "b"})
CYCLE = ((Kind.POWER_CYCLING, {}), (Kind.POWER_CYCLED, {}))


@pytest.mark.parametrize(
    ("happened", "why"),
    [
        ([], ""),
        ([started("rescue")], ""),
        ([started("rescue"), CYCLE[0]], ""),
        ([started("rescue"), *CYCLE], "it was told to start its rescue system"),
        ([started("rescue"), *CYCLE, CALLED, (Kind.STEP_SUCCEEDED, {"step": "rescue", "attempt": 1})],
         "the step wipe needs its rescue system"),
        ([*both("rescue"), *both("wipe"), *both("copy")], "it was told to start its new system"),
        ([*both("rescue"), *both("wipe"), *both("copy"), *both("verify")], "its last install succeeded"),
    ],
    ids=["requested", "rescue begun", "being restarted", "restarted", "in rescue", "rebooted", "succeeded"],
)  # fmt: skip
def test_history_says_when_a_server_must_have_power(happened: list[Any], why: str) -> None:
    assert reason_to_be_on(fold(requested(*happened))) == why


# --- the command


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    out = io.StringIO()
    try:
        call_command("doctor", "--no-power", *arguments, stdout=out)
    except SystemExit as stopped:
        return int(str(stopped.code)), out.getvalue()
    return 0, out.getvalue()


def test_the_command_says_how_much_it_has_looked_at() -> None:
    feed(running("copy")[0], "a line\n")
    status, said = run()
    assert status == 0
    assert "Looked at 1 installs" in said
    assert "1 chunks: nothing found." in said


def test_the_command_names_what_it_finds_and_what_to_do() -> None:
    install = installed()
    a_token(install)
    status, said = run()
    assert status == 1
    assert f"error: token-orphaned, {install.uuid} of {install.server.name}" in said
    assert "manage.py doctor --mend" in said


def test_the_command_mends_and_says_so() -> None:
    a_token(installed())
    status, said = run("--mend")
    assert status == 0
    assert "Mended." in said
    assert "1 found, 1 of them mended" in said
    assert run()[0] == 0


def test_what_cannot_be_mended_still_counts() -> None:
    install = installed()
    a_token(install)
    with behind_our_back():
        install.events.filter(seq=3).update(data={})
    status, said = run("--mend")
    assert status == 1
    assert said.index("critical: chain-broken") < said.index("error: token-orphaned")


def test_programs_read_json() -> None:
    install = installed()
    a_token(install)
    status, said = run("--json")
    (finding,) = json.loads(said)["findings"]
    assert status == 1
    assert (finding["code"], finding["severity"], finding["install"], finding["mended"]) == (
        "token-orphaned", "error", str(install.uuid), False,
    )  # fmt: skip
    assert json.loads(run("--json", "--mend")[1])["findings"][0]["mended"] is True


def test_the_examination_takes_no_more_queries_for_more_installs() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            doctor.examine()
        return len(captured)

    installed()
    one = queries()
    for _ in range(5):
        installed()
    assert queries() == one
