"""What happens at Clever, fault by fault: it has the old file or the whole new one, byte for byte.

Every case runs the unmodified script as its own process against the stand-in that is as strict as
Clever's own server. The job logs in twice a night: to look, then to upload. test_sshd.py has the
same for OpenSSH.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from checks import (
    OLD,
    check_attempts,
    check_clean,
    check_failed,
    check_remote,
    check_uploaded,
    new_file,
    wait_for,
)
from clever import Clever
from conftest import Inside
from faults import (
    DEAF,
    DROP,
    ENDLESS,
    HALF,
    HANG,
    HUGE,
    LOSE,
    LOST,
    SLOW,
    TRICKLE,
    Fault,
    at,
    in_turn,
)
from hosts import Hosts, silent
from job import Ended, Job
from line import Line

import clever_sections

TEMPORARY = "Sections.csv.tmp"
FAILED = "ERROR uploading to 127.0.0.1: "
REFUSED = "Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD, or ask Clever's support"
IN_PLACE = "INFO Clever cannot rename, so Sections.csv is written in place: "
# Limits for what ends by them only, of one try. A healthy step takes a twentieth of that.
LOG_IN_LIMIT = {"CONNECT_TIMEOUT_SECONDS": 3, "CONNECT_ATTEMPTS": 1}
TRY_LIMIT = {"TRY_TIMEOUT_MINUTES": 0.06, "CONNECT_ATTEMPTS": 1}
LOGGED_IN_TOO_LATE = "no end within 3 seconds. "
ANSWERED_TOO_LATE = "no answer in time. "
TRIED_TOO_LONG = "no end within 3.6 seconds. "


@pytest.fixture(autouse=True)
def patient(ready: Job) -> None:
    """No time limit is near that the test itself does not set."""
    ready.set(CONNECT_TIMEOUT_SECONDS=60, QUERY_TIMEOUT_SECONDS=60)


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
    """How often the step that failed, or that failed at first, was tried."""
    return ended.log.count("INFO attempt ") + 1


def same_size(clever: Clever, name: str, new: bytes) -> None:
    """Put a file of another content, but of the new one's size, into Clever's folder."""
    (clever.folder / name).write_bytes(new.replace(b"Course", b"Curses"))
    os.utime(clever.folder / name, (1_790_000_000, 1_790_000_000))


# --- All is well ---


def test_the_new_file_is_sent_under_another_name_and_renamed(large: Job, clever: Clever) -> None:
    check_uploaded(large, large.run(), clever, 1500)
    check_stored(clever, TEMPORARY)
    assert clever.passwords == [clever.password] * 2  # to look, then to upload
    first_write = clever.steps.index(f"WRITE {TEMPORARY}")
    assert clever.steps.index("READ Sections.csv") < first_write
    assert clever.steps[-1] == f"RENAME {TEMPORARY}"
    # What is closed is stored again, and an extended request ends the session.
    assert not [step for step in clever.steps if step == "CLOSE Sections.csv" or "EXTENDED" in step]


@pytest.mark.parametrize("remove", ["", "Permission denied"])
def test_a_leftover_of_the_same_size_does_not_pass_for_the_new_file(
    ready: Job, clever: Clever, first_upload: bytes, remove: str
) -> None:
    """Neither if it can be removed nor if it cannot."""
    same_size(clever, TEMPORARY, first_upload)
    faults = [at("CLOSE Sections", LOSE, times=1)]  # so that it would
    if remove:
        faults.append(at("REMOVE", remove))
    clever.fault = one_of(*faults)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    check_stored(clever, TEMPORARY)
    why = "it has not arrived whole" if remove else "[Errno 2] No such file"
    assert f"storing {TEMPORARY}: {why}" in ended.log
    assert attempts(ended) == 2


def test_names_that_begin_like_ours_do_not_count(ready: Job, clever: Clever) -> None:
    (clever.folder / "Sections.csv.tmp.old").write_bytes(b"x")
    (clever.folder / "sections.csv").write_bytes(b"y")
    check_uploaded(ready, ready.run(), clever)
    check_remote(clever, new_file(ready), "Sections.csv.tmp.old", "sections.csv")
    check_stored(clever, TEMPORARY)


@pytest.mark.takes_long
def test_a_slow_server_is_not_a_silent_one(large: Job, clever: Clever) -> None:
    """Six writes take longer than CONNECT_TIMEOUT_SECONDS, but each has its answer before."""
    clever.fault = at("WRITE", SLOW)
    ended = large.set(CONNECT_TIMEOUT_SECONDS=4).run()
    check_uploaded(large, ended, clever, 1500)
    assert attempts(ended) == 1


@pytest.mark.takes_long
def test_a_slow_line(ready: Job, clever: Clever) -> None:
    with Line(clever.port, delay=0.1) as line:
        ended = ready.connect(clever=clever, line=line).run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 1


@pytest.mark.parametrize(
    ("first", "whole"),
    [
        (f"WRITE {TEMPORARY}", 100_000),  # 5 writes of 32 kB
        ("READ Sections.csv", 300),  # 6 requests, each less than 100 bytes
    ],
)
def test_one_request_does_not_wait_for_the_answer_to_another(
    large: Job, clever: Clever, first: str, whole: int
) -> None:
    """The first one's answer is held back until so many bytes have come."""
    ended_long_ago = (
        b"100,%d,5001,06/05/2026\n" % number for number in range(9_000_000, 9_007_000)
    )
    old = OLD.splitlines(keepends=True)[0] + b"".join(ended_long_ago)
    (clever.folder / "Sections.csv").write_bytes(old)
    with Line(clever.port) as line:
        sent_before: dict[str, int] = {}
        is_first_whole: list[bool] = []

        def fault(step: str) -> None:
            if step.startswith("OPEN "):  # which the client awaits the answer to
                sent_before["first"] = line.bytes_sent
            if step == first and not is_first_whole:
                with suppress(AssertionError):
                    wait_for(lambda: line.bytes_sent > sent_before["first"] + whole)
                is_first_whole.append(line.bytes_sent > sent_before["first"] + whole)

        clever.fault = fault
        ended = large.connect(clever=clever, line=line).run()
    assert ended.status == 0
    assert is_first_whole == [True]


