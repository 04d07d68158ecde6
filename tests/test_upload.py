"""The upload, fault by fault: Clever has the old file or the whole new one, byte for byte.

Every case runs the unmodified script as its own process against the stand-in that is as strict as
Clever's own server. test_sshd.py has the same for OpenSSH.
"""

import os
import socket
import time
from pathlib import Path

import district
import pytest
from checks import OLD, check_clean, check_failed, check_remote, check_uploaded, new_file
from clever import Clever
from faults import DROP, HALF, HANG, LOSE, SLOW, Fault, at
from hosts import Hosts, silent
from job import Ended, Job
from line import Line
from powerschool import PowerSchool

TEMPORARY = "Sections.csv.tmp"
FAILED = "ERROR uploading to 127.0.0.1: "
NO_ANSWER = "no answer in time. Check CLEVER_SFTP_ADDRESS, and the firewalls"
NO_ANSWER_LATER = "no answer in time, after the log-in. If it happens again, set CONNECT_TIMEOUT_S"
IN_PLACE = "INFO Clever cannot rename, so Sections.csv is written in place: "


def one_of(*faults: Fault) -> Fault:
    """Several faults at once."""

    def fault(step: str) -> str | None:
        answers = [fault(step) for fault in faults]
        return next((answer for answer in answers if answer), None)

    return fault


NO_RENAME = at("RENAME", "Operation unsupported")


def check_stored(clever: Clever, *names: str) -> None:
    """These names were stored, in this order, and nothing under them but what Clever has now."""
    content = (clever.folder / "Sections.csv").read_bytes()
    assert clever.stored == [(name, content) for name in names]


def attempts(ended: Ended) -> int:
    return ended.log.count("INFO attempt ") + 1


# --- All is well ---


def test_the_new_file_is_sent_under_another_name_and_renamed(large: Job, clever: Clever) -> None:
    check_uploaded(large, large.run(), clever, 1500)
    check_stored(clever, TEMPORARY)
    assert not [step for step in clever.steps if "EXTENDED" in step]
    assert [step for step in clever.steps if step == f"WRITE {TEMPORARY}"] == clever.steps[11:16]
    assert clever.steps.count("LOG IN") == 1


def test_a_leftover_of_the_same_size_does_not_pass_for_the_new_file(
    large: Job, clever: Clever
) -> None:
    large.run("--dry-run")
    leftover = large.output.read_bytes().replace(b"Course", b"Curses")
    (clever.folder / TEMPORARY).write_bytes(leftover)
    clever.fault = at("CLOSE Sections", LOSE, times=1)  # so that it would
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, TEMPORARY)
    assert attempts(ended) == 2


def test_a_leftover_that_cannot_be_removed_does_not_pass_either(large: Job, clever: Clever) -> None:
    large.run("--dry-run")
    leftover = large.output.read_bytes().replace(b"Course", b"Curses")
    (clever.folder / TEMPORARY).write_bytes(leftover)
    clever.fault = one_of(at("REMOVE", "Permission denied"), at("CLOSE Sections", LOSE, times=1))
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    assert attempts(ended) == 2
    assert "INFO Sections.csv.tmp may stay in Clever's folder: [Errno 13] Permission" in ended.log


def test_names_that_begin_like_ours_do_not_count(large: Job, clever: Clever) -> None:
    (clever.folder / "Sections.csv.tmp.old").write_bytes(b"x")
    (clever.folder / "sections.csv").write_bytes(b"y")
    ended = large.run()
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(clever, new_file(large, 1500), "Sections.csv.tmp.old", "sections.csv")


def test_a_slow_server_is_not_a_silent_one(large: Job, clever: Clever) -> None:
    clever.fault = at("WRITE", SLOW)  # five times: longer than CONNECT_TIMEOUT_SECONDS in all
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    assert ended.seconds > 3.5
    assert attempts(ended) == 1


def test_a_slow_line(quiet: PowerSchool, clever: Clever, job: Job) -> None:
    with Line(clever.port, delay=0.1) as line:
        ended = job.connect(quiet, clever, line).set(CONNECT_TIMEOUT_SECONDS=5).run()
    check_uploaded(job, ended, clever)
    assert attempts(ended) == 1


def test_the_writes_do_not_wait_for_each_other(large: Job, clever: Clever) -> None:
    """Over a line with a delay, five writes take little more than one."""
    took = {}
    for delay in (0.0, 0.15):
        with Line(clever.port, delay) as line:
            large.connect(clever=clever, line=line).set(CONNECT_TIMEOUT_SECONDS=9)
            ended = large.run()
        check_uploaded(large, ended, clever, 1500)
        took[delay] = ended.seconds
    round_trips = (took[0.15] - took[0.0]) / (2 * 0.15)
    assert round_trips < 20  # 17.7 as a rule; 21.8 if each write waited for its answer


