"""Fault by fault: Clever has the old file or the whole new one, and the message says why.

Every case runs the unmodified script against the stand-ins, which misbehave, or in a place that
does. The settings are shortened, as an administrator could, so that the suite need not wait.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh
import district
import pytest
from clever import Clever
from job import Ended, Job
from powerschool import PowerSchool

OLD = b"yesterday's file"
QUICK = {"CONNECT_TIMEOUT_SECONDS": 2, "QUERY_TIMEOUT_SECONDS": 1, "RETRY_DELAY_SECONDS": 0}
NEW_FILES = {"Sections.csv", "Sections.uploaded.csv", "clever_sections.log"}

Fault = Callable[[str, int], "str | None"]


def at(where: str, wrong: str, times: int = 1_000, after: int = 0) -> Fault:
    """A fault at each step whose text holds `where`, for so many times, after some without it."""
    seen = 0

    def fault(step: str, number: int) -> str | None:
        nonlocal seen
        seen += where in step
        return wrong if where in step and after < seen <= after + times else None

    return fault


@pytest.fixture
def ready(quiet: PowerSchool, clever: Clever, job: Job) -> Job:
    """A connected job, with yesterday's file here and in Clever."""
    (clever.folder / "Sections.csv").write_bytes(OLD)
    job.output.write_bytes(OLD)
    return job.connect(quiet, clever).set(**QUICK)


def check_clean(job: Job, ended: Ended) -> None:
    """No noise, no secrets, no leftovers."""
    for text in (ended.stdout, ended.stderr, ended.log):
        for noise in ("Traceback", "Exception ignored", "Warning:", "Error in", 'File "'):
            assert noise not in text
        for name, secret in job.environment.items():
            assert "PASSWORD" not in name or not secret or secret not in text
    assert "Sections.csv.tmp" not in ended.files


def check_failed(job: Job, ended: Ended, *words: str, local: bytes = OLD) -> None:
    """It failed with one line that holds these words, and the file here is `local`."""
    assert ended.status == 1
    assert ended.stderr.startswith("ERROR ")
    assert ended.stderr.count("\n") == 1
    for word in words:
        assert word in ended.stderr
    assert ended.stderr in ended.log.split("\n")[-2][20:] + "\n"
    assert job.output.read_bytes() == local
    assert not job.uploaded.exists()
    check_clean(job, ended)


def check_remote(clever: Clever, content: bytes, *others: str) -> None:
    assert (clever.folder / "Sections.csv").read_bytes() == content
    assert sorted(os.listdir(clever.folder)) == sorted(["Sections.csv", *others])


def check_uploaded(job: Job, ended: Ended, clever: Clever, sections: int = 20) -> None:
    """All is well: the new file is whole, here and in Clever."""
    assert ended.status == 0
    content = job.output.read_bytes()
    assert content.count(b"\n") == sections + 1
    assert job.uploaded.read_bytes() == content
    assert ended.files == NEW_FILES
    check_remote(clever, content)
    check_clean(job, ended)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# --- The database ---


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("POWERSCHOOL_DB_PASSWORD", "Wrong-Oak-00", "ORA-01017"),
        ("POWERSCHOOL_READ_USER", "nobody", "ORA-01017"),
        ("POWERSCHOOL_PROD_DB", "127.0.0.1:{port}/OTHER", "DPY-6001"),
        ("POWERSCHOOL_PROD_DB", "127.0.0.1:{closed}/PSPROD", "Connection refused"),
        ("POWERSCHOOL_PROD_DB", "nowhere.invalid/PSPROD", "[Errno -"),
        ("POWERSCHOOL_PROD_DB", "no_such_alias", "DPY-4027"),
        ("POWERSCHOOL_PROD_DB", "ps_read/{password}@a:1:2/b//", "DPY-4018: cannot parse connect"),
    ],
)
def test_connecting_fails(
    ready: Job, quiet: PowerSchool, clever: Clever, variable: str, value: str, words: str
) -> None:
    ready.environment[variable] = value.format(
        port=quiet.port, closed=closed_port(), password=quiet.password
    )
    ended = ready.run(timeout=15)
    check_failed(ready, ended, "ERROR connecting to PowerSchool: ", words, "POWERSCHOOL_ variables")
    assert quiet.password not in ended.stderr + ended.log
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("step", "wrong", "words"),
    [
        ("CONNECT", "drop", "DPY-6005"),
        ("CONNECT", "hang", "no answer in time"),
        ("LOG IN", "drop", "DPY-4011"),
        ("LOG IN", "hang", "no answer in time"),
    ],
)
def test_connecting_never_succeeds(
    ready: Job, quiet: PowerSchool, clever: Clever, step: str, wrong: str, words: str
) -> None:
    quiet.fault = at(step, wrong)
    check_failed(ready, ready.run(timeout=15), "ERROR connecting to PowerSchool: ", words)
    check_remote(clever, OLD)


