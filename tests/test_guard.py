"""The guard: what Clever would lose is seen before it is lost, and people are told what changed."""

import os
import shutil
import subprocess
from pathlib import Path

import district
import pytest
from checks import OLD, QUICK, check_clean, check_remote, check_uploaded
from clever import Clever
from job import Ended, Job
from powerschool import PowerSchool

FORCE = "if the file is right, run once with --force, which uploads it anyway\n"


@pytest.fixture
def guarded(quiet: PowerSchool, clever: Clever, job: Job) -> Job:
    """A job after its first upload: 20 sections, of which 5 end on 2026-12-18."""
    check_uploaded(job.connect(quiet, clever).set(**QUICK), job.run(), clever)
    return job


def check_held(job: Job, ended: Ended, clever: Clever, before: bytes, *words: str) -> None:
    """The upload was held back, and Clever and the copy have what they had."""
    assert ended.status == 1
    assert ended.stderr.startswith("ERROR ")
    assert ended.stderr.count("\n") == 1
    for word in words:
        assert word in ended.stderr
    assert ended.stderr.removeprefix("ERROR ") in ended.log
    assert job.uploaded.read_bytes() == before
    assert "Sections.previous.csv" not in ended.files
    check_remote(clever, before)
    check_clean(job, ended)


# --- What counts as lost ---


@pytest.mark.parametrize(
    ("sql", "counts", "look"),
    [
        (
            "DELETE FROM sections WHERE id <= 6",
            "6 of 20 sections that have not ended: 6 not in the new file "
            "(school 100: 3, school 101: 3)",
            "schools, terms, sections",
        ),
        (
            "UPDATE schools SET state_excludefromreporting = 1 WHERE id = 101",
            "10 of 20 sections that have not ended: 10 not in the new file (school 101: 10)",
            "schools, terms, sections",
        ),
        (
            "DELETE FROM terms WHERE schoolid = 101",
            "10 of 20 sections that have not ended: 10 not in the new file (school 101: 10)",
            "schools, terms, sections",
        ),
        (
            "DELETE FROM sectionteacher",
            "20 of 20 sections that have not ended: 20 without any of their staff "
            "(school 100: 10, school 101: 10)",
            "sectionteacher, teachers, TEACHER_ID_COLUMN",
        ),
        (
            "DELETE FROM teachers",
            "20 of 20 sections that have not ended: 20 without any of their staff "
            "(school 100: 10, school 101: 10)",
            "sectionteacher, teachers, TEACHER_ID_COLUMN",
        ),
        (
            "UPDATE teachers SET users_dcid = users_dcid + 10000",
            "20 of 20 sections that have not ended: 20 without any of their staff "
            "(school 100: 10, school 101: 10)",
            "sectionteacher, teachers, TEACHER_ID_COLUMN",
        ),
        (
            "DELETE FROM sectionteacher WHERE sectionid <= 3",
            "3 of 20 sections that have not ended: 3 without any of their staff "
            "(school 100: 1, school 101: 2)",
            "sectionteacher, teachers, TEACHER_ID_COLUMN",
        ),
        (
            "DELETE FROM courses",
            "20 of 20 sections that have not ended: 20 without their course name "
            "(school 100: 10, school 101: 10)",
            "courses",
        ),
        (
            "UPDATE courses SET course_name = ' ' WHERE course_number IN ('C1', 'C2', 'C3')",
            "3 of 20 sections that have not ended: 3 without their course name "
            "(school 100: 1, school 101: 2)",
            "courses",
        ),
        (
            "DELETE FROM sections WHERE id = 1; DELETE FROM sectionteacher WHERE sectionid = 2;"
            " DELETE FROM courses WHERE course_number = 'C3'",
            "3 of 20 sections that have not ended: ",
            "schools, terms, sections",
        ),
    ],
)
def test_the_guard_stops(
    guarded: Job, quiet: PowerSchool, clever: Clever, sql: str, counts: str, look: str
) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(quiet.database, sql)
    ended = guarded.run()
    words = f"ERROR Clever would lose {counts}"
    check_held(guarded, ended, clever, before, words, "and in PowerSchool at ", look, FORCE)
    assert guarded.output.read_bytes() != before  # to be looked at
    forced = guarded.run("--force")
    assert forced.status == 0
    check_remote(clever, guarded.output.read_bytes())