def test_answers_out_of_order(large: Job, clever: Clever) -> None:
    clever.shuffles = True
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, TEMPORARY)
    assert attempts(ended) == 2


# --- Servers that cannot rename ---


@pytest.mark.parametrize("extensions", [False, True])
@pytest.mark.parametrize("remove", ["", "Permission denied"])
def test_a_server_that_cannot_rename(
    large: Job, clever: Clever, extensions: bool, remove: str
) -> None:
    """Clever's own server ends the session over a posix-rename; others refuse it."""
    clever.extensions = extensions
    faults = [NO_RENAME]
    if extensions:
        faults.append(at("EXTENDED", "Failure"))
    if remove:
        faults.append(at("REMOVE", remove))
    clever.fault = one_of(*faults)
    ended = large.run()
    assert (ended.status, ended.stderr) == (0, "")
    others = [TEMPORARY] if remove else []
    check_remote(clever, new_file(large, 1500), *others)
    check_stored(clever, TEMPORARY, "Sections.csv")
    assert ended.log.count(IN_PLACE + "Operation unsupported; ") == 1
    assert attempts(ended) == 1
    check_clean(large, ended)


def test_a_line_that_breaks_over_posix_rename(large: Job, clever: Clever) -> None:
    """A server that can rename is not taken for one that cannot: nothing is written in place."""
    clever.extensions = True
    clever.fault = one_of(NO_RENAME, at("EXTENDED", DROP, times=1))
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, TEMPORARY)
    assert IN_PLACE not in ended.log
    assert attempts(ended) == 1


def test_an_answer_to_posix_rename_that_is_lost(large: Job, clever: Clever) -> None:
    clever.extensions = True
    clever.fault = one_of(NO_RENAME, at("EXTENDED", HALF))
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, TEMPORARY)
    assert IN_PLACE not in ended.log


@pytest.mark.parametrize("remove", ["", "Permission denied"])
def test_a_server_that_can_neither_rename_nor_be_read(
    large: Job, clever: Clever, remove: str
) -> None:
    """Every night, also with a file of the size that is there already."""
    faults = [NO_RENAME, at("OPEN .* to read", "not supported")]
    if remove:
        faults.append(at("REMOVE", remove))
    clever.fault = one_of(*faults)
    for _ in range(3):
        ended = large.run()
        assert (ended.status, ended.stderr) == (0, "")
        others = [TEMPORARY] if remove else []
        check_remote(clever, new_file(large, 1500), *others)
        assert "INFO attempt" not in ended.log


def test_a_posix_rename_where_a_plain_one_is_refused(large: Job, clever: Clever) -> None:
    clever.extensions = True
    clever.fault = NO_RENAME
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, TEMPORARY)
    assert IN_PLACE not in ended.log


def test_a_file_of_the_same_size_is_written_in_place(large: Job, clever: Clever) -> None:
    large.run("--dry-run")
    old = large.output.read_bytes().replace(b"Course", b"Curses")
    (clever.folder / "Sections.csv").write_bytes(old)
    clever.fault = one_of(NO_RENAME, at("CLOSE Sections.csv$", "Storing failed", times=1))
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    assert clever.stored[-1] == ("Sections.csv", large.output.read_bytes())
    assert "INFO attempt 1: uploading to 127.0.0.1: the file has not arrived whole" in ended.log
    assert ended.log.count(IN_PLACE) == 1


def test_a_silence_while_a_file_is_read_back(large: Job, clever: Clever) -> None:
    """It says nothing of what is stored, so the file is sent again."""
    large.run("--dry-run")
    old = large.output.read_bytes().replace(b"Course", b"Curses")

    def fault(step: str) -> str | None:
        if step == "STAT Sections.csv":  # of the same second as the old one, before and after
            os.utime(clever.folder / "Sections.csv", (1, 1))
        return None

    (clever.folder / "Sections.csv").write_bytes(old)
    clever.fault = one_of(
        fault,
        NO_RENAME,
        at("CLOSE Sections.csv$", LOSE, times=1),
        at("OPEN Sections.csv to read", HANG, times=1),
    )
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    assert attempts(ended) == 2


# --- Refusals ---