def test_a_dropped_connection_attempt_recovers(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    quiet.fault = at("CONNECT", "drop", times=2)
    check_uploaded(ready, ready.run(), clever)
    assert quiet.steps > 3


@pytest.mark.parametrize(
    ("table", "reading"),
    [
        ("schools", "reading the schools"),
        ("terms", "reading the terms of school 100"),
        ("sections", "reading the sections of school 100, term 3600"),
        ("courses", "reading the sections of school 100, term 3600"),
        ("sectionteacher", "reading the sections of school 100, term 3600"),
        ("teachers", "reading the sections of school 100, term 3600"),
        ("cc", "reading the sections of school 100, term 3600"),
    ],
)
def test_a_table_is_forbidden(
    ready: Job, quiet: PowerSchool, clever: Clever, table: str, reading: str
) -> None:
    ready.set(IGNORE_ZERO_ENROLLMENT_SECTIONS=True)
    district.change(quiet.database, f"DROP TABLE {table}")
    check_failed(ready, ready.run(), f"ERROR {reading}: ORA-00942")
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("where", "after", "wrong", "words"),
    [
        ("FROM schools", 0, "drop", "reading the schools: DPY-4011"),
        ("FROM terms", 1, "drop", "reading the terms of school 101: DPY-4011"),
        ("FROM sections", 7, "drop", "reading the sections of school 101, term 3603: DPY-4011"),
        ("FROM sections", 2, "cut", "reading the sections of school 100, term 3602: DPY-4011"),
        ("FROM sections", 7, "cut", "reading the sections of school 101, term 3603: DPY-4011"),
        ("FROM sections", 1, "hang", "reading the sections of school 100, term 3601: DPY-4011"),
        ("FROM sections", 1, "busy", "reading the sections of school 100, term 3601: DPY-4024"),
        ("FROM terms", 0, "ORA-01555: snapshot too old", "school 100: ORA-01555: snapshot too"),
    ],
)
def test_a_query_fails(
    ready: Job, quiet: PowerSchool, clever: Clever, where: str, after: int, wrong: str, words: str
) -> None:
    quiet.fault = at(where, wrong, after=after)
    check_failed(ready, ready.run(timeout=10), f"ERROR {words}" if "DPY" in words else words)
    check_remote(clever, OLD)


@pytest.mark.parametrize("wrong", ["drop", "cut", "ORA-03113: end-of-file on communication"])
def test_the_last_batch_of_many_rows_fails(
    tmp_path: Path, clever: Clever, ready: Job, wrong: str
) -> None:
    with PowerSchool(district.made(tmp_path / "large.db", 1, 16_000)) as powerschool:
        ready.connect(powerschool)
        assert ready.run("--dry-run").status == 0
        batches = sum("FROM sections" in query for query in powerschool.queries)
        assert powerschool.steps > 4 + batches  # rows came in more than one batch a query
        ready.output.write_bytes(OLD)
        powerschool.fault = at("FROM sections", wrong, after=powerschool.steps - 5)
        check_failed(ready, ready.run(), "ERROR reading the sections of school 100, term 3603: ")
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM schools", "PowerSchool shows no school. Check"),
        ("UPDATE schools SET state_excludefromreporting = 1", "PowerSchool shows no school. Check"),
        ("DELETE FROM sections", "PowerSchool shows no section. Check"),
    ],
)
def test_nothing_to_export(
    ready: Job, quiet: PowerSchool, clever: Clever, sql: str, words: str
) -> None:
    district.change(quiet.database, sql)
    check_failed(ready, ready.run(), words)
    check_remote(clever, OLD)


# --- Clever ---


def new_file(job: Job) -> bytes:
    """What the failed run has written: the whole new file, to be looked at."""
    content = job.output.read_bytes()
    assert content.count(b"\n") == 21
    return content