# --- Servers that cannot rename ---


@pytest.mark.parametrize(("extensions", "remove"), [(False, "Permission denied"), (True, "")])
def test_a_server_that_cannot_rename(
    ready: Job, clever: Clever, extensions: bool, remove: str
) -> None:
    """Clever's own server ends the session over a posix-rename; others refuse it."""
    clever.extensions = extensions
    faults = [NO_RENAME]
    if extensions:
        faults.append(at("EXTENDED", "Failure"))
    if remove:
        faults.append(at("REMOVE", remove))
    clever.fault = one_of(*faults)
    ended = ready.run()
    assert (ended.status, ended.stderr) == (0, "")
    others = [TEMPORARY] if remove else []
    check_remote(clever, new_file(ready), *others)
    assert clever.stored[-1] == ("Sections.csv", new_file(ready))
    assert ended.log.count(f"{IN_PLACE}uploading to 127.0.0.1: renaming {TEMPORARY}") == 1
    assert "Operation unsupported" in ended.log
    assert attempts(ended) == 1
    check_clean(ready, ended)


@pytest.mark.parametrize("wrong", [DROP, HALF])
def test_a_line_that_breaks_over_posix_rename(ready: Job, clever: Clever, wrong: str) -> None:
    """Whether it was done is seen in the list; if not, the file is written in place."""
    clever.extensions = True
    clever.fault = one_of(NO_RENAME, at("EXTENDED", wrong, times=1))
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    check_stored(clever, TEMPORARY, *["Sections.csv"] * (wrong == DROP))
    assert (IN_PLACE in ended.log) == (wrong == DROP)
    assert attempts(ended) == 1


def test_a_posix_rename_where_a_plain_one_is_refused(ready: Job, clever: Clever) -> None:
    clever.extensions = True
    clever.fault = NO_RENAME
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    check_stored(clever, TEMPORARY)
    assert IN_PLACE not in ended.log


