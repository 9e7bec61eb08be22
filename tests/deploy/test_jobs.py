"""Jobs on a rescue system, over a real sshd."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from accounts.secret import Secret
from deploy import transport
from deploy.commands import run, script
from deploy.jobs import LOST, Job
from tests.sshd import Cut, HungUp, Sshd, running


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running() as server:
        yield server


@pytest.fixture
def job(sshd: Sshd, tmp_path: Path) -> Iterator[Job]:
    connection = sshd.connect()
    yield Job(connection, str(tmp_path / "jobs" / "copy-1"))
    connection.close()


def followed(job: Job, offset: int = 0) -> tuple[bytes, int]:
    stream = job.follow(offset)
    data = b""
    while (more := stream.read(timeout=5)) is not None:
        data += more
    return data, stream.status()


def test_a_job_gives_its_whole_log_and_its_exit_status(job: Job) -> None:
    job.start("echo one; echo two >&2; exit 7")
    assert followed(job) == (b"one\ntwo\n", 7)


def test_starting_a_job_twice_runs_it_once(job: Job, tmp_path: Path) -> None:
    for _ in range(3):
        job.start(f"echo ran >> {tmp_path}/count")
    followed(job)
    assert (tmp_path / "count").read_text() == "ran\n"


def test_of_a_script_that_was_cut_off_nothing_is_run_and_the_next_worker_starts_the_whole(
    job: Job, tmp_path: Path
) -> None:
    script = f"echo one >> {tmp_path}/ran\necho two >> {tmp_path}/ran"
    with pytest.raises(transport.Unreachable, match="bytes have come"):
        Job(Cut(job.connection), job.folder).start(script)
    assert not job.exists()
    job.start(script)
    assert followed(job) == (b"", 0)
    assert (tmp_path / "ran").read_text() == "one\ntwo\n"


def test_a_job_whose_worker_dies_while_it_is_started_is_there_for_the_next_one(sshd: Sshd, job: Job) -> None:
    with pytest.raises(transport.Unreachable):
        Job(HungUp(sshd.connect()), job.folder).start("echo one; exit 3")
    while not job.exists():
        time.sleep(0.05)
    assert followed(job) == (b"one\n", 3)


def test_following_from_an_offset_gives_the_rest_to_the_byte(job: Job) -> None:
    job.start("seq 1000")
    whole, _ = followed(job)
    assert whole == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert followed(job, 123) == (whole[123:], 0)


def test_a_job_outlives_its_connection_and_is_followed_by_the_next_one(sshd: Sshd, job: Job) -> None:
    job.start("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.25; done")
    stream = job.follow(0)
    seen = b""
    while b"2\n" not in seen:
        seen += stream.read(timeout=5) or b""
    sshd.cut_connections()
    with pytest.raises(transport.Unreachable):
        while stream.read(timeout=2) is not None:
            pass
    again = Job(sshd.connect(), job.folder)
    rest, status = followed(again, len(seen))
    assert (seen + rest, status) == (b"1\n2\n3\n4\n5\n6\n7\n8\n", 0)


def test_output_comes_in_batches_not_line_by_line(job: Job) -> None:
    job.start("for i in $(seq 300); do echo $i; sleep 0.005; done")
    stream, pieces = job.follow(0), 0
    while (more := stream.read(timeout=5)) is not None:
        pieces += bool(more)
    assert pieces < 30


def test_a_job_that_is_killed_ends_with_all_it_started_and_is_lost(job: Job, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    job.start(f"(while sleep 0.1; do echo >> {alive}; done) & echo begun; wait")
    job.kill()
    assert followed(job)[1] == LOST
    written = alive.stat().st_size
    time.sleep(0.5)
    assert alive.stat().st_size == written


def test_where_memory_runs_out_the_programs_of_a_job_are_taken_before_what_watches_over_it(job: Job) -> None:
    job.start("cat /proc/self/oom_score_adj; cat /proc/$PPID/oom_score_adj")
    own, watching = followed(job)[0].split()
    assert (int(own), int(watching) < 500) == (500, True)


def test_the_result_of_a_job_is_what_the_marked_command_printed(job: Job) -> None:
    job.start(script([run("echo", "noise"), run("echo", "the result", result=True)]))
    log, status = followed(job)
    assert (job.result(), status) == (b"the result\n", 0)
    assert b"noise" in log
    assert b"\nthe result" not in log


def test_the_script_of_a_job_is_for_its_owner_alone(job: Job) -> None:
    job.start("true")
    followed(job)
    assert Path(job.folder).stat().st_mode & 0o077 == 0


def test_another_host_key_is_not_talked_to(sshd: Sshd) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKp0SmRkPGTLyaLuKoPzAkVDQAf9XOjZTzu0zcyRcZp"
    with pytest.raises(transport.WrongHostKey):
        sshd.connect(host_key=other)


def test_a_key_that_is_not_this_installs_is_refused(sshd: Sshd) -> None:
    stranger, _ = transport.new_key_pair()
    with pytest.raises(transport.Refused):
        sshd.connect(private_key=stranger)


def test_nobody_listening_is_unreachable() -> None:
    with pytest.raises(transport.Unreachable):
        transport.connect("127.0.0.1", 1, Secret(""), ())


def test_the_host_key_that_answers_is_told(sshd: Sshd) -> None:
    assert transport.host_key("127.0.0.1", sshd.port) == sshd.host_key


def test_a_system_that_hangs_up_once_keys_are_agreed_upon_is_unreachable(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    handshake = transport._handshake

    def cut_short(address: str, port: int) -> transport._Transport:
        agreed = handshake(address, port)
        agreed.close()
        return agreed

    monkeypatch.setattr(transport, "_handshake", cut_short)
    with pytest.raises(transport.Unreachable):
        transport.host_key("127.0.0.1", sshd.port)


def test_a_command_that_ends_before_we_have_said_all_does_not_break_the_connection(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where our thread is not given the processor between ending our input and telling the other side so."""
    said_at_once = paramiko.Transport._send_user_message
    end_of_input = paramiko.common.cMSG_CHANNEL_EOF

    def said_late(connection: paramiko.Transport, message: paramiko.Message) -> None:
        if message.asbytes().startswith(end_of_input):
            time.sleep(0.2)
        said_at_once(connection, message)

    monkeypatch.setattr(paramiko.Transport, "_send_user_message", said_late)
    job.start("true")
    assert [job.exists(), job.result(), job.exists(), followed(job)] == [True, b"", True, (b"", 0)]


def test_who_stops_listening_to_a_system_that_broke_off_just_then_has_stopped(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a worker was frozen: the job's end has come, and behind it the connection's, which nobody has seen."""
    said_at_once = paramiko.Transport._send_message
    end_of_channel = paramiko.common.cMSG_CHANNEL_CLOSE

    def said_into_the_void(connection: paramiko.Transport, message: paramiko.Message) -> None:
        if message.asbytes().startswith(end_of_channel):
            connection.sock.shutdown(socket.SHUT_WR)
        said_at_once(connection, message)

    job.start("echo one; sleep 2")
    stream = job.follow(0)
    assert stream.read(timeout=5) == b"one\n"
    monkeypatch.setattr(paramiko.Transport, "_send_message", said_into_the_void)
    stream.close()
    with pytest.raises(transport.Unreachable):
        job.exists()