def test_clever_refuses_the_password_once(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_PASSWORD"] = "Wrong-Lake-00"
    ended = ready.run()
    words = "ERROR uploading to 127.0.0.1: Authentication failed. Check known_hosts"
    assert "attempt" not in ended.log
    check_failed(ready, ended, words, local=new_file(ready))
    check_remote(clever, OLD)
    assert clever.passwords == ["Wrong-Lake-00"]  # no second try, which could lock the account


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:{closed}", "uploading to 127.0.0.1: "),
        ("nowhere.invalid", "has no key of nowhere.invalid"),
        ("127.0.0.1:ssh", "CLEVER_SFTP_ADDRESS: Port could not be cast to integer"),
        ("sftp://", "has no key of"),
    ],
)
def test_clever_is_elsewhere(ready: Job, clever: Clever, address: str, words: str) -> None:
    closed = closed_port()
    ready.environment["CLEVER_SFTP_ADDRESS"] = address.format(closed=closed)
    ready.known_hosts.write_text(clever.known_hosts_line(host="127.0.0.1"))
    check_failed(ready, ready.run(timeout=15), words, local=new_file(ready))
    check_remote(clever, OLD)
    assert clever.passwords == []


def test_the_name_of_clever_is_not_found(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = "nowhere.invalid"
    ready.known_hosts.write_text(clever.known_hosts_line(host="nowhere.invalid"))
    ended = ready.run(timeout=15)
    check_failed(ready, ended, "uploading to nowhere.invalid: [Errno -", local=new_file(ready))
    check_remote(clever, OLD)


@pytest.mark.parametrize("address", ["sftp://127.0.0.1:{port}", "sftp://127.0.0.1:{port}/"])
def test_an_address_with_a_scheme(ready: Job, clever: Clever, address: str) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = address.format(port=clever.port)
    check_uploaded(ready, ready.run(), clever)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (None, "reading known_hosts: [Errno 2] No such file"),
        ("", "reading known_hosts: No Host Keys Found"),
        ("# only a comment\n", "reading known_hosts: No Host Keys Found"),
        ("[127.0.0.1]:{port} ssh-ed25519 AAAAC3Nza\n", "reading known_hosts: "),
        ("garbage that is no key\n", "reading known_hosts: "),
        ("\x00\x01\x02 \x03 \x04\n", "reading known_hosts: "),
        ("sftp.clever.com {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.0.0.1]:22 {key}\n", "known_hosts has no key of 127.0.0.1"),
        ("[127.0.0.1]:{port} {other}\n", "uploading to 127.0.0.1: Bad host key from server"),
        ("[127.0.0.1]:{port} {ecdsa}\n", "no acceptable host key"),
    ],
)
def test_known_hosts_does_not_vouch(
    ready: Job, clever: Clever, lines: str | None, words: str
) -> None:
    if lines is None:
        ready.known_hosts.unlink()
    else:
        keys = {
            "key": clever.known_hosts_line().split(" ", 1)[1],
            "other": public("ssh-ed25519"),
            "ecdsa": public("ecdsa-sha2-nistp256"),
        }
        ready.known_hosts.write_text(lines.format(port=clever.port, **keys))
    ended = ready.run()
    check_failed(ready, ended, words, "Check known_hosts as the README says", local=new_file(ready))
    check_remote(clever, OLD)
    assert clever.passwords == []
    assert "attempt" not in ended.log


def public(kind: str) -> str:
    return asyncssh.generate_private_key(kind).export_public_key().decode()


@pytest.mark.parametrize(
    ("key", "host"),
    [(0, ""), (1, ""), (2, ""), (0, "127.0.0.1"), (0, "sftp.clever.com,[127.0.0.1]:{port}")],
)
def test_known_hosts_vouches(
    tmp_path: Path, quiet: PowerSchool, job: Job, key: int, host: str
) -> None:
    kinds = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")
    with Clever(tmp_path / "many", key_types=kinds) as clever:
        job.connect(quiet, clever)
        line = clever.known_hosts_line(key, host.format(port=clever.port))
        other = f"other.example.org {public('ssh-ed25519')}"
        job.known_hosts.write_text(f"# a comment\n\n{other}{line}")
        check_uploaded(job, job.run(), clever)


def test_a_hashed_known_hosts_vouches(ready: Job, clever: Clever) -> None:
    hash_names = ["ssh-keygen", "-q", "-H", "-f", ready.known_hosts]
    subprocess.run(hash_names, check=True, capture_output=True)
    ready.known_hosts.with_suffix(".old").unlink()
    assert "127.0.0.1" not in ready.known_hosts.read_text()
    check_uploaded(ready, ready.run(), clever)