def test_a_file_of_the_same_size_is_written_in_place(
    ready: Job, clever: Clever, first_upload: bytes
) -> None:
    same_size(clever, "Sections.csv", first_upload)
    clever.extensions = True
    refusals = [NO_RENAME, at("EXTENDED", "Failure")]
    clever.fault = one_of(*refusals, at("CLOSE Sections.csv$", "Storing failed", times=1))
    ended = ready.run()
    assert ended.status == 0
    assert clever.stored[-1] == ("Sections.csv", new_file(ready))
    assert "attempt 1: uploading to 127.0.0.1: storing Sections.csv: it has not arr" in ended.log
    assert ended.log.count(IN_PLACE) == attempts(ended) == 2


# --- A rename whose answer is lost ---


def same_size_or_old(clever: Clever, new: bytes, is_same_size: bool) -> bytes:
    if is_same_size:
        same_size(clever, "Sections.csv", new)
    return (clever.folder / "Sections.csv").read_bytes()


@pytest.mark.parametrize("is_same_size", [False, True])
def test_the_answer_to_the_rename_is_lost(
    ready: Job, clever: Clever, first_upload: bytes, is_same_size: bool
) -> None:
    """It was done: Sections.csv says so in a listing, and nothing is sent again."""
    same_size_or_old(clever, first_upload, is_same_size)
    clever.fault = at("RENAME", HALF)
    ended = ready.run()
    assert ended.status == 0
    check_remote(clever, new_file(ready))
    check_stored(clever, TEMPORARY)
    assert attempts(ended) == 1


@pytest.mark.parametrize(
    ("wrong", "is_same_size"), [(DROP, True), ("Failure", True), (DROP, False)]
)
def test_a_rename_that_was_not_done(
    ready: Job, clever: Clever, first_upload: bytes, wrong: str, is_same_size: bool
) -> None:
    """The temporary file has the right size and time, and is not taken for Sections.csv."""
    old = same_size_or_old(clever, first_upload, is_same_size)
    clever.fault = one_of(at("RENAME", wrong), at("WRITE Sections.csv$", "Failure"))
    ended = ready.run()
    check_failed(ready, ended, FAILED, local=new_file(ready))
    assert (clever.folder / "Sections.csv").read_bytes() == old
    step = "renaming Sections.csv.tmp" if wrong == DROP else "writing Sections.csv"
    assert f"INFO attempt 2: uploading to 127.0.0.1: {step}: " in ended.log


def test_a_first_upload_whose_rename_was_not_done(ready: Job, clever: Clever) -> None:
    """A look at the name would find the temporary file, as it begins with it."""
    (clever.folder / "Sections.csv").unlink()
    clever.fault = at("RENAME", DROP)
    ended = ready.run()
    check_failed(ready, ended, FAILED, local=new_file(ready))
    assert os.listdir(clever.folder) == [TEMPORARY]


def test_a_server_that_refuses_the_rename_and_loses_the_file(
    ready: Job, clever: Clever, first_upload: bytes
) -> None:
    """That there is no temporary file any more does not mean that it was renamed."""
    old = same_size_or_old(clever, first_upload, is_same_size=True)
    clever.fault = one_of(at("RENAME", LOST), at("OPEN Sections.csv$", "Permission denied"))
    ended = ready.run()
    words = FAILED + "opening Sections.csv: Permission denied. Ask Clever's support to let"
    check_failed(ready, ended, words.replace("Permission", "[Errno 13] Permission"), local=None)
    check_remote(clever, old)


def test_whether_it_was_renamed_cannot_be_seen(ready: Job, clever: Clever) -> None:
    """A listing that is refused says nothing: the file is sent again."""
    clever.fault = one_of(at("RENAME", HALF, times=1), at("LIST", "Permission denied", after=0))
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    check_stored(clever, TEMPORARY, TEMPORARY)
    assert attempts(ended) == 2


# --- Refusals ---