@pytest.mark.parametrize("place", ["", "Sections.csv$"])
@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_write_is_refused(large: Job, clever: Clever, place: str, after: int) -> None:
    """The first, a middle and the last one of five; also while the file is written in place."""
    faults = [at(f"WRITE {place}", "No space left on device", after=after)]
    if place:
        faults.append(NO_RENAME)
    clever.fault = one_of(*faults)
    ended = large.run()
    check_failed(
        large,
        ended,
        FAILED + "No space left on device. Ask Clever's support to make room",
        local=new_file(large, 1500),
    )
    check_remote(clever, OLD)
    assert {name for name, _ in clever.stored} == ({TEMPORARY} if place else set())
    assert attempts(ended) == 3
    assert ended.log.count(IN_PLACE) == bool(place)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_write_is_refused_once(large: Job, clever: Clever, in_place: bool, after: int) -> None:
    where = "WRITE Sections.csv$" if in_place else "WRITE"
    faults = [at(where, "Failure", times=1, after=after)]
    if in_place:
        faults.append(NO_RENAME)
    clever.fault = one_of(*faults)
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    check_stored(clever, *[TEMPORARY, "Sections.csv"][: 1 + in_place])
    assert attempts(ended) == 2


def test_the_last_write_of_a_file_that_fills_its_pieces(
    tmp_path: Path, ready: Job, clever: Clever
) -> None:
    """Its refusal is noticed, too, where the size is a multiple of a piece of 32,000 bytes."""
    database = district.made(tmp_path / "even.db", 2, 1500)
    with PowerSchool(database) as powerschool:
        ready.connect(powerschool).run("--dry-run")
        missing = -ready.output.stat().st_size % 32_000
        for section in range(1, 11):
            text = "x" * (missing // 10 + (section <= missing % 10))
            change = f"UPDATE sections SET section_number = section_number || '{text}'"
            district.change(database, f"{change} WHERE id = {section}")
        ready.run("--dry-run")
        assert ready.output.stat().st_size % 32_000 == 0
        pieces = ready.output.stat().st_size // 32_000
        clever.fault = at("WRITE", "No space left on device", after=pieces - 1)
        ended = ready.run()
    check_failed(ready, ended, FAILED, "No space left", local=new_file(ready, 1500))
    assert "attempt 1: uploading to 127.0.0.1: No space left on device" in ended.log
    assert clever.stored == []


@pytest.mark.parametrize("wrong", ["Storing failed", LOSE])
@pytest.mark.parametrize("in_place", [False, True])
def test_storing_is_refused(large: Job, clever: Clever, in_place: bool, wrong: str) -> None:
    """It is the answer to the close, which paramiko keeps to itself."""
    faults = [at("CLOSE Sections.csv$" if in_place else "CLOSE Sections", wrong)]
    if in_place:
        faults.append(NO_RENAME)
    clever.fault = one_of(*faults)
    ended = large.run()
    words = FAILED + "the file has not arrived whole. "
    check_failed(large, ended, words, local=new_file(large, 1500))
    check_remote(clever, OLD)
    assert {name for name, _ in clever.stored} == ({TEMPORARY} if in_place else set())
    assert attempts(ended) == 3


def test_the_file_cannot_be_opened(large: Job, clever: Clever) -> None:
    clever.fault = at("OPEN", "Permission denied")
    ended = large.run()
    words = "Permission denied. Ask Clever's support to let the account write Sections.csv and Sec"
    check_failed(large, ended, FAILED, words, local=new_file(large, 1500))
    assert attempts(ended) == 3
    check_remote(clever, OLD)


def test_what_was_written_is_lost(large: Job, clever: Clever) -> None:
    clever.fault = at("WRITE", LOSE, after=4)
    ended = large.run()
    words = FAILED + "the file has not arrived whole. "
    clever.fault = None
    # The second and third attempt lose all they write.
    check_failed(large, ended, words, local=new_file(large, 1500))
    check_remote(clever, OLD)


# --- Cuts ---


@pytest.mark.parametrize(
    ("where", "after", "wrong", "left"),
    [
        ("CONNECT", 0, DROP, []),
        ("LOG IN", 0, DROP, []),
        ("SESSION", 0, DROP, []),
        ("INIT", 0, DROP, []),
        ("REMOVE", 0, DROP, []),
        ("REMOVE", 0, HALF, []),
        ("OPEN", 0, DROP, []),
        ("OPEN", 0, HALF, []),
        ("WRITE", 0, DROP, []),
        ("WRITE", 0, HALF, []),
        ("WRITE", 2, DROP, []),
        ("WRITE", 2, HALF, []),
        ("CLOSE Sections", 0, DROP, []),
        ("CLOSE Sections", 0, HALF, [TEMPORARY]),
        ("STAT", 1, DROP, []),
        ("STAT", 1, HALF, []),
        ("RENAME", 0, DROP, [TEMPORARY]),
    ],
)
def test_the_connection_is_cut_every_time(
    large: Job, clever: Clever, where: str, after: int, wrong: str, left: list[str]
) -> None:
    clever.fault = at(where, wrong, after=after)
    ended = large.run()
    check_failed(large, ended, FAILED, "Clever's support", local=new_file(large, 1500))
    check_remote(clever, OLD, *left)
    assert attempts(ended) == 3


def test_the_answer_to_the_rename_is_cut_every_time(large: Job, clever: Clever) -> None:
    """It was done, and not said: the run fails, and Clever has the whole new file."""
    clever.fault = at("RENAME", HALF)
    ended = large.run()
    check_failed(large, ended, FAILED, local=new_file(large, 1500))
    check_remote(clever, new_file(large, 1500))


@pytest.mark.parametrize(
    ("where", "after"),
    [
        ("CONNECT", 0),
        ("LOG IN", 0),
        ("SESSION", 0),
        ("INIT", 0),
        ("REMOVE", 0),
        ("OPEN", 0),
        ("WRITE", 0),
        ("WRITE", 3),
        ("CLOSE Sections", 0),
        ("STAT", 1),
        ("RENAME", 0),
    ],
)
def test_the_connection_is_cut_once(large: Job, clever: Clever, where: str, after: int) -> None:
    clever.fault = at(where, DROP, times=1, after=after)
    ended = large.run()
    check_uploaded(large, ended, clever, 1500)
    assert attempts(ended) == 2


@pytest.mark.parametrize("part", [0, 0.02, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_the_line_is_cut_after_any_number_of_bytes(large: Job, clever: Clever, part: float) -> None:
    with Line(clever.port) as line:
        assert large.connect(clever=clever, line=line).run().status == 0
        whole = line.bytes_sent
        large.uploaded.unlink()
        large.output.write_bytes(OLD)
        (clever.folder / "Sections.csv").write_bytes(OLD)
        # A cut while the ids are read is no failed attempt.
        line.cuts = [int(part * whole)] * 4
        ended = large.run()
        new = new_file(large, 1500)
        assert ended.status == 1
        check_clean(large, ended)
        assert (clever.folder / "Sections.csv").read_bytes() == OLD
        line.cuts = [int(part * whole)]
        large.output.write_bytes(OLD)
        check_uploaded(large, large.run(), clever, 1500)
        assert {content for _, content in clever.stored} == {new}


# --- Silence ---


@pytest.mark.parametrize(
    ("where", "after", "left"),
    [
        ("LOG IN", 0, []),
        ("SESSION", 0, []),
        ("INIT", 0, []),
        ("REMOVE", 0, []),
        ("STAT", 0, []),
        ("OPEN", 0, []),
        ("WRITE", 0, []),
        ("WRITE", 3, []),
        ("CLOSE Sections", 0, []),
        ("STAT", 1, []),
        ("RENAME", 0, [TEMPORARY]),
    ],
)
def test_no_answer_at_a_step(
    large: Job, clever: Clever, where: str, after: int, left: list[str]
) -> None:
    clever.fault = at(where, HANG, after=after)
    ended = large.run(timeout=25)
    words = NO_ANSWER if where in ("LOG IN", "SESSION", "INIT") else NO_ANSWER_LATER
    check_failed(large, ended, FAILED + words, local=new_file(large, 1500))
    check_remote(clever, OLD, *left)
    assert attempts(ended) == 3
    assert 3 * 2 <= ended.seconds < 20


def test_no_answer_to_the_posix_rename(large: Job, clever: Clever) -> None:
    clever.fault = one_of(NO_RENAME, at("EXTENDED", HANG, times=1))
    ended = large.run(timeout=25)
    check_uploaded(large, ended, clever, 1500)
    assert attempts(ended) == 2


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-Quiet\r\n"])
def test_a_server_that_says_nothing_or_no_more_than_its_name(
    ready: Job, clever: Clever, greeting: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{port}"
        ready.known_hosts.write_text(clever.known_hosts_line(host=f"[127.0.0.1]:{port}"))
        process = ready.start()
        connections = []
        mute.settimeout(10)
        for _ in range(3):
            connection, _ = mute.accept()
            connection.sendall(greeting)
            connections.append(connection)
        ended = ready.end(process, timeout=15)
        for connection in connections:
            connection.close()
    check_failed(ready, ended, FAILED + NO_ANSWER, local=new_file(ready))


# --- Two addresses for one host ---


def test_the_second_address_of_clever(ready: Job, clever: Clever, hosts: Hosts) -> None:
    hosts.name("clever.test", "127.77.0.1", "127.0.0.1")
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"clever.test:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=f"[clever.test]:{clever.port}"))
    with silent("127.77.0.1", clever.port):
        ended = ready.set(CONNECT_TIMEOUT_SECONDS=4).run()
    check_uploaded(ready, ended, clever)
    assert "INFO clever.test, at 127.77.0.1: no answer in time\n" in ended.log
    assert attempts(ended) == 1


def test_a_dead_address_leaves_time_for_the_next(ready: Job, clever: Clever, hosts: Hosts) -> None:
    """Its log-in takes two seconds."""
    hosts.name("clever.test", "127.77.0.1", "127.0.0.1")
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"clever.test:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=f"[clever.test]:{clever.port}"))
    clever.fault = at("LOG IN|SESSION|INIT", SLOW)
    with silent("127.77.0.1", clever.port):
        ended = ready.set(CONNECT_TIMEOUT_SECONDS=7).run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 1


def test_a_refused_password_is_not_tried_at_the_second_address(
    ready: Job, clever: Clever, hosts: Hosts
) -> None:
    hosts.name("clever.test", "127.0.0.1", "127.0.0.1")
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"clever.test:{clever.port}"
    ready.environment["CLEVER_SFTP_PASSWORD"] = "Wrong-Lake-00"
    ready.known_hosts.write_text(clever.known_hosts_line(host=f"[clever.test]:{clever.port}"))
    ended = ready.run()
    check_failed(ready, ended, "Authentication failed. Check CLEVER_", local=new_file(ready))
    assert clever.passwords == ["Wrong-Lake-00"]


# --- Tries ---


def test_the_next_try_waits(ready: Job, clever: Clever) -> None:
    tries: list[float] = []

    def fault(step: str) -> str | None:
        if step != "LOG IN":
            return None
        tries.append(time.monotonic())
        return DROP if len(tries) == 1 else None

    clever.fault = fault
    check_uploaded(ready, ready.set(RETRY_DELAY_SECONDS=1).run(), clever)
    assert 1 <= tries[1] - tries[0] < 5


@pytest.mark.parametrize("password", ["Wrong-Lake-00", "failed", "a", "Authentication failed."])
def test_clever_refuses_the_password_once(ready: Job, clever: Clever, password: str) -> None:
    ready.environment["CLEVER_SFTP_PASSWORD"] = password
    ended = ready.run()
    words = "Authentication failed. Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD"
    assert ended.status == 1
    if password != "Authentication failed.":
        assert ended.stderr == f"{FAILED}{words}\n"
    assert attempts(ended) == 1
    check_remote(clever, OLD)
    assert clever.passwords == [password]  # no second try, which could lock the account


def test_clever_takes_no_password(ready: Job, clever: Clever, tmp_path: Path) -> None:
    with Clever(tmp_path / "keys only", passwords=False) as keys_only:
        ended = ready.connect(clever=keys_only).run()
    words = "Bad authentication type; allowed types: ['publickey']. Clever takes no password for"
    check_failed(ready, ended, FAILED + words, local=new_file(ready))
    assert attempts(ended) == 1


def test_clever_refuses_the_connection(ready: Job, clever: Clever, closed_port: int) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{closed_port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host="127.0.0.1"))
    ended = ready.run()
    words = "Connection refused. Check host and port in CLEVER_SFTP_ADDRESS"
    check_failed(ready, ended, FAILED, words, local=new_file(ready))
    check_remote(clever, OLD)
    assert attempts(ended) == 3


def test_the_name_of_clever_is_not_found(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = "nowhere.invalid"
    ready.known_hosts.write_text(clever.known_hosts_line(host="nowhere.invalid"))
    ended = ready.run()
    words = "Check the host's name in CLEVER_SFTP_ADDRESS, and this machine's DNS"
    check_failed(ready, ended, "uploading to nowhere.invalid: ", words, local=new_file(ready))
    check_remote(clever, OLD)
    assert attempts(ended) == 3


def test_the_password_is_in_no_answer_of_the_server(ready: Job, clever: Clever) -> None:
    """Not even where a server says it."""
    clever.fault = at("OPEN", f"no file for {clever.password}")
    ended = ready.run()
    check_failed(ready, ended, "no file for *****", local=new_file(ready))
    assert not os.listdir(clever.folder.parent / "job").count("Sections.uploaded.csv")


def test_the_clever_stand_in_drops_what_is_not_closed(tmp_path: Path, large: Job) -> None:
    """The stand-in is as strict as the real server, so that the tests above mean something."""
    with Clever(tmp_path / "strict", at("CLOSE", DROP)) as strict:
        large.connect(clever=strict).run()
        assert strict.stored == []
        assert strict.files() == []