@pytest.fixture
def large(tmp_path: Path, ready: Job) -> Job:
    """The job with a file that takes several writes to upload."""
    with PowerSchool(district.made(tmp_path / "large.db", 2, 1500)) as powerschool:
        yield ready.connect(powerschool)


LOST = "ERROR uploading to 127.0.0.1: "


@pytest.mark.parametrize(
    ("step", "wrong", "after", "left"),
    [
        ("LOG IN", "cut", 0, []),
        ("WRITE", "cut", 0, ["Sections.csv.tmp"]),
        ("WRITE", "cut", 2, ["Sections.csv.tmp"]),
        ("RENAME", "cut", 0, ["Sections.csv.tmp"]),
        ("WRITE", "lose", 4, []),
        ("WRITE", "No space left on device", 0, []),
        ("WRITE", "No space left on device", 2, []),
        ("WRITE", "hang", 2, ["Sections.csv.tmp"]),
        ("RENAME", "hang", 0, ["Sections.csv.tmp"]),
        ("LOG IN", "hang", 0, []),
    ],
)
def test_an_upload_fails_every_time(
    large: Job, clever: Clever, step: str, wrong: str, after: int, left: list[str]
) -> None:
    clever.fault = at(step, wrong, after=after)
    ended = large.run(timeout=25)
    words = {"cut": "", "hang": "no answer in time", "lose": "the file has not arrived whole"}
    check_failed(large, ended, LOST + words.get(wrong, wrong), local=large.output.read_bytes())
    assert large.output.read_bytes().count(b"\n") == 1501
    check_remote(clever, OLD, *left)
    assert "attempt 2: uploading to" in ended.log


@pytest.mark.parametrize(
    ("step", "wrong"),
    [
        ("LOG IN", "cut"),
        ("WRITE", "cut"),
        ("RENAME", "cut"),
        ("WRITE", "hang"),
        ("WRITE", "No space left on device"),
    ],
)
def test_an_upload_fails_once(large: Job, clever: Clever, step: str, wrong: str) -> None:
    clever.fault = at(step, wrong, times=1)
    ended = large.run(timeout=20)
    check_uploaded(large, ended, clever, 1500)
    assert ended.stderr == ""
    assert "attempt 1: uploading to" in ended.log