def test_each_step_that_is_refused_is_named_and_tried_again(ready: Job, clever: Clever) -> None:
    faults = [
        ("OPEN .*tmp$", "Permission denied", 0, f"opening {TEMPORARY}: [Errno 13] Permission den"),
        ("OPEN .*tmp$", "Failure", 0, f"opening {TEMPORARY}: refused without "),
        (
            *("OPEN .*tmp$", f"no file for {clever.password}", 0),
            f"opening {TEMPORARY}: no file for *****. ",  # nor is the password shown then
        ),
        ("WRITE", "No space left", 0, f"writing {TEMPORARY}: No space left. Ask Clever's support"),
        ("WRITE", "Failure", 0, f"writing {TEMPORARY}: refused without "),
        ("WRITE", "Failure", 1, f"writing {TEMPORARY}: refused without "),
        ("CLOSE .*tmp$", "Storing failed", 0, f"storing {TEMPORARY}: it has not arrived whole. "),
        ("CLOSE .*tmp$", LOSE, 0, f"storing {TEMPORARY}: [Errno 2] No such file. "),
    ]
    clever.fault = in_turn(None, *(at(where, wrong, after=n) for where, wrong, n, _ in faults))
    ended = ready.set(CONNECT_ATTEMPTS=len(faults) + 1).run()
    check_uploaded(ready, ended, clever)
    check_stored(clever, TEMPORARY)
    check_attempts(ended, "uploading to 127.0.0.1: ", [words for *_, words in faults])


def test_a_look_at_the_new_file_that_is_refused(ready: Job, clever: Clever) -> None:
    clever.fault = at("STAT .*tmp$", "Failure", after=1)
    words = f"{FAILED}looking at {TEMPORARY}: refused without "
    check_failed(ready, ready.run(), words, local=new_file(ready))
    check_remote(clever, OLD)


def test_who_may_not_write_is_told_whom_to_ask(ready: Job, clever: Clever) -> None:
    clever.fault = at("OPEN .*tmp$", "Permission denied")
    ended = ready.run()
    words = "Permission denied. Ask Clever's support to let the account write Sections.csv and Sec"
    check_failed(ready, ended, words, local=new_file(ready))
    check_remote(clever, OLD)
    assert clever.stored == []
    assert attempts(ended) == 3


@pytest.mark.parametrize("in_place", [False, True])
def test_a_write_is_refused(large: Job, clever: Clever, in_place: bool) -> None:
    """The first, a middle one, and the last of six; also while the file is written in place."""
    name = "Sections.csv" if in_place else TEMPORARY
    clever.extensions = True
    no_rename = one_of(NO_RENAME, at("EXTENDED", "Failure"))
    visits: list[Fault | None] = [None]  # to look
    for after in (0, 3, 5):
        visits += [no_rename] * in_place
        visits.append(at(f"WRITE {name}$", "No space left on device", after=after))
    clever.fault = in_turn(*visits)
    ended = large.run()
    words = f"writing {name}: No space left on device. Ask Clever's support to make room"
    check_failed(large, ended, f"{FAILED}{words}", local=new_file(large, 1500))
    check_attempts(ended, "uploading to 127.0.0.1: ", [words] * 2)
    assert (clever.folder / "Sections.csv").read_bytes() == OLD
    assert {stored for stored, _ in clever.stored} == ({TEMPORARY} if in_place else set())
    assert clever.steps.count(f"WRITE {name}") >= 1 + 4 + 6


def test_what_was_written_is_lost(large: Job, clever: Clever) -> None:
    clever.fault = at("WRITE", LOSE, after=4)
    ended = large.run()
    # The second and third attempt lose all they write.
    words = f"{FAILED}storing {TEMPORARY}: it has not arrived whole. "
    check_failed(large, ended, words, local=new_file(large, 1500))
    assert (clever.folder / "Sections.csv").read_bytes() == OLD


@pytest.mark.parametrize("where", ["OPEN .*tmp$"])
def test_a_megabyte_of_words(ready: Job, clever: Clever, where: str) -> None:
    """It is cut, in the line that is mailed and in the log."""
    clever.fault = at(where, "bla" * 350_000)
    ended = ready.run()
    assert ended.status == (1 if "OPEN" in where else 0)
    assert len(ended.stderr) < 1500
    assert "blab ..." in ended.log
    assert max(len(line) for line in ended.log.split("\n")) < 1500


# --- Cuts ---


