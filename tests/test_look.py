"""What Clever has is what the new sections are compared with, and the ids that it knows."""

import os
import shutil
import subprocess
from pathlib import Path

import district
import pytest
from checks import (
    OLD,
    check_attempts,
    check_clean,
    check_failed,
    check_held,
    check_remote,
    check_uploaded,
)
from clever import Clever
from conftest import Inside
from faults import DROP, ENDLESS, HANG, SLOW, at, in_turn
from job import Job
from powerschool import PowerSchool

import clever_sections
from clever_sections import District

LOSE_SIX = "DELETE FROM sections WHERE id <= 6"
LOSE_A_SCHOOL = "DELETE FROM terms WHERE schoolid = 101"
SOMEBODY_ELSE = "somebody else has changed Clever's Sections.csv"
NO_TEACHER = "lead teacher not in Clever's teachers file (look at TEACHER_ID_COLUMN, or that file)"
NO_SCHOOL = "school not in Clever's schools file (look at IGNORED_SCHOOLS, or the schools file)"
HEADER = b"School_id,Section_id,Teacher_id\n"


@pytest.fixture
def ready(ready: Job) -> Job:
    """Hardly a test here waits for a limit, so that a slow machine may take its time."""
    return ready.set(CONNECT_TIMEOUT_SECONDS=60, QUERY_TIMEOUT_SECONDS=60)


def move_to_a_fresh_folder(job: Job) -> None:
    """Nothing lies beside the script any more: as on a new server."""
    for path in job.folder.glob("Sections*"):
        path.unlink()


def in_clever(clever: Clever) -> Path:
    return clever.folder / "Sections.csv"


# --- Clever's own file ---


@pytest.mark.parametrize("content", [None, HEADER + b"\n,,,\n"])
def test_with_no_sections_in_clever_it_is_a_first_upload(
    ready: Job, clever: Clever, content: bytes | None
) -> None:
    in_clever(clever).unlink()
    if content is not None:
        in_clever(clever).write_bytes(content)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "20 sections in 2 schools (first upload), uploaded, " in ended.log
    assert "Sections.changes.csv" not in ended.files
    assert ("Sections.previous.csv" in ended.files) == (content is not None)


def test_a_leftover_is_not_taken_for_a_file_that_is_not_there(ready: Job, clever: Clever) -> None:
    """Asked for Sections.csv, Clever's server tells of the first name that begins so."""
    in_clever(clever).rename(clever.folder / "Sections.csv.tmp")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "20 sections in 2 schools (first upload), uploaded, " in ended.log


def test_a_fresh_folder_compares_with_what_is_in_clever(guarded: Job, clever: Clever) -> None:
    move_to_a_fresh_folder(guarded)
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert "INFO comparing with Clever's Sections.csv of " in ended.log
    assert ", 20 sections\n" in ended.log
    assert "(+0, -0, 0 changed), uploaded, " in ended.log
    assert (guarded.folder / "clever_sections.lock").stat().st_mode & 0o077 == 0
    assert [name for name, _ in clever.stored] == ["Sections.csv.tmp"]  # and nothing that was read