def test_the_next_try_waits(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    tries: dict[str, list[float]] = {"CONNECT": [], "LOG IN": []}

    def once(wrong: str, where: str) -> Fault:
        def fault(step: str, _: int) -> str | None:
            if step != where:
                return None
            tries[where].append(time.monotonic())
            return wrong if len(tries[where]) == 1 else None

        return fault

    quiet.fault, clever.fault = once("drop", "CONNECT"), once("cut", "LOG IN")
    check_uploaded(ready, ready.set(RETRY_DELAY_SECONDS=1).run(), clever)
    waits = [later - earlier for earlier, later in tries.values()]
    assert len(waits) == 2
    assert all(1 <= wait < 2 for wait in waits)


def test_a_slow_upload_is_not_a_stalled_one(large: Job, clever: Clever) -> None:
    clever.fault = at("WRITE", "slow")  # five times: longer than CONNECT_TIMEOUT_SECONDS in all
    check_uploaded(large, large.run(), clever, 1500)
    assert clever.counts["WRITE"] == 5


def test_clever_refuses_to_rename(large: Job, clever: Clever) -> None:
    beside: list[str] = []

    def fault(step: str, _: int) -> str | None:
        if "RENAME" in clever.counts:
            beside.extend(os.listdir(clever.folder))
        return "Operation unsupported" if step == "RENAME" else None

    clever.fault = fault
    ended = large.run()
    assert beside.count("Sections.csv.tmp") == 2  # at RENAME and REMOVE; gone before it is written
    check_uploaded(large, ended, clever, 1500)
    assert ended.stderr.startswith("WARNING Clever refuses to rename, so it is written directly: ")
    assert "Operation unsupported" in ended.stderr


def test_a_server_that_never_answers(ready: Job, clever: Clever) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{port}"
        ready.known_hosts.write_text(clever.known_hosts_line(host=f"[127.0.0.1]:{port}"))
        ended = ready.run(timeout=15)
    check_failed(ready, ended, LOST + "no answer in time", local=new_file(ready))


# --- Here ---


@pytest.mark.parametrize("empty", [True, False])
def test_missing_variables(ready: Job, clever: Clever, empty: bool) -> None:
    for name in ("POWERSCHOOL_PROD_DB", "CLEVER_SFTP_PASSWORD"):
        if empty:
            ready.environment[name] = ""
        else:
            del ready.environment[name]
    ended = ready.run()
    words = "ERROR missing or empty variables: POWERSCHOOL_PROD_DB, CLEVER_SFTP_PASSWORD\n"
    assert (ended.status, ended.stderr) == (2, words)
    assert words in ended.log
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize(
    "options", [["--date", "yesterday"], ["--date", "2026-02-30"], ["--dryrun"], ["--dry-run", "x"]]
)
def test_a_wrong_command_line(ready: Job, quiet: PowerSchool, options: list[str]) -> None:
    ended = ready.run(*options)
    assert ended.status == 2
    assert options[-1] in ended.stderr
    assert ended.files == {"Sections.csv"}
    assert quiet.round_trips == 0
    check_clean(ready, ended)


def test_the_disk_is_full(ready: Job, clever: Clever) -> None:
    (ready.folder / "Sections.csv.tmp").symlink_to("/dev/full")
    check_failed(
        ready, ready.run(), "ERROR writing Sections.csv: [Errno 28] No space left on device"
    )
    check_remote(clever, OLD)


def test_the_folder_is_not_writable(ready: Job, clever: Clever) -> None:
    ready.log.touch()
    ready.folder.chmod(0o555)
    # Root may write everywhere, unless it gives up the right to.
    drop = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
    process = ready.start(before=drop if os.geteuid() == 0 else [])
    check_failed(
        ready, ready.end(process), "ERROR writing Sections.csv: [Errno 13] Permission denied"
    )
    check_remote(clever, OLD)


def test_the_disk_is_full_for_the_log_as_well(ready: Job, clever: Clever) -> None:
    for path in (ready.log, ready.folder / "Sections.csv.tmp"):
        path.symlink_to("/dev/full")
    process = ready.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert stderr.startswith("ERROR writing Sections.csv: [Errno 28] No space left on device")
    assert stderr.count("\n") == 1
    check_remote(clever, OLD)


def test_the_log_is_not_writable(ready: Job, clever: Clever) -> None:
    ready.log.mkdir()
    process = ready.start()
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "opening the log: [Errno 21] Is a directory" in stderr
    assert stderr.count("\n") == 1
    check_remote(clever, OLD)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is true, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("wrong", ["busy", "hang"])
def test_interrupted_while_querying(
    ready: Job, quiet: PowerSchool, clever: Clever, number: int, status: int, wrong: str
) -> None:
    ready.set(QUERY_TIMEOUT_SECONDS=60)
    asked: list[str] = []

    def fault(step: str, _: int) -> str | None:
        asked.append(step)
        return wrong if "FROM sections" in step else None

    quiet.fault = fault
    process = ready.start()
    wait_for(lambda: asked and "FROM sections" in asked[-1])
    wait_for((ready.folder / "Sections.csv.tmp").exists)
    process.send_signal(number)
    ended = ready.end(process, timeout=10)
    assert ended.status == status
    assert ended.stderr == "ERROR interrupted: Clever has the old file or the whole new one\n"
    assert ended.files == {"Sections.csv", "clever_sections.log"}
    assert ready.output.read_bytes() == OLD
    check_clean(ready, ended)
    check_remote(clever, OLD)


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_interrupted_while_uploading(large: Job, clever: Clever, number: int, status: int) -> None:
    large.set(CONNECT_TIMEOUT_SECONDS=60)
    clever.fault = at("WRITE", "hang", after=1, times=1)
    process = large.start()
    wait_for(lambda: clever.counts.get("WRITE", 0) > 1)
    process.send_signal(number)
    ended = large.end(process, timeout=10)
    assert ended.status == status
    assert ended.files == {"Sections.csv", "clever_sections.log"}
    check_clean(large, ended)
    assert (clever.folder / "Sections.csv").read_bytes() == OLD


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_interrupted_between_tries(ready: Job, clever: Clever, number: int, status: int) -> None:
    ready.set(RETRY_DELAY_SECONDS=60)
    clever.fault = at("WRITE", "No space left on device")
    process = ready.start()
    wait_for(
        lambda: "attempt 1: uploading to" in (ready.log.read_text() if ready.log.exists() else "")
    )
    process.send_signal(number)
    ended = ready.end(process, timeout=10)
    assert ended.status == status
    assert ended.stderr.startswith("ERROR interrupted: ")
    check_clean(ready, ended)
    check_remote(clever, OLD)


def test_two_runs_at_once(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    ready.set(QUERY_TIMEOUT_SECONDS=60)
    quiet.fault = at("FROM schools", "busy", times=1)
    first = ready.start()
    wait_for(lambda: quiet.steps == 3)
    second = ready.end(ready.start())
    assert second.status == 1
    assert second.stderr.startswith("ERROR another run is at work: ")
    assert second.files == {"Sections.csv", "Sections.csv.tmp", "clever_sections.log"}
    first.kill()  # crashes, and leaves what it was writing
    first.communicate()
    check_uploaded(ready, ready.run(), clever)


# --- The guard against vanishing sections ---


@pytest.fixture
def guarded(quiet: PowerSchool, clever: Clever, job: Job) -> Job:
    """A job after its first upload: 20 sections, of which 5 end on 2026-12-18."""
    check_uploaded(job.connect(quiet, clever).set(**QUICK), job.run(), clever)
    return job


def test_the_guard_refuses(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    ended = guarded.run()
    assert ended.status == 1
    assert ended.stderr == (
        "ERROR 6 of 20 current sections would vanish (school 100: 3, school 101: 3). "
        "Look at Sections.csv; if it is right, run once with --force\n"
    )
    assert guarded.output.read_bytes().count(b"\n") == 15
    assert guarded.uploaded.read_bytes() == before
    check_remote(clever, before)
    check_clean(guarded, ended)


def test_the_guard_lets_a_quarter_go(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 5")
    check_uploaded(guarded, guarded.run(), clever, 15)


def test_the_guard_is_forced(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 19")
    check_uploaded(guarded, guarded.run("--force"), clever, 1)


def test_a_school_that_vanishes(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(
        quiet.database, "UPDATE schools SET state_excludefromreporting = 1 WHERE id = 101"
    )
    ended = guarded.run()
    assert "10 of 20 current sections would vanish (school 101: 10)" in ended.stderr
    check_remote(clever, before)


def test_a_new_school_year_passes(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    sql = """
        UPDATE terms SET id = id + 100, yearid = 37, firstday = '2027-08-16 00:00:00',
            lastday = '2028-06-02 00:00:00';
        UPDATE sections SET id = id + 1000, termid = termid + 100;
    """
    district.change(quiet.database, sql)
    check_uploaded(guarded, guarded.run("--date", "2027-08-16"), clever)


def test_the_last_day_of_a_term_is_not_past(guarded: Job, quiet: PowerSchool) -> None:
    district.change(quiet.database, "DELETE FROM sections")
    district.change(
        quiet.database, "INSERT INTO sections VALUES (99, 100, 3600, 'C1', '1', '1', 9, 1)"
    )
    ended = guarded.run("--dry-run", "--date", "2026-12-18")
    assert "20 of 20 current sections would vanish" in ended.stderr
    ended = guarded.run("--dry-run", "--date", "2026-12-19")
    assert "10 of 10 current sections would vanish" in ended.stderr


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"a,b\n1,2\n", b"\xff\xfe\x00", "half a row", "date"]
)
def test_a_broken_copy_is_a_warning(
    guarded: Job, quiet: PowerSchool, clever: Clever, content: bytes | str
) -> None:
    whole = guarded.uploaded.read_bytes()
    if content == "half a row":
        content = whole[: whole.rindex(b",Course")]
    elif content == "date":
        content = whole.replace(b"06/04/2027", b"soon")
    guarded.uploaded.write_bytes(content)
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert ended.stderr.startswith(
        "WARNING Sections.uploaded.csv is broken, so nothing is compared: "
    )
    assert ended.stderr.count("\n") == 1


def test_the_copy_cannot_be_kept(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    guarded.uploaded.unlink()
    guarded.uploaded.mkdir()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR uploaded, but not copied to Sections.uploaded.csv: " in ended.stderr
    check_remote(clever, guarded.output.read_bytes())


def test_packages_are_missing(ready: Job) -> None:
    run = subprocess.run(
        [sys.executable, "-S", ready.script], env={}, capture_output=True, text=True, timeout=20
    )
    assert run.returncode == 1
    assert run.stderr == (
        "ERROR No module named 'oracledb': run python3 -m pip install -r requirements.txt\n"
    )