CUTS = [
    ("CONNECT", 0, DROP, "logging in: "),
    ("INIT", 0, DROP, "logging in: "),
    ("SESSION", 0, DROP, "logging in: "),
    ("LIST", 0, HALF, "listing the folder: "),
    ("OPEN .* to read", 0, DROP, "reading Sections.csv: "),
    ("READ", 0, HALF, "reading Sections.csv: "),
    ("READ", 0, DROP, "reading Sections.csv: "),
]
UPLOAD_CUTS = [
    ("INIT", 0, DROP, "logging in: "),
    ("OPEN .*tmp$", 0, HALF, f"opening {TEMPORARY}: "),
    ("WRITE", 0, DROP, f"writing {TEMPORARY}: "),
    ("WRITE", 1, HALF, f"writing {TEMPORARY}: "),
    ("CLOSE .*tmp$", 0, DROP, f"storing {TEMPORARY}: "),
    ("CLOSE .*tmp$", 0, HALF, ""),
    ("STAT", 0, HALF, f"looking at {TEMPORARY}: "),
    ("RENAME", 0, DROP, f"renaming {TEMPORARY}"),
]


def test_the_connection_is_cut_at_each_step(ready: Job, clever: Clever) -> None:
    """The whole look, or the whole upload, is made again; a line says where it was cut."""
    visits = [*CUTS, None, *UPLOAD_CUTS]
    clever.fault = in_turn(*(cut and at(cut[0], cut[2], after=cut[1]) for cut in visits))
    ended = ready.set(CONNECT_ATTEMPTS=9).run()
    check_uploaded(ready, ended, clever)
    assert {name for name, _ in clever.stored} == {TEMPORARY}
    words = [words for *_, words in [*CUTS, *UPLOAD_CUTS]]
    check_attempts(ended, "uploading to 127.0.0.1: ", words)
    assert ended.log.count(" INFO attempt 1: ") == 2
    assert not re.search("EOFError|OSError|SSHException|CLEVER_SFTP_PASSWORD", ended.log)


@pytest.mark.parametrize(
    ("where", "words", "left"),
    [
        ("LIST", "listing the folder: ", []),
        ("RENAME", f"renaming {TEMPORARY}", [TEMPORARY]),
    ],
)
def test_the_connection_is_cut_every_time(
    ready: Job, clever: Clever, where: str, words: str, left: list[str]
) -> None:
    clever.fault = at(where, DROP)
    ended = ready.run()
    check_failed(ready, ended, FAILED + words, "Clever's support", local=new_file(ready))
    check_remote(clever, OLD, *left)
    assert attempts(ended) == 3


def test_the_line_is_cut_after_any_number_of_bytes(large: Job, clever: Clever) -> None:
    """At the look three times, at the upload three times; then it is whole again."""
    with Line(clever.port) as line:
        begun: list[int] = []

        def fault(step: str) -> None:
            if step == "CONNECT":
                begun.append(line.bytes_sent)

        clever.fault = fault
        check_uploaded(large, large.connect(clever=clever, line=line).run(), clever, 1500)
        look, upload = begun[1] - begun[0], line.bytes_sent - begun[1]
        # As far as the password is sent, a broken line looks like a refusal, which is final.
        for before, whole in ((0, look), (1, upload)):
            large.uploaded.unlink(missing_ok=True)
            (clever.folder / "Sections.csv").write_bytes(OLD)
            line.cuts = [*[10**9] * before, *(int(part * whole) for part in (0.3, 0.55, 0.8))]
            ended = large.run()
            check_failed(large, ended, FAILED, local=new_file(large, 1500))
            assert (clever.folder / "Sections.csv").read_bytes() == OLD
            assert line.cuts == []
        check_uploaded(large, large.run(), clever, 1500)


# --- Servers that stop, and servers that never do ---


@pytest.mark.takes_long
def test_no_answer_at_a_step(ready: Job, clever: Clever) -> None:
    """At the look and at the upload, each of which is tried again."""
    late_at = {
        "LOG IN": f"logging in: {LOGGED_IN_TOO_LATE}",
        "READ": f"reading Sections.csv: {ANSWERED_TOO_LATE}",
        "": "",
        "INIT": f"logging in: {LOGGED_IN_TOO_LATE}",
        "WRITE": f"writing {TEMPORARY}: {ANSWERED_TOO_LATE}",
    }
    clever.fault = in_turn(*(at(where, HANG) if where else None for where in late_at))
    ended = ready.set(CONNECT_TIMEOUT_SECONDS=3).run()
    check_uploaded(ready, ended, clever)
    words = [words for words in late_at.values() if words]
    check_attempts(ended, "uploading to 127.0.0.1: ", words)
    assert ended.log.count("set CONNECT_TIMEOUT_SECONDS higher") == 4