def test_a_wrong_column_for_the_teachers(guarded: Job, clever: Clever) -> None:
    before = guarded.uploaded.read_bytes()
    ended = guarded.set(TEACHER_ID_COLUMN="teachernumber").run()
    words = "20 of 20 sections that have not ended: 20 without any of their staff"
    check_held(guarded, ended, clever, before, words)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM sections WHERE id <= 2",
        "DELETE FROM sectionteacher WHERE sectionid <= 2",
        "UPDATE sectionteacher SET teacherid = teacherid + 7 WHERE sectionid <= 2",
        "DELETE FROM courses WHERE course_number IN ('C1', 'C2')",
        # One of two staff goes; courses get other names.
        "DELETE FROM sectionteacher WHERE id % 10 = 1",
        "UPDATE courses SET course_name = course_name || ' new'",
    ],
)
def test_the_guard_lets_pass(guarded: Job, quiet: PowerSchool, clever: Clever, sql: str) -> None:
    """A tenth at the most, and what is changed but not lost."""
    district.change(quiet.database, sql)
    ended = guarded.run()
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(clever, guarded.output.read_bytes())


def test_a_section_that_has_lost_all_counts_once(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    district.change(quiet.database, "DELETE FROM sectionteacher; DELETE FROM courses")
    ended = guarded.run()
    assert "ERROR Clever would lose 20 of 20 sections that have not ended: 20 without any of " in (
        ended.stderr
    )


def test_what_had_no_staff_and_no_course_does_not_lose_them(
    quiet: PowerSchool, clever: Clever, job: Job
) -> None:
    some = "(SELECT id FROM sections WHERE id <= 9)"
    district.change(
        quiet.database,
        f"DELETE FROM sectionteacher WHERE sectionid IN {some};"
        "UPDATE courses SET course_name = NULL WHERE course_number IN ('C1', 'C2', 'C3', 'C4')",
    )
    assert job.connect(quiet, clever).set(**QUICK).run().status == 0
    district.change(quiet.database, f"UPDATE sections SET expression = '9' WHERE id IN {some}")
    ended = job.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "(+0, -0, 9 changed: Period 9), uploaded" in ended.log


def test_what_has_ended_cannot_be_lost(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    """Ten of the sections end on 2026-12-18."""
    over = "(SELECT id FROM sections WHERE termid IN (3601, 3603))"
    district.change(
        quiet.database,
        f"DELETE FROM sectionteacher WHERE sectionid IN {over};"
        f"UPDATE sections SET course_number = NULL WHERE id IN {over}",
    )
    ended = guarded.run("--date", "2026-12-18")
    assert "ERROR Clever would lose 10 of 20 sections that have not ended" in ended.stderr
    ended = guarded.run("--date", "2026-12-19")
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(clever, guarded.output.read_bytes())


def test_the_limit_is_a_setting(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    check_uploaded(guarded.set(MAX_LOST=0.3), guarded.run(), clever, 14)


def test_the_guard_is_forced(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 17")
    check_uploaded(guarded, guarded.run("--force"), clever, 3)


def test_a_new_school_year_passes(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    sql = """
        UPDATE terms SET id = id + 100, yearid = 37, firstday = '2027-08-16 00:00:00',
            lastday = '2028-06-02 00:00:00';
        UPDATE sections SET id = id + 1000, termid = termid + 100;
    """
    district.change(quiet.database, sql)
    check_uploaded(guarded, guarded.run("--date", "2027-08-16"), clever)


def test_the_last_day_of_a_term_is_not_past(guarded: Job, quiet: PowerSchool) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id > 1")
    ended = guarded.run("--dry-run", "--date", "2026-12-18")
    assert "19 of 20 sections that have not ended: 19 not" in ended.stderr
    ended = guarded.run("--dry-run", "--date", "2026-12-19")
    assert "9 of 10 sections that have not ended: 9 not" in ended.stderr


def test_dates_as_another_script_writes_them(guarded: Job, quiet: PowerSchool) -> None:
    text = guarded.uploaded.read_text()
    text = text.replace("12/18/2026", "2026-12-18").replace("06/04/2027", "2027-06-04")
    guarded.uploaded.write_text(text)
    district.change(quiet.database, "DELETE FROM sections WHERE id > 1")
    ended = guarded.run("--dry-run", "--date", "2026-12-19")
    assert "9 of 10 sections that have not ended: 9 not" in ended.stderr


# --- No value can switch it off ---


@pytest.mark.parametrize(
    "end",
    [
        *("", "soon", "00/00/0000", "13/45/2027", "06-04-27", "6/4/99999", "\0", '"a, b"'),
        "x" * 9999,
        "x" * 200_000,
    ],
)
def test_a_term_whose_end_is_no_date_has_not_ended(
    guarded: Job, quiet: PowerSchool, clever: Clever, end: str
) -> None:
    before = guarded.uploaded.read_bytes().replace(b"06/04/2027", end.encode())
    guarded.uploaded.write_bytes(before)
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR Clever would lose 6 of 20 sections that have not ended" in ended.stderr
    assert guarded.uploaded.read_bytes() == before


@pytest.mark.parametrize("value", ["NULL", "'0001-01-01 00:00:00'"])
def test_a_term_without_a_last_day(
    guarded: Job, quiet: PowerSchool, clever: Clever, value: str
) -> None:
    """PowerSchool stores a wrongly typed date as a blank."""
    district.change(quiet.database, f"UPDATE terms SET lastday = {value} WHERE id = 3602")
    ended = guarded.run()
    assert (ended.status, ended.stderr) == (0, "")
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR Clever would lose " in ended.stderr


def test_a_row_that_is_cut_off(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    whole = guarded.uploaded.read_bytes()
    guarded.uploaded.write_bytes(whole[: whole.rindex(b",Course")])
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR Clever would lose 6 of 20 sections" in ended.stderr


def test_a_copy_without_sections_is_a_warning(guarded: Job, clever: Clever) -> None:
    guarded.uploaded.write_bytes(guarded.uploaded.read_bytes().split(b"\n")[0] + b"\n\n,,,\n")
    ended = guarded.run()
    assert ended.status == 0
    assert ended.stderr == (
        "WARNING Sections.uploaded.csv is broken, so nothing is compared: it has no sections\n"
    )
    check_remote(clever, guarded.output.read_bytes())


def test_a_broken_copy_does_not_replace_the_previous_file(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    first = guarded.uploaded.read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    assert guarded.run().status == 0
    guarded.uploaded.write_bytes(b"garbage")
    assert guarded.run().status == 0
    assert (guarded.folder / "Sections.previous.csv").read_bytes() == first


def test_a_broken_copy_in_summer_is_not_mailed_every_night(guarded: Job, clever: Clever) -> None:
    guarded.uploaded.write_bytes(b"garbage")
    ended = guarded.run("--date", "2027-07-01")
    assert (ended.status, ended.stderr) == (0, "")
    assert "INFO Sections.uploaded.csv is broken, so nothing is compared: " in ended.log


def test_blank_lines_in_the_copy_are_no_sections(guarded: Job, clever: Clever) -> None:
    whole = guarded.uploaded.read_bytes()
    guarded.uploaded.write_bytes(whole.replace(b"\n", b"\r\r\n") + b"\n,,,,\n")
    ended = guarded.run()
    assert (ended.status, ended.stderr) == (0, "")
    assert "(+0, -0, 0 changed), uploaded" in ended.log


def test_a_line_end_in_a_value_makes_no_second_line(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    text = guarded.uploaded.read_text().replace("\n101,", '\n"10\n1",')
    guarded.uploaded.write_text(text)
    ended = guarded.run("--force")
    assert ended.status == 0
    assert ended.stderr == "WARNING Clever loses all sections of school 10 1\n"
    assert all(line[:2] == "20" for line in ended.log.splitlines())


@pytest.mark.parametrize("table", ["sectionteacher", "teachers"])
def test_a_first_upload_without_any_staff(
    ready: Job, quiet: PowerSchool, clever: Clever, table: str
) -> None:
    district.change(quiet.database, f"DELETE FROM {table}")
    ended = ready.run()
    assert ended.status == 1
    assert "ERROR PowerSchool shows no staff for any section. Look at " in ended.stderr
    check_remote(clever, OLD)
    forced = ready.run("--force")
    check_uploaded(ready, forced, clever)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"a,b\n1,2\n", b"\xff\xfe\x00S\x00", b"Section_id,Name\n1,x\n"]
)
def test_a_copy_that_is_no_sections_file_is_a_warning(
    guarded: Job, quiet: PowerSchool, clever: Clever, content: bytes
) -> None:
    guarded.uploaded.write_bytes(content)
    ended = guarded.run()
    assert ended.status == 0
    assert ended.stderr == (
        "WARNING Sections.uploaded.csv is broken, so nothing is compared: "
        "it has no columns School_id, Section_id, Teacher_id\n"
    )
    assert "(not compared), uploaded" in ended.log
    check_remote(clever, guarded.output.read_bytes())
    assert guarded.run().stderr == ""


# --- Summer, and what looks like it ---


def test_a_wrong_clock(guarded: Job, clever: Clever) -> None:
    before = guarded.uploaded.read_bytes()
    for day in ("2026-08-01", "2024-01-01"):
        ended = guarded.run("--date", day)
        words = "ERROR no school is in session, yet 20 of Clever's sections have not ended"
        check_held(guarded, ended, clever, before, words, "Look at this machine's date")
    forced = guarded.run("--force", "--date", "2024-01-01")
    assert forced.status == 1
    check_remote(clever, before)


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM terms", "UPDATE terms SET lastday = NULL", "UPDATE terms SET isyearrec = 0"],
)
def test_terms_that_were_deleted_by_mistake(
    guarded: Job, quiet: PowerSchool, clever: Clever, sql: str
) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(quiet.database, sql)
    ended = guarded.run()
    words = "ERROR no school is in session, yet 20 of Clever's sections have not ended. "
    check_held(guarded, ended, clever, before, words, "in PowerSchool at terms")


def test_summer_is_quiet(guarded: Job, clever: Clever) -> None:
    before = guarded.uploaded.read_bytes()
    ended = guarded.run("--date", "2027-06-05")
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "INFO no school is in session: nothing written, nothing uploaded\n" in ended.log
    check_remote(clever, before)
    assert guarded.uploaded.read_bytes() == before


# --- A school that goes ---


def test_a_school_that_clever_loses_is_named(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    district.change(
        quiet.database,
        "UPDATE terms SET lastday = '2026-11-23 00:00:00' WHERE schoolid = 101 AND id = 3600;"
        "UPDATE schools SET name = 'Elm Street' WHERE id = 101",
    )
    ended = guarded.set(MAX_LOST=0.6).run()
    assert ended.status == 0
    assert ended.stderr == "WARNING Clever loses all sections of school 101 Elm Street\n"
    check_remote(clever, guarded.output.read_bytes())
    again = guarded.run()
    assert (again.status, again.stderr) == (0, "")


def test_a_school_whose_sections_go_to_another_one(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    district.change(quiet.database, "UPDATE sections SET schoolid = 100 WHERE schoolid = 101")
    ended = guarded.run()
    assert ended.status == 0
    assert ended.stderr == "WARNING Clever loses all sections of school 101 School 101\n"


def test_a_small_school_that_is_not_shown_any_more(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    small = "INSERT INTO schools VALUES (500, 500, 'Night School', 9, 12, 0);"
    terms = "INSERT INTO terms SELECT id, 500, yearid, name, abbreviation, firstday, lastday,"
    terms += " isyearrec, portion FROM terms WHERE schoolid = 100;"
    section = "INSERT INTO sections VALUES (900, 500, 3600, 'C1', '1', '1', 9, 1, '1')"
    district.change(quiet.database, small + terms + section)
    assert guarded.run().status == 0
    district.change(quiet.database, "DELETE FROM schools WHERE id = 500")
    ended = guarded.run()
    assert ended.status == 0
    assert ended.stderr == "WARNING Clever loses all sections of school 500\n"


def test_a_school_whose_year_is_over_is_no_news(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    sql = "UPDATE terms SET lastday = '2027-05-28 00:00:00' WHERE schoolid = 101 AND id != 3601"
    district.change(quiet.database, sql)
    assert guarded.run().status == 0
    ended = guarded.run("--date", "2027-06-01")
    assert (ended.status, ended.stderr) == (0, "")
    check_remote(clever, guarded.output.read_bytes())


# --- Undoing, and moving over ---


def test_the_file_that_clever_had_before_stays(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    first = guarded.uploaded.read_bytes()
    previous = guarded.folder / "Sections.previous.csv"
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    assert guarded.run().status == 0
    second = guarded.uploaded.read_bytes()
    assert previous.read_bytes() == first != second
    # A run that changes nothing keeps it: the good file is not lost by looking again.
    assert guarded.run().status == 0
    assert previous.read_bytes() == first
    district.change(quiet.database, "DELETE FROM sections WHERE id = 2")
    assert guarded.run().status == 0
    assert previous.read_bytes() == second
    check_remote(clever, guarded.output.read_bytes())


@pytest.mark.parametrize("name", ["Sections.uploaded.csv", "Sections.previous.csv"])
def test_a_copy_cannot_be_kept(guarded: Job, quiet: PowerSchool, clever: Clever, name: str) -> None:
    before = guarded.uploaded.read_bytes()
    path = guarded.folder / name
    path.unlink(missing_ok=True)
    path.mkdir()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    ended = guarded.run()
    assert ended.status == 1
    assert "ERROR uploaded, but not copied to Sections.uploaded.csv: [Errno 21]" in ended.stderr
    assert f"{name}'. Remove" in ended.stderr
    assert ". Remove or rename that folder\n" in ended.stderr
    check_remote(clever, guarded.output.read_bytes())
    if name == "Sections.previous.csv":
        assert guarded.uploaded.read_bytes() == before
    check_clean(guarded, ended)


def test_the_copies_are_replaced_whole(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    """Whoever has the old one open goes on reading the old one: it is not written over."""
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    assert guarded.run().status == 0
    old = {}
    for name in ("Sections.uploaded.csv", "Sections.previous.csv"):
        os.link(guarded.folder / name, guarded.folder / f"old {name}")
        old[name] = (guarded.folder / name).read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 2")
    assert guarded.run().status == 0
    for name, content in old.items():
        assert (guarded.folder / f"old {name}").read_bytes() == content
        assert (guarded.folder / name).read_bytes() != content


@pytest.mark.parametrize(
    "form",
    [
        *("as it is", "quoted", "CRLF", "CR", "BOM", "tabs", "semicolons"),
        *("few columns", "other header", "other order"),
    ],
)
def test_the_file_of_another_script_is_compared(
    guarded: Job, quiet: PowerSchool, clever: Clever, form: str
) -> None:
    text = guarded.uploaded.read_text()
    lines = text.splitlines()
    if form == "quoted":
        lines = [",".join(f'"{value}"' for value in line.split(",")) for line in lines]
    if form in ("tabs", "semicolons"):
        lines = [line.replace(",", {"tabs": "\t", "semicolons": ";"}[form]) for line in lines]
    if form == "few columns":
        lines = [",".join(line.split(",")[:3]) for line in lines]
    if form == "other header":
        lines[0] = lines[0].replace("_", " ").upper()
    if form == "other order":
        lines = [",".join(reversed(line.split(","))) for line in lines]
    end = {"CRLF": "\r\n", "CR": "\r"}.get(form, "\n")
    content = "".join(line + end for line in lines).encode()
    guarded.uploaded.write_bytes(b"\xef\xbb\xbf" * (form == "BOM") + content)
    district.change(quiet.database, "UPDATE sections SET expression = '9(A)' WHERE id = 8")
    ended = guarded.run("--dry-run", "-v")
    assert ended.status == 0
    if form == "few columns":
        assert "(+0, -0, 20 changed: " in ended.stderr
        assert "Course_name (blank) -> Course 8" in ended.stderr
    else:
        assert "(+0, -0, 1 changed: Period 1), dry run" in ended.stderr
        assert "school 100, Course 8, period 9, id 8: Period 0 -> 9\n" in ended.stderr
    district.change(quiet.database, "DELETE FROM sectionteacher")
    ended = guarded.run("--dry-run")
    assert "20 of 20 sections that have not ended: 20 without any of their staff" in ended.stderr


# --- What changed ---


def test_what_changed(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    sql = """
        UPDATE sections SET id = 99, course_number = 'C7' WHERE id = 3;
        DELETE FROM sections WHERE id = 4;
        UPDATE sections SET expression = '9(A)' WHERE id IN (1, 2);
        UPDATE sections SET grade_level = NULL WHERE id = 2;
        UPDATE sectionteacher SET teacherid = 30 WHERE id = 10;
    """
    district.change(quiet.database, sql)
    ended = guarded.set(MAX_LOST=0.2).run("-v")
    closing = "(+1, -2, 2 changed: Period 2, Grade 1, Teacher_id 1), uploaded, "
    assert f"INFO 19 sections in 2 schools {closing}" in ended.stderr
    for line in [
        "DEBUG added: school 101, Course 7, period 3, id 99\n",
        "DEBUG removed: school 101, Course 3, period 3, id 3\n",
        "DEBUG removed: school 100, Course 4, period 4, id 4\n",
        "DEBUG changed: school 101, Course 1, period 9, id 1: "
        "Teacher_id 5001 -> 5030, Period 1 -> 9\n",
        "DEBUG changed: school 100, Course 2, period 9, id 2: Period 2 -> 9, Grade 9 -> (blank)\n",
    ]:
        assert line in ended.stderr
        assert line in ended.log
    check_remote(clever, guarded.output.read_bytes())


def test_at_most_twenty_are_named(tmp_path: Path, clever: Clever, job: Job) -> None:
    with PowerSchool(district.made(tmp_path / "large.db", sections=300)) as powerschool:
        assert job.connect(powerschool, clever).run().status == 0
        district.change(
            powerschool.database,
            "DELETE FROM sections WHERE id <= 23; UPDATE sections SET expression = '9'",
        )
        ended = job.run("-v")
    assert ended.status == 0
    assert ended.stderr.count("DEBUG removed: school ") == 20
    assert "DEBUG removed: and 3 more\n" in ended.stderr
    assert ended.stderr.count("DEBUG changed: school ") == 20
    assert "DEBUG changed: and 257 more\n" in ended.stderr


def test_a_dry_run_shows_what_an_upload_would_change(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 4")
    ended = guarded.run("--dry-run", "-v")
    assert "(+0, -1, 0 changed), dry run, not uploaded" in ended.stderr
    check_remote(clever, before)
    assert guarded.uploaded.read_bytes() == before


def test_the_first_upload_has_nothing_to_compare_with(ready: Job, clever: Clever) -> None:
    assert clever.files()[0].read_bytes() == OLD
    ended = ready.run()
    check_uploaded(ready, ended, clever)
    assert "(first upload), uploaded, " in ended.log


@pytest.mark.skipif(not shutil.which("sftp"), reason="sftp is missing: install openssh-client")
def test_putting_back_the_last_file_as_the_readme_says(
    guarded: Job, quiet: PowerSchool, clever: Clever, tmp_path: Path
) -> None:
    good = guarded.uploaded.read_bytes()
    district.change(quiet.database, "UPDATE sections SET expression = '9(A)'")
    assert guarded.run().status == 0
    check_remote(clever, guarded.output.read_bytes())

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    recipe = readme.split("### Putting back the last file", 1)[1].split("\n### ")[0]
    [command] = [line for line in recipe.splitlines() if line.startswith("sftp ")]
    [put] = [line for line in recipe.splitlines() if line.startswith("put ")]
    [copy] = [line for line in recipe.splitlines() if line.startswith("cp ")]
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
    script = f"{with_port} <<'END'\n{put}\nexit\nEND\n{copy}\n"
    subprocess.run(
        ["sh", "-e", "-c", script],
        env=environment,
        cwd=guarded.folder,
        check=True,
        capture_output=True,
        timeout=20,
    )
    check_remote(clever, good)
    assert guarded.uploaded.read_bytes() == good
    ended = guarded.run("--dry-run", "-v")
    assert "(+0, -0, 20 changed: Period 20), dry run" in ended.stderr