def test_a_fresh_folder_and_half_the_schools_gone(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    move_to_a_fresh_folder(guarded)
    district.change(quiet.database, LOSE_A_SCHOOL)
    ended = guarded.run()
    check_held(guarded, ended, clever, first_upload, "lose 10 of 20 sections", "school 101: 10")
    loss = "Clever loses school 101 School 101 with its 10 sections. If that is wrong, "
    check_uploaded(guarded, guarded.run("--force"), clever, 10, mailed=loss)


def test_a_file_that_somebody_else_has_changed(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    theirs = first_upload.replace(b",English/language arts,", b",Math,")
    in_clever(clever).write_bytes(theirs)
    ended = guarded.run()
    check_uploaded(guarded, ended, clever, mailed=SOMEBODY_ELSE)
    assert "(+0, -0, 4 changed: Subject 4), uploaded" in ended.log
    assert (guarded.folder / "Sections.previous.csv").read_bytes() == theirs
    check_uploaded(guarded, guarded.run(), clever)  # it is news once


def test_what_somebody_else_has_added_can_be_lost(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    """The copy has none of these three sections."""
    more = b"".join(b"100,90%d,5001\n" % number for number in range(3))
    in_clever(clever).write_bytes(first_upload + more)
    ended = guarded.run()
    assert ended.status == 1
    assert ended.stderr.count("\n") == 2
    assert f"WARNING {SOMEBODY_ELSE}" in ended.stderr
    assert "ERROR Clever would lose 3 of 23 sections that have not ended: " in ended.stderr
    check_remote(clever, first_upload + more)
    assert guarded.uploaded.read_bytes() == first_upload
    check_clean(guarded, ended)


def test_the_file_of_this_folder_is_nobody_elses(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Somebody has put the Sections.csv of a dry run there by hand."""
    district.change(quiet.database, "UPDATE sections SET expression = '9(A)' WHERE id = 8")
    assert guarded.run("--dry-run").status == 0
    shutil.copy(guarded.output, in_clever(clever))
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert "(+0, -0, 0 changed), uploaded" in ended.log


def test_a_file_that_is_changed_on_disk_does_not_reach_clever(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    def change(step: str) -> None:
        guarded.output.write_bytes(b"another run's")

    clever.fault = change
    assert guarded.run().status == 0
    check_remote(clever, first_upload)
    assert guarded.uploaded.read_bytes() == first_upload


@pytest.mark.skipif(not shutil.which("sftp"), reason="sftp is missing: install openssh-client")
def test_putting_back_the_last_file_as_the_readme_says(
    guarded: Job, quiet: PowerSchool, clever: Clever, tmp_path: Path, first_upload: bytes
) -> None:
    district.change(quiet.database, "UPDATE sections SET expression = '9(A)' WHERE id <= 9")
    check_uploaded(guarded, guarded.run(), clever)

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    recipe = readme.split("### Putting back the last file", 1)[1].split("\n### ")[0]
    lines = [line.strip() for line in recipe.splitlines()]
    [command] = [line for line in lines if line.startswith("sftp ")]
    [put] = [line for line in lines if line.startswith("put ")]
    ask = tmp_path / "ask"
    ask.write_text('#!/bin/sh\necho "$CLEVER_SFTP_PASSWORD"\n')
    ask.chmod(0o700)
    environment = guarded.environment | {
        "PATH": os.environ["PATH"],
        "CLEVER_SFTP_ADDRESS": "127.0.0.1",
        "SSH_ASKPASS": str(ask),
        "SSH_ASKPASS_REQUIRE": "force",
    }
    with_port = command.replace("sftp ", f"sftp -P {clever.port} ", 1)
    subprocess.run(
        ["sh", "-e", "-c", f"{with_port} <<'END'\n{put}\nexit\nEND\n"],
        env=environment,
        cwd=guarded.folder,
        check=True,
        capture_output=True,
        timeout=60,
    )
    check_remote(clever, first_upload)
    ended = guarded.run("--dry-run")
    assert ended.status == 0
    assert SOMEBODY_ELSE in ended.stderr
    assert "(+0, -0, 9 changed: Period 9), dry run" in ended.log


@pytest.mark.parametrize("form", ["semicolons, UTF-16", "short rows"])
def test_another_scripts_file_is_what_a_first_run_compares_with(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, form: str
) -> None:
    """Two sections change, three lose all their staff. test_check.py has further forms of CSV."""
    move_to_a_fresh_folder(guarded)
    text = first_upload.decode()
    if form == "short rows":
        content = text.replace("Year 26-27\n", "\n").encode()
    else:
        content = ("\ufeff" + text.replace(",", ";").replace("\n", "\r\n")).encode("utf-16-le")
    in_clever(clever).write_bytes(content)
    district.change(
        quiet.database,
        "UPDATE sections SET expression = '9(A)' WHERE id IN (8, 16);"
        "DELETE FROM sectionteacher WHERE sectionid <= 3",
    )
    ended = guarded.run()
    check_held(guarded, ended, clever, content, "3 of 20 sections that have not", "3 without any")
    changes = (guarded.folder / "Sections.changes.csv").read_text().splitlines()[1:]
    assert "changed,100,School 100,8,Course 8,9,Period,0,9" in changes
    assert "changed,101,School 101,1,Course 1,1,Teacher_id,5001," in changes
    year = "changed,100,School 100,8,Course 8,9,Term_name,,Year 26-27"
    assert (year in changes) == (form == "short rows")
    assert len(changes) == 7 + 5 * (form == "short rows")


def test_columns_that_clevers_file_lacks_count_for_nothing(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    lines = first_upload.decode().splitlines()
    few = "".join(",".join(line.split(",")[:3]) + "\n" for line in lines)
    in_clever(clever).write_text(few)
    move_to_a_fresh_folder(guarded)
    district.change(quiet.database, "UPDATE sectionteacher SET teacherid = 10000020 WHERE id = 80")
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    lacking = [line for line in ended.log.splitlines() if "lacks" in line]
    assert len(lacking) == 1
    for column in ("Teacher_2_id", "Course_name", "Period", "Term_end"):
        assert column in lacking[0]
    assert "(+0, -0, 1 changed: Teacher_id 1), uploaded" in ended.log


def test_a_name_in_other_letters_is_a_remark(guarded: Job, clever: Clever) -> None:
    names = ("sections.csv", "SECTIONS.CSV")
    for name in names:
        (clever.folder / name).write_bytes(HEADER)
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    for name in names:
        assert f"INFO Clever's folder also has {name}" in ended.log
        assert (clever.folder / name).read_bytes() == HEADER


# --- What cannot be read or listed ---


def unclosed_quote(content: bytes) -> bytes:
    """The same file with a quote at the beginning of line 6 that is never closed."""
    lines = content.splitlines(keepends=True)
    return b"".join([*lines[:5], b'"', *lines[5:]])


def make_unreadable(clever: Clever, how: str, content: bytes) -> bytes:
    """Have Clever hold a file, made of this content, that cannot be read. Returns what it holds."""
    made = {"unclosed quote": unclosed_quote(content), "garbage": b"\x89PNG\r\n\x1a\n" * 99}
    made |= {"empty": b"", "other columns": b"Name,Email\nx,y\n"}
    in_clever(clever).write_bytes(made.get(how, content))
    if how == "refused":
        clever.fault = at("OPEN Sections.csv to read", "not supported")
    if how == "refused while it is read":
        clever.fault = at("READ Sections.csv", "Permission denied")
    if how == "cut short":
        clever.fault = at("READ Sections.csv", "end of file", after=1)
        in_clever(clever).write_bytes(content + b"x" * 99_000)
    if how == "endless":
        clever.fault = at("READ Sections.csv", ENDLESS)
    if how == "too large":
        clever.sizes["Sections.csv"] = 600_000_000
    if how == "larger than it is":
        clever.sizes["Sections.csv"] = len(content) + 1
    if how == "without a size":
        clever.sizes["Sections.csv"] = None
    if how == "a device":
        clever.modes["Sections.csv"] = 0o020666
    return in_clever(clever).read_bytes()


UNREADABLE = {
    "refused": "not supported",
    "refused while it is read": "Permission denied",
    "cut short": "it has not arrived whole",
    "endless": "it has no columns",
    "too large": "it is no file, or too large for one",
    "without a size": "",
    "a device": "it is no file, or too large for one",
    "unclosed quote": "line 6 cannot be read: a quote in it is not closed as it should be",
    "garbage": "it has no columns School_id, Section_id, Teacher_id",
    "other columns": "it has no columns School_id, Section_id, Teacher_id",
}


@pytest.mark.parametrize("how", ["refused while it is read", "garbage"])
def test_a_file_that_cannot_be_read_without_a_copy(
    guarded: Job, clever: Clever, first_upload: bytes, how: str
) -> None:
    """What cannot be compared is not replaced unseen: half of the schools could be gone."""
    move_to_a_fresh_folder(guarded)
    there = make_unreadable(clever, how, first_upload)
    ended = guarded.run()
    why = UNREADABLE[how]
    words = ("ERROR Clever's Sections.csv cannot be compared (", why, "run once with --force")
    check_held(guarded, ended, clever, there, *words)
    assert clever.stored == []
    assert clever.steps.count("LOG IN") == 1


@pytest.mark.parametrize(("how", "why"), UNREADABLE.items())
def test_what_stands_in_for_a_file_that_cannot_be_read(
    inside: Inside, guarded: Job, clever: Clever, first_upload: bytes, how: str, why: str
) -> None:
    """The copy of the last upload. Without one nothing does, unless it is forced."""
    make_unreadable(clever, how, first_upload)
    inside(guarded)
    found = clever_sections.look("looking")
    before = clever_sections.read_before(found, None, District(), force=False)
    assert (before.source, len(before.sections)) == ("Sections.uploaded.csv", 20)
    guarded.uploaded.unlink()
    words = "^Clever's Sections.csv cannot be compared "
    with pytest.raises(clever_sections.Failure, match=words) as caught:
        clever_sections.read_before(found, None, District(), force=False)
    assert why in str(caught.value)
    assert "run once with --force" in str(caught.value)
    before = clever_sections.read_before(found, None, District(), force=True)
    assert (before.source, before.sections) == ("not compared", {})
    assert clever.steps.count("LOG IN") == 1


@pytest.mark.parametrize("how", ["cut short", "unclosed quote"])
def test_the_copy_stands_in_for_a_file_that_cannot_be_read(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, how: str
) -> None:
    there = make_unreadable(clever, how, first_upload)
    district.change(quiet.database, LOSE_SIX)
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR Clever would lose 6 of 20 sections that have not ended: " in ended.stderr
    assert "INFO comparing with Sections.uploaded.csv, 20 sections\n" in ended.log
    check_remote(clever, there)
    assert guarded.uploaded.read_bytes() == first_upload
    check_clean(guarded, ended)


def test_a_file_that_cannot_be_read_is_replaced_by_force(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    move_to_a_fresh_folder(guarded)
    there = make_unreadable(clever, "unclosed quote", first_upload)
    district.change(quiet.database, LOSE_A_SCHOOL)
    assert guarded.run().status == 1
    check_remote(clever, there)
    ended = guarded.run("--force")
    check_uploaded(guarded, ended, clever, 10)
    assert "(not compared), uploaded, " in ended.log
    assert (guarded.folder / "Sections.previous.csv").read_bytes() == there


def test_an_account_that_may_not_read_has_quiet_nights(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    clever.fault = at("OPEN .* to read", "not supported")
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    ended = guarded.run()
    check_uploaded(guarded, ended, clever, 19)
    assert "(+0, -1, 0 changed), uploaded" in ended.log
    assert (guarded.folder / "Sections.previous.csv").read_bytes() == first_upload


def test_an_unclosed_quote_in_the_copy(guarded: Job, clever: Clever, first_upload: bytes) -> None:
    clever.fault = at("OPEN Sections.csv to read", "not supported")
    guarded.uploaded.write_bytes(unclosed_quote(first_upload))
    ended = guarded.run()
    assert ended.status == 1
    assert "cannot be compared (not supported), nor a copy of an upload. " in ended.stderr
    assert "nothing is compared: Sections.uploaded.csv: line 6 cannot be read: a qu" in ended.log
    check_remote(clever, first_upload)
    check_clean(guarded, ended)


def test_a_broken_copy_is_no_matter_when_clevers_file_can_be_read(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    guarded.uploaded.write_bytes(unclosed_quote(first_upload))
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert "(+0, -0, 0 changed), uploaded" in ended.log


@pytest.mark.parametrize("listing", ["refused", "not UTF-8", "a million names"])
def test_a_folder_that_cannot_be_listed_is_no_matter(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, listing: str
) -> None:
    """Sections.csv is compared all the same."""
    move_to_a_fresh_folder(guarded)
    if listing == "refused":
        clever.fault = at("LIST", "Permission denied")
    if listing == "not UTF-8":
        os.close(os.open(os.fsencode(clever.folder) + b"/Caf\xe9.csv", os.O_CREAT))
    if listing == "a million names":
        clever.extra_names = 1_000_000
    ended = guarded.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "(+0, -0, 0 changed), uploaded" in ended.log
    assert clever.steps.count("LOG IN") == 2  # one for the look, one for the upload
    assert clever.steps.count("LIST .") < 1_000
    check_clean(guarded, ended)
    if listing == "refused":
        district.change(quiet.database, LOSE_SIX)
        ended = guarded.run()
        assert "ERROR Clever would lose 6 of 20 sections" in ended.stderr
        assert in_clever(clever).read_bytes() == first_upload
        check_clean(guarded, ended)


def test_a_first_upload_to_a_folder_that_cannot_be_listed(ready: Job, clever: Clever) -> None:
    in_clever(clever).unlink()
    clever.fault = at("LIST", "Permission denied")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "(first upload), uploaded" in ended.log


# --- A line that breaks while Clever is looked at ---

LOOKING = ["LIST", "OPEN schools.csv", "READ teachers.csv", "OPEN Sections.csv to", "READ Sections"]


def test_a_line_that_breaks_is_tried_again_then_the_run_fails(ready: Job, clever: Clever) -> None:
    """It is no refusal, for which a copy could stand in."""
    district.put_other_files(clever.folder)
    clever.fault = in_turn(*(at(where, DROP) for where in LOOKING))
    ended = ready.set(CONNECT_ATTEMPTS=len(LOOKING)).run()
    check_failed(
        ready, ended, "uploading to 127.0.0.1: reading Sections.csv: ", "connection", local=None
    )
    check_attempts(ended, "uploading to 127.0.0.1: ", ["connection"] * 4)
    assert clever.steps.count("LOG IN") == 5
    assert clever.stored == []
    assert in_clever(clever).read_bytes() == OLD


def test_a_line_that_breaks_once(ready: Job, clever: Clever) -> None:
    """In the middle of a large file that is asked for without waiting: without a noise."""
    put_files(clever, teachers=[*(f"x{number}" for number in range(20_000)), *TEACHERS])
    clever.fault = at("READ teachers.csv", DROP, times=1, after=9)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "INFO attempt 1: " in ended.log
    assert clever.steps.count("LOG IN") == 3  # two for the look, one for the upload


def test_a_copy_does_not_stand_in_when_the_line_breaks(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    clever.fault = at("READ Sections.csv", DROP)
    ended = guarded.run()
    check_held(guarded, ended, clever, first_upload, "reading Sections.csv: ")


@pytest.mark.takes_long
def test_a_server_that_goes_silent_is_tried_again(ready: Job, clever: Clever) -> None:
    district.put_other_files(clever.folder)
    clever.fault = at("READ teachers.csv", HANG, times=1)
    ended = ready.set(CONNECT_TIMEOUT_SECONDS=3).run()
    check_uploaded(ready, ended, clever)
    assert "INFO attempt 1: uploading to 127.0.0.1: " in ended.log


# --- The ids that Clever knows ---

SCHOOLS = ["100", "101"]
TEACHERS = [str(5000 + number) for number in range(40)]
NOT_COMPARED = "ids are not compared with Clever's "


def put_files(clever: Clever, schools: list[str] = SCHOOLS, teachers: list[str] = TEACHERS) -> None:
    """The district's other files in Clever's folder."""
    rows = "".join(f"{school},School {school}\n" for school in schools)
    (clever.folder / "schools.csv").write_text(f"School_id,School_name\n{rows}")
    rows = "".join(f"100,{teacher},x@example.org\n" for teacher in teachers)
    (clever.folder / "teachers.csv").write_text(f"School_id,Teacher_id,Teacher_email\n{rows}")


def without(*unknown: str) -> list[str]:
    return [teacher for teacher in TEACHERS if teacher not in unknown]


def test_all_ids_are_known(ready: Job, clever: Clever) -> None:
    put_files(clever)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log
    assert NOT_COMPARED not in ended.log
    for name in ("schools.csv", "teachers.csv", "Sections.csv"):
        assert clever.steps.count(f"OPEN {name} to read") == 1
    assert [name for name, _ in clever.stored] == ["Sections.csv.tmp"]  # and nothing that was read


def test_two_lead_teachers_who_are_not_known_are_a_remark(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=without("5003", "5004"))
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"INFO {NO_TEACHER}: 2 sections (100 C4.4, 101 C3.3)\n" in ended.log


def test_a_wrong_column_at_the_first_upload(ready: Job, clever: Clever) -> None:
    put_files(clever)
    ready.set(TEACHER_ID_COLUMN="teachernumber")
    ended = ready.run()
    words = (
        "ERROR Clever would refuse 20 of 20 sections that have not ended: "
        f"20 {NO_TEACHER}, school 100: 10, school 101: 10. ",
    )
    check_held(ready, ended, clever, OLD, *words)
    forced = ready.run("--force")
    check_uploaded(ready, forced, clever)
    assert f"INFO {NO_TEACHER}: 20 sections (" in forced.log


def test_a_school_that_clever_does_not_know(ready: Job, clever: Clever) -> None:
    put_files(clever, schools=["100"])
    words = (
        "ERROR Clever would refuse 10 of 20 sections that have not ended: "
        f"10 {NO_SCHOOL}, school 101: 10. ",
    )
    check_held(ready, ready.run(), clever, OLD, *words)
    check_uploaded(ready, ready.set(IGNORED_SCHOOLS={101}).run(), clever, 10)


def test_a_section_that_lacks_both_counts_once(ready: Job, clever: Clever) -> None:
    put_files(clever, schools=["100"], teachers=["5002"])
    ended = ready.run()
    words = (
        "refuse 19 of 20 sections",
        "lead teacher not in",
        "school not in",
        "at IGNORED_SCHOOLS, or the schools file",
        "at TEACHER_ID_COLUMN, or that file",
    )
    check_held(ready, ended, clever, OLD, *words)


def test_refused_are_more_than_max_lost_and_more_than_two(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=without("5003", "5004", "5005"))
    check_held(ready, ready.run(), clever, OLD, "refuse 3 of 20 sections that have not ended")
    check_uploaded(ready, ready.set(MAX_LOST=0.15).run(), clever)


def test_sections_that_are_over_are_not_refused(ready: Job, clever: Clever) -> None:
    """Ten of the sections end on 2026-12-18; only their lead teachers are not known."""
    over = [str(5000 + number) for number in range(1, 21) if number // 2 % 4 in (1, 3)]
    put_files(clever, teachers=without(*over))
    ended = ready.run("--date", "2026-12-18")
    check_held(ready, ended, clever, OLD, "refuse 10 of 20 sections that have not ended")
    ready.log.unlink()
    ended = ready.run("--date", "2026-12-19")
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_another_form_of_the_teachers_file(ready: Job, clever: Clever) -> None:
    """test_check.py has further forms of CSV."""
    rows = "".join(f"100;{teacher}\r\n" for teacher in without("5003"))
    (clever.folder / "TEACHERS.CSV").write_bytes(f"\ufeffSchool_id;TEACHER ID\r\n{rows}".encode())
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"INFO {NO_TEACHER}: 1 section (101 C3.3)\n" in ended.log


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Name,Email\nx,y\n", "it has no columns Teacher_id"),
        (
            'School_id,Teacher_id,Name\n100,5001,x\n100,5002,x\n100,5003,"x\n100,5004,x\n',
            "line 4 cannot be read: a quote in it is not closed as it should be",
        ),
    ],
)
def test_a_teachers_file_that_is_broken_is_mailed(
    ready: Job, clever: Clever, content: str, words: str
) -> None:
    """It says nothing of TEACHER_ID_COLUMN, which may be right."""
    put_files(clever)
    (clever.folder / "teachers.csv").write_text(content)
    mailed = f"{NOT_COMPARED}teachers.csv: {words}\n"
    ended = ready.run()
    check_uploaded(ready, ended, clever, mailed=mailed)
    assert f"{NOT_COMPARED}schools" not in ended.log


@pytest.mark.parametrize(
    ("size", "mode", "fault", "words"),
    [
        (600_000_000, 0o100644, "", "it is no file, or too large for one"),
        (400, 0o020666, "", "it is no file, or too large for one"),
        (100_000, 0o100644, "", "it has not arrived whole"),
        (100_000, 0o100644, ENDLESS, "it has no columns Teacher_id"),
    ],
)
def test_no_more_is_read_of_the_teachers_file_than_the_listing_says(
    inside: Inside,
    ready: Job,
    clever: Clever,
    caplog: pytest.LogCaptureFixture,
    size: int,
    mode: int,
    fault: str,
    words: str,
) -> None:
    put_files(clever)
    clever.sizes["teachers.csv"] = size
    clever.modes["teachers.csv"] = mode
    clever.fault = at("READ teachers.csv", fault) if fault else None
    inside(ready)
    found = clever_sections.look("looking")
    assert found.ids.keys() == {"School_id"}
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.message == f"{NOT_COMPARED}teachers.csv: {words}"
    assert clever.steps.count("READ teachers.csv") <= 8


def test_a_teachers_file_that_arrives_short(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[*(f"x{number}" for number in range(20_000)), *TEACHERS])
    clever.fault = at("READ teachers", "end of file", after=1)
    mailed = f"{NOT_COMPARED}teachers.csv: it has not arrived whole\n"
    check_uploaded(ready, ready.run(), clever, mailed=mailed)


def test_the_other_files_may_not_be_read(ready: Job, clever: Clever) -> None:
    """Clever's server does so for some accounts: nobody is mailed every night."""
    put_files(clever, schools=["x"], teachers=["x"])
    clever.fault = at("OPEN (schools|teachers)", "not supported")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"INFO {NOT_COMPARED}schools.csv: not supported\n" in ended.log
    assert f"INFO {NOT_COMPARED}teachers.csv: not supported\n" in ended.log
    assert clever.steps.count("LOG IN") == 2  # one for the look, one for the upload


def test_the_other_files_are_not_there(ready: Job, clever: Clever) -> None:
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert f"INFO {NOT_COMPARED}schools.csv: there is none in the list" in ended.log
    assert f"INFO {NOT_COMPARED}teachers.csv: there is none in the list" in ended.log


def test_a_teachers_file_without_teachers_knows_none(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[])
    check_held(ready, ready.run(), clever, OLD, "refuse 20 of 20 sections")


@pytest.mark.takes_long
def test_a_slow_answer_is_no_stall(ready: Job, clever: Clever) -> None:
    put_files(clever)
    clever.fault = at("OPEN (schools|teachers)|READ", SLOW, times=6)
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert NOT_COMPARED not in ended.log


def test_a_large_file_is_read_whole(ready: Job, clever: Clever) -> None:
    put_files(clever, teachers=[*(f"x{number}" for number in range(30_000)), *TEACHERS])
    assert (clever.folder / "teachers.csv").stat().st_size > 700_000
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


def test_two_teachers_files_in_other_letters(ready: Job, clever: Clever) -> None:
    """What stands in one of them is known."""
    put_files(clever, teachers=TEACHERS[:20])
    (clever.folder / "Teachers.csv").write_text("Teacher_id\n" + "\n".join(TEACHERS[20:]) + "\n")
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "not in Clever's" not in ended.log


# --- A dry run ---


def test_a_dry_run_compares_with_clever_and_uploads_nothing(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    put_files(clever)
    move_to_a_fresh_folder(guarded)
    district.change(quiet.database, "DELETE FROM sections WHERE id = 4")
    ended = guarded.run("--dry-run")
    assert (ended.status, ended.stderr) == (0, "")
    assert "(+0, -1, 0 changed), dry run, not uploaded" in ended.log
    assert ended.files == {
        *("Sections.csv", "Sections.changes.csv", "clever_sections.lock", "clever_sections.log")
    }
    check_remote(clever, first_upload, "schools.csv", "teachers.csv")
    assert clever.stored == []
    assert not [step for step in clever.steps if step.startswith(("WRITE", "REMOVE", "RENAME"))]
    check_clean(guarded, ended)


def test_a_dry_run_is_stopped_like_any_other(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    move_to_a_fresh_folder(guarded)
    district.change(quiet.database, LOSE_SIX)
    ended = guarded.run("--dry-run")
    check_held(guarded, ended, clever, first_upload, "lose 6 of 20 sections")
    ended = guarded.run("--dry-run", "--force")
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(clever, first_upload)


def test_a_dry_run_finds_a_wrong_password(ready: Job, clever: Clever) -> None:
    ready.environment["CLEVER_SFTP_PASSWORD"] = "Birch-Road-17"
    ended = ready.run("--dry-run")
    words = ("looking at 127.0.0.1: logging in: ", "CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD")
    check_failed(ready, ended, *words, local=None)
    assert clever.passwords == ["Birch-Road-17"]


def test_a_dry_run_finds_a_wrong_host_key(ready: Job, clever: Clever, tmp_path: Path) -> None:
    with Clever(tmp_path / "other") as other:
        host = f"[127.0.0.1]:{clever.port}"
        ready.known_hosts.write_text(other.known_hosts_line(host=host))
    ended = ready.run("--dry-run")
    check_failed(ready, ended, "known_hosts", local=None)
    assert clever.passwords == []


@pytest.mark.parametrize("with_copy", [True, False])
def test_a_dry_run_without_clevers_variables_compares_with_the_copy(
    guarded: Job, quiet: PowerSchool, clever: Clever, with_copy: bool
) -> None:
    for name in ("CLEVER_SFTP_USERNAME", "CLEVER_SFTP_PASSWORD", "CLEVER_SFTP_ADDRESS"):
        del guarded.environment[name]
    if not with_copy:
        move_to_a_fresh_folder(guarded)
    district.change(quiet.database, "DELETE FROM sections WHERE id = 4")
    ended = guarded.run("--dry-run", "-v")
    assert ended.status == 0
    assert ("comparing with Sections.uploaded.csv, 20 sections\n" in ended.stderr) == with_copy
    assert ("(+0, -1, 0 changed), dry run" in ended.stderr) == with_copy
    assert "not looked at Clever" in ended.stderr
    assert clever.steps == []
    check_clean(guarded, ended)


def test_a_dry_run_with_one_of_clevers_variables_wants_all(ready: Job, clever: Clever) -> None:
    del ready.environment["CLEVER_SFTP_PASSWORD"]
    ended = ready.run("--dry-run")
    check_failed(ready, ended, "missing or empty variables: CLEVER_SFTP_PASSWORD", status=2)
    assert clever.steps == []


# --- Summer, and what looks like it: Clever is not asked ---

SUMMER = "2027-09-03"  # 91 days after the end of the year


@pytest.mark.parametrize("copy", ["there", "broken"])
def test_summer_is_quiet(guarded: Job, clever: Clever, first_upload: bytes, copy: str) -> None:
    if copy == "broken":
        guarded.uploaded.write_bytes(unclosed_quote(first_upload))
    before = {path: path.read_bytes() for path in guarded.folder.glob("Sections*")}
    ended = guarded.run("--date", SUMMER)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "INFO no school is in session: nothing written, nothing uploaded\n" in ended.log
    assert {path: path.read_bytes() for path in guarded.folder.glob("Sections*")} == before
    check_remote(clever, first_upload)
    assert clever.steps == []


def test_a_wrong_clock(guarded: Job, clever: Clever, first_upload: bytes) -> None:
    """--force does not help: there is nothing to upload."""
    words = (
        "ERROR no school is in session, yet 20 of Clever's sections have not ended",
        "Look at this machine's date",
    )
    for day, *force in [("2026-08-01",), ("2024-01-01", "--force")]:
        ended = guarded.run("--date", day, *force)
        check_held(guarded, ended, clever, first_upload, *words)
    assert clever.steps == []


def test_terms_that_lost_their_dates_by_mistake(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    district.change(quiet.database, "UPDATE terms SET firstday = NULL, lastday = NULL")
    words = "ERROR no school is in session, yet 20 of Clever's sections have not ended. "
    check_held(guarded, guarded.run(), clever, first_upload, words, "in PowerSchool at terms")


def test_two_sections_of_a_summer_school_may_end_early(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    """Two may always be lost; of three, the run says so."""
    rows = first_upload.replace(b"12/18/2026", b"06/04/2026").replace(b"06/04/2027", b"06/04/2026")
    three = rows.replace(b"06/04/2026", b"06/04/2027", 3)
    guarded.uploaded.write_bytes(rows.replace(b"06/04/2026", b"06/04/2027", 2))
    district.change(quiet.database, "DELETE FROM terms")
    ended = guarded.run()
    assert (ended.status, ended.stderr) == (0, "")
    guarded.uploaded.write_bytes(three)
    ended = guarded.run()
    assert ended.status == 1
    assert "yet 3 of Clever's sections have not ended" in ended.stderr