@pytest.mark.takes_long
def test_no_answer_at_the_end(ready: Job, clever: Clever) -> None:
    clever.fault = in_turn(None, at("CLOSE .*tmp$", HANG), at("RENAME", HANG))
    ended = ready.set(CONNECT_TIMEOUT_SECONDS=3, CONNECT_ATTEMPTS=2).run()
    words = f"{FAILED}renaming {TEMPORARY}"
    higher = "set CONNECT_TIMEOUT_SECONDS higher"
    check_failed(ready, ended, words, higher, local=new_file(ready))
    words = f"storing {TEMPORARY}: {ANSWERED_TOO_LATE}"
    check_attempts(ended, "uploading to 127.0.0.1: ", [words])
    check_remote(clever, OLD, TEMPORARY)


@pytest.mark.takes_long
@pytest.mark.parametrize(
    "faults",
    [
        [at("LIST", TRICKLE), at("LIST", DEAF), at("READ", TRICKLE)],
        [None, at("CLOSE .*tmp$", TRICKLE), at("WRITE", DEAF)],
    ],
    ids=["look", "upload"],
)
def test_a_try_has_an_end_whatever_comes(
    large: Job, clever: Clever, faults: list[Fault | None]
) -> None:
    """A byte now and then; nothing read any more."""
    tries = len([fault for fault in faults if fault])
    clever.fault = in_turn(*faults)
    ended = large.set(**TRY_LIMIT | {"CONNECT_ATTEMPTS": tries}).run()
    higher = "set TRY_TIMEOUT_MINUTES higher"
    check_failed(large, ended, FAILED + TRIED_TOO_LONG, higher, local=new_file(large, 1500))
    check_attempts(ended, f"uploading to 127.0.0.1: {TRIED_TOO_LONG}", [higher] * (tries - 1))
    assert (clever.folder / "Sections.csv").read_bytes() == OLD


def test_an_answer_of_a_length_near_2_to_the_32(ready: Job, clever: Clever) -> None:
    """It is no answer: what is there of it is not waited for, nor kept in memory."""
    steps = ["WRITE", "CLOSE .*tmp$", "STAT", "RENAME"]
    clever.fault = in_turn(None, *(at(step, HUGE) for step in steps))
    ended = ready.set(CONNECT_ATTEMPTS=5).run()
    check_uploaded(ready, ended, clever)
    assert attempts(ended) == 4  # the last one was renamed


def test_a_server_that_never_stops(ready: Job, clever: Clever) -> None:
    """No more is read of a folder than it can have, and of a file than the listing says."""
    (clever.folder / "teachers.csv").write_text(
        "Teacher_id\n" + "".join(f"{n}\n" for n in range(5000, 5041))
    )
    clever.fault = one_of(at("LIST", ENDLESS), at("READ teachers", ENDLESS))
    ended = ready.run()
    assert ended.status == 0
    assert (clever.folder / "Sections.csv").read_bytes() == new_file(ready)
    assert "READ teachers.csv" in clever.steps


@pytest.mark.takes_long
@pytest.mark.parametrize("bytes_before", [1000, 60_000])
def test_a_line_that_freezes(large: Job, clever: Clever, bytes_before: int) -> None:
    """During the log-in, the look, or the upload: it is open, and nothing goes over it."""
    with Line(clever.port, freeze_after=bytes_before) as line:
        ended = large.connect(clever=clever, line=line).set(**LOG_IN_LIMIT | TRY_LIMIT).run()
    check_failed(large, ended, FAILED, " higher", local=new_file(large, 1500))
    check_remote(clever, OLD)


@contextmanager
def server(greeting: bytes, times: int = 1, pause: float = 0.0) -> Iterator[int]:
    """A server on the port that this gives, which sends a greeting so often, and nothing else."""
    is_over = threading.Event()

    def greet(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            for _ in range(times):
                connection.sendall(greeting)
                is_over.wait(pause)
            is_over.wait()

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=greet, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        is_over.set()


@pytest.mark.takes_long
@pytest.mark.parametrize(
    ("greeting", "times", "pause"),
    [
        (b"", 1, 0),
        (b"x", 1_000_000, 0.3),
        (b"SSH-2.0-Odd\r\n\x7f\xff\xff\xff", 1, 0),
    ],
    ids=["mute", "trickle", "huge packet"],
)
def test_a_server_that_is_none(
    ready: Job, clever: Clever, greeting: bytes, times: int, pause: float
) -> None:
    with server(greeting, times, pause) as port:
        ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{port}"
        ready.known_hosts.write_text(clever.known_hosts_line(host=f"[127.0.0.1]:{port}"))
        ended = ready.set(**LOG_IN_LIMIT).run()
    check_failed(ready, ended, f"{FAILED}logging in: ", local=new_file(ready))
    assert "CLEVER_SFTP_PASSWORD" not in ended.stderr


def test_the_setting_governs_all_of_a_log_in(
    clever: Clever, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paramiko's own limits are 15 and 30 seconds."""
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(clever.known_hosts_line())
    monkeypatch.setattr(clever_sections, "KNOWN_HOSTS", known_hosts)
    monkeypatch.setattr(clever_sections, "CLEVER_SFTP_USERNAME", clever.username)
    monkeypatch.setattr(clever_sections, "CLEVER_SFTP_PASSWORD", clever.password)
    monkeypatch.setattr(clever_sections, "CLEVER_SFTP_ADDRESS", clever.address)
    monkeypatch.setattr(clever_sections, "CONNECT_TIMEOUT_SECONDS", 600)
    with clever_sections.Clever("looking") as connection:
        transport = connection._transport
        assert transport
        limits = (transport.banner_timeout, transport.handshake_timeout, transport.auth_timeout)
        assert min(limits) >= 600
        assert transport.is_authenticated()


# --- Two addresses for one host ---


def test_the_second_address_of_clever(ready: Job, clever: Clever, hosts: Hosts) -> None:
    hosts.name("clever.test", "127.77.0.1", "127.0.0.1")
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"clever.test:{clever.port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host=f"[clever.test]:{clever.port}"))
    with silent("127.77.0.1", clever.port):
        ended = ready.set(CONNECT_TIMEOUT_SECONDS=5).run()
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
    check_failed(ready, ended, REFUSED, local=new_file(ready))
    assert clever.passwords == ["Wrong-Lake-00"]


# --- Log-ins that are refused ---

WRONG = "Wrong-Lake-00"
RIGHT = Clever.password


@pytest.mark.parametrize(("log_in", "password", "sent"), [("", WRONG, 1), ("keys only", RIGHT, 0)])
def test_a_refusal_of_the_account_is_final(
    tmp_path: Path, ready: Job, log_in: str, password: str, sent: int
) -> None:
    """A further try could lock it, and cannot help."""
    folder = tmp_path / "strict"
    with Clever(folder, passwords=log_in != "keys only", log_in=log_in) as strict:
        (folder / "Sections.csv").write_bytes(OLD)
        ready.connect(clever=strict)
        ready.environment["CLEVER_SFTP_PASSWORD"] = password
        ended = ready.run()
    check_failed(ready, ended, f"{FAILED}logging in: ", REFUSED, local=new_file(ready))
    check_remote(strict, OLD)
    assert strict.passwords == [password] * sent
    assert strict.steps.count("CONNECT") == 1
    assert attempts(ended) == 1


@pytest.mark.parametrize(
    ("log_in", "password"),
    [
        ("hang up", WRONG),
        ("keyboard-interactive", WRONG),
        ("change password", RIGHT),
        ("two methods", RIGHT),
        ("breaks", RIGHT),
        # A password that is a part of the words.
        ("", "failed"),
        ("", "a"),
        ("", "Authentication failed."),
    ],
)
def test_what_counts_as_a_refusal_of_the_account(
    tmp_path: Path, inside: Inside, ready: Job, log_in: str, password: str
) -> None:
    with Clever(tmp_path / "strict", log_in=log_in) as strict:
        ready.connect(clever=strict)
        ready.environment["CLEVER_SFTP_PASSWORD"] = password
        inside(ready)
        with pytest.raises(clever_sections.Failure, match="^looking: logging in: ") as caught:
            clever_sections.Clever("looking")
    assert str(caught.value).endswith(REFUSED)
    assert len(password) < 8 or password not in str(caught.value)
    assert len(password) >= 8 or "Authentication failed. " in str(caught.value)
    assert caught.value.is_final
    assert strict.passwords == [password]


def test_a_password_that_is_asked_for(tmp_path: Path, ready: Job) -> None:
    """The right one lets the job in also where it is asked for in another way."""
    with Clever(tmp_path / "asking", log_in="keyboard-interactive") as asking:
        check_uploaded(ready.connect(clever=asking), ready.run(), asking)
    assert asking.passwords == [asking.password] * 2


def test_a_session_that_is_closed_looks_like_a_broken_line(tmp_path: Path, ready: Job) -> None:
    """OpenSSH lets an expired password in, and then ends the session."""
    with Clever(tmp_path / "closed", log_in="session closed") as closed:
        ended = ready.connect(clever=closed).run()
    check_failed(ready, ended, f"{FAILED}logging in: ", local=new_file(ready))
    assert len(closed.passwords) == attempts(ended) == 3


@pytest.mark.parametrize(
    "algorithms",
    [
        {"kex_algs": ["diffie-hellman-group14-sha1"]},
        {"encryption_algs": ["chacha20-poly1305@openssh.com"]},
        {"mac_algs": ["hmac-sha1-etm@openssh.com"], "encryption_algs": ["aes128-ctr"]},
        {"compression_algs": ["zlib@openssh.com"]},
        None,
    ],
    ids=["key exchange", "cipher", "MAC", "compression", "SHA-1"],
)
def test_no_common_algorithm(
    tmp_path: Path, inside: Inside, ready: Job, algorithms: dict[str, list[str]] | None
) -> None:
    """test_sshd.py has one through the whole job."""
    kinds = ("ssh-ed25519",) if algorithms else ("ssh-rsa",)
    odd = Clever(
        tmp_path / "odd", key_types=kinds, algorithms=algorithms, sha1_only=algorithms is None
    )
    with odd:
        inside(ready.connect(clever=odd))
        with pytest.raises(clever_sections.Failure, match="^looking: logging in: ") as caught:
            clever_sections.Clever("looking")
    assert "no common algorithm" in str(caught.value)
    assert "ask Clever's support" in str(caught.value)
    assert "host key is a new one" not in str(caught.value)
    assert caught.value.is_final
    assert odd.passwords == []


def test_another_host_key_gets_no_password(tmp_path: Path, ready: Job, clever: Clever) -> None:
    with Clever(tmp_path / "other") as other:
        ready.connect(clever=clever)
        ready.environment["CLEVER_SFTP_ADDRESS"] = other.address
        line = clever.known_hosts_line(host=f"[127.0.0.1]:{other.port}")
        ready.known_hosts.write_text(line)
        ended = ready.run()
    check_failed(ready, ended, f"{FAILED}logging in: Bad host key", local=new_file(ready))
    assert "Ask Clever's support whether their host key is a new one" in ended.stderr
    assert other.passwords == []
    assert attempts(ended) == 1


# --- Connections that do not come about ---


def test_the_next_try_waits(ready: Job, clever: Clever) -> None:
    """It is never too early, however slow or fast the machine."""
    tries: list[float] = []

    def fault(step: str) -> str | None:
        if step != "CONNECT":
            return None
        tries.append(time.monotonic())
        return DROP if len(tries) == 1 else None

    clever.fault = fault
    check_uploaded(ready, ready.set(RETRY_DELAY_SECONDS=1).run(), clever)
    assert tries[1] - tries[0] >= 1


def test_clever_refuses_the_connection(ready: Job, clever: Clever, closed_port: int) -> None:
    ready.environment["CLEVER_SFTP_ADDRESS"] = f"127.0.0.1:{closed_port}"
    ready.known_hosts.write_text(clever.known_hosts_line(host="127.0.0.1"))
    ended = ready.run()
    words = "Connection refused. Check host and port in CLEVER_SFTP_ADDRESS"
    check_failed(ready, ended, f"{FAILED}logging in: ", words, local=new_file(ready))
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


def test_the_clever_stand_in_drops_what_is_not_closed(tmp_path: Path, large: Job) -> None:
    """The stand-in is as strict as the real server, so that the tests above mean something."""
    with Clever(tmp_path / "strict", at("CLOSE .*tmp", DROP)) as strict:
        large.connect(clever=strict).run()
        assert strict.stored == []
        assert strict.files() == []
