"""What Clever would lose or refuse is seen before it is, and people are told what changes."""

import csv
import logging
import os
from argparse import Namespace
from datetime import date, timedelta
from typing import Any

import district
import pytest
from checks import OLD, check_clean, check_held, check_remote, check_uploaded
from clever import Clever
from job import Job
from powerschool import PowerSchool

import clever_sections
from clever_sections import Before, Change, District, Section

FORCE = "if all is right, run once with --force, which uploads it anyway\n"
TODAY = date(2026, 11, 24)


@pytest.fixture
def ready(ready: Job) -> Job:
    """No test here waits for a limit, so that a slow machine may take its time."""
    return ready.set(CONNECT_TIMEOUT_SECONDS=60, QUERY_TIMEOUT_SECONDS=60)


def replace_in_clever(job: Job, clever: Clever, content: bytes) -> None:
    """Have Clever hold this file, as the last upload."""
    for path in (clever.folder / "Sections.csv", job.uploaded):
        path.write_bytes(content)


def changes_of(job: Job) -> list[list[str]]:
    """The rows of Sections.changes.csv without its header."""
    with open(job.folder / "Sections.changes.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == (
        "kind school_id school_name section_id course period column before after".split()
    )
    return rows


def loses(sections: str, school: str) -> str:
    return (
        f"Clever loses school {school} with its {sections}. If that is wrong, look in PowerSchool"
    )


# --- What counts as lost ---

ALL = "school 100: 10, school 101: 10"
NOT_THERE = "not in the new file (look at state_excludefromreporting, terms, sections)"
NO_STAFF = "without any of their staff (look at TEACHER_ID_COLUMN, sectionteacher, teachers)"
NO_COURSE = "without their course name (look in PowerSchool at courses)"


@pytest.mark.parametrize(
    ("sql", "counts"),
    [
        (
            "UPDATE schools SET state_excludefromreporting = 1 WHERE id = 101",
            f"10 of 20 sections that have not ended: 10 {NOT_THERE}, school 101: 10",
        ),
        (
            "UPDATE teachers SET users_dcid = users_dcid + 10000",
            f"20 of 20 sections that have not ended: 20 {NO_STAFF}, {ALL}",
        ),
        (
            "DELETE FROM sections WHERE id = 1; DELETE FROM sectionteacher WHERE sectionid = 2;"
            " DELETE FROM courses WHERE course_number = 'C3'",
            f"3 of 20 sections that have not ended: 1 {NO_STAFF}, school 100: 1; "
            f"1 {NOT_THERE}, school 101: 1; 1 {NO_COURSE}, school 101: 1",
        ),
    ],
)
def test_too_many_sections_would_be_lost(
    guarded: Job, quiet: PowerSchool, clever: Clever, sql: str, counts: str
) -> None:
    before = guarded.uploaded.read_bytes()
    district.change(quiet.database, sql)
    ended = guarded.run()
    words = (f"ERROR Clever would lose {counts}. See Sections.changes.csv; ", FORCE)
    check_held(guarded, ended, clever, before, *words)
    assert clever.stored == []
    assert guarded.output.read_bytes() != before  # to be looked at
    assert changes_of(guarded)  # so is this


def test_a_wrong_column_for_the_teachers(guarded: Job, clever: Clever, first_upload: bytes) -> None:
    ended = guarded.set(TEACHER_ID_COLUMN="teachernumber").run()
    words = ("20 of 20 sections that have not ended: 20 without any of their staff", "_COLUMN")
    check_held(guarded, ended, clever, first_upload, *words)


def test_what_may_change_without_a_word(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    """A tenth at the most, and what is changed but not lost."""
    sql = """
        DELETE FROM sections WHERE id = 1;
        UPDATE sectionteacher SET teacherid = teacherid + 7 WHERE sectionid = 2;
        -- One of two staff goes.
        DELETE FROM sectionteacher WHERE id % 10 = 1 AND sectionid > 2;
        UPDATE courses SET course_name = course_name || ' new' WHERE course_number IN ('C3', 'C4');
    """
    district.change(quiet.database, sql)
    check_uploaded(guarded, guarded.run(), clever, 19)
    changed = {(row[3], row[6]) for row in changes_of(guarded) if row[0] == "changed"}
    assert {("2", "Teacher_id"), ("3", "Teacher_2_id"), ("4", "Course_name")} < changed


def test_two_sections_may_always_be_lost(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    """Two of five are more than a tenth; three of five are more than two, as well."""
    district.change(quiet.database, "DELETE FROM sections WHERE id > 5")
    replace_in_clever(
        guarded,
        clever,
        b"".join(
            line
            for line in first_upload.splitlines(keepends=True)
            if line.split(b",")[1] in (b"Section_id", b"1", b"2", b"3", b"4", b"5")
        ),
    )
    five = guarded.uploaded.read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id IN (1, 2, 3)")
    check_held(guarded, guarded.run(), clever, five, "lose 3 of 5 sections that have not ended")
    district.change(
        quiet.database,
        "INSERT INTO sections VALUES (3, 101, 3602, 'C3', '3', '3(A)', 9, NULL, '3')",
    )
    check_uploaded(guarded, guarded.run(), clever, 3)


def test_what_had_no_staff_and_no_course_does_not_lose_them(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    some = "(SELECT id FROM sections WHERE id <= 9)"
    district.change(
        quiet.database,
        f"DELETE FROM sectionteacher WHERE sectionid IN {some};"
        "UPDATE courses SET course_name = NULL WHERE course_number IN ('C1', 'C2', 'C3', 'C4')",
    )
    assert guarded.run("--force").status == 0
    district.change(quiet.database, f"UPDATE sections SET expression = '9' WHERE id IN {some}")
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert "(+0, -0, 9 changed: Period 9), uploaded" in ended.log


def test_what_has_ended_cannot_be_lost(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    """Ten of the sections end on 2026-12-18, and the last day of a term is not past."""
    over = "(SELECT id FROM sections WHERE termid IN (3601, 3603))"
    district.change(
        quiet.database,
        f"DELETE FROM sectionteacher WHERE sectionid IN {over};"
        f"UPDATE sections SET course_number = NULL WHERE id IN {over}",
    )
    ended = guarded.run("--date", "2026-12-18")
    check_held(guarded, ended, clever, first_upload, "lose 10 of 20 sections that have not ended")
    check_uploaded(guarded, guarded.run("--date", "2026-12-19"), clever)


def test_what_is_lost_is_forced(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 17")
    check_uploaded(guarded, guarded.run("--force"), clever, 3)
    check_uploaded(guarded, guarded.run(), clever, 3)  # and needs no force again


def test_a_new_school_year_passes(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    sql = """
        UPDATE terms SET id = id + 100, yearid = 37, firstday = '2027-08-16 00:00:00',
            lastday = '2028-06-02 00:00:00';
        UPDATE sections SET id = id + 1000, termid = termid + 100;
        UPDATE sectionteacher SET sectionid = sectionid + 1000;
    """
    district.change(quiet.database, sql)
    check_uploaded(guarded, guarded.run("--date", "2027-08-16"), clever)


# --- No value in Clever's file can switch that off ---


def test_a_term_whose_end_is_no_date_has_not_ended(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    before = first_upload.replace(b"06/04/2027", b"x" * 200_000)
    replace_in_clever(guarded, clever, before)
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    check_held(guarded, guarded.run(), clever, before, "lose 6 of 20 sections that have not")


@pytest.mark.parametrize("end", ["", "soon", "06-04-27", "\0", '"a, b"'])
def test_no_text_in_clevers_file_ends_a_term(first_upload: bytes, end: str) -> None:
    content = first_upload.replace(b"06/04/2027", end.encode())
    before = clever_sections.read_sections(content, "Clever's", district_of())
    lasting = [
        one for one in before.sections.values() if clever_sections.lasts(one.term_end, TODAY)
    ]
    assert len(lasting) == 20


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("12/18/2026", date(2026, 12, 18)),
        ("2026-12-18", date(2026, 12, 18)),
        ("6/4/2027", date(2027, 6, 4)),
    ],
)
def test_the_day_on_which_a_term_of_clevers_ends(text: str, day: date) -> None:
    assert clever_sections.lasts(text, day)
    assert not clever_sections.lasts(text, day + timedelta(days=1))


@pytest.mark.parametrize("text", ["", "soon", "00/00/0000", "13/45/2027", "06-04-27", "6/4/99999"])
def test_what_is_no_date_never_ends(text: str) -> None:
    assert clever_sections.lasts(text, date.max)


def test_a_row_that_is_cut_off(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    cut = first_upload[: first_upload.rindex(b",Course")]
    replace_in_clever(guarded, clever, cut)
    district.change(quiet.database, "DELETE FROM sections WHERE id <= 6")
    check_held(guarded, guarded.run(), clever, cut, "lose 6 of 20 sections that have not ended")


def test_a_line_end_in_a_value_makes_no_second_line(
    guarded: Job, clever: Clever, first_upload: bytes
) -> None:
    replace_in_clever(guarded, clever, first_upload.replace(b"\n101,", b'\n"10\n1",'))
    ended = guarded.run("--force")
    check_uploaded(guarded, ended, clever, mailed=loses("10 sections", "10 1"))
    assert all(line[:2] == "20" for line in ended.log.splitlines())


# --- Staff ---


def test_a_first_upload_without_any_staff(ready: Job, quiet: PowerSchool, clever: Clever) -> None:
    """Whether there are no teachers, or only no assignments."""
    district.change(quiet.database, "CREATE TABLE kept AS SELECT * FROM teachers")
    district.change(quiet.database, "DELETE FROM teachers")
    words = ("ERROR PowerSchool shows no staff for any section. Look ", "--force")
    check_held(ready, ready.run(), clever, OLD, *words)
    sql = "INSERT INTO teachers SELECT * FROM kept; DELETE FROM sectionteacher"
    district.change(quiet.database, sql)
    check_uploaded(ready, ready.run("--force"), clever, mailed="20 of 20 sections have no staff")


def test_a_first_upload_with_staff_for_some_is_mailed(
    ready: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """As before a term, it is no reason to stop; the next night it is no news."""
    district.change(quiet.database, "DELETE FROM sectionteacher WHERE sectionid > 5")
    ended = ready.run()
    check_uploaded(ready, ended, clever, mailed="15 of 20 sections have no staff, so Clever ref")
    assert "INFO no staff, Clever refuses it: 15 sections (" in ended.log
    check_uploaded(ready, ready.run(), clever)


def test_more_new_sections_without_staff_are_mailed(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Nothing is lost: these sections are new. Two are no matter, three are."""
    new = "INSERT INTO sections SELECT id + 100, schoolid, termid, course_number, section_number,"
    new += " expression, grade_level, teacher, external_expression FROM sections WHERE id"
    district.change(quiet.database, f"{new} <= 2")
    check_uploaded(guarded, guarded.run(), clever, 22)
    district.change(quiet.database, f"{new} = 3")
    mailed = "3 of 23 sections have no staff, so Clever refuses"
    check_uploaded(guarded, guarded.run(), clever, 23, mailed=mailed)
    check_uploaded(guarded, guarded.run(), clever, 23)


# --- A school that goes ---


@pytest.mark.parametrize("name_from", ["PowerSchool", "Clever's schools file", "nowhere"])
def test_a_school_that_clever_loses_is_named(
    guarded: Job, quiet: PowerSchool, clever: Clever, name_from: str
) -> None:
    names = {"PowerSchool": "101 Elm Street", "nowhere": "101"}
    sql = "DELETE FROM schools WHERE id = 101"
    if name_from == "PowerSchool":
        sql = "UPDATE schools SET name = 'Elm Street'; DELETE FROM terms WHERE schoolid = 101"
    if name_from == "Clever's schools file":
        (clever.folder / "schools.csv").write_text(
            "School_id,School_name\n100,School 100\n101,Oak Hill\n"
        )
        names[name_from] = "101 Oak Hill"
    district.change(quiet.database, sql)
    ended = guarded.set(MAX_LOST=0.6).run()
    check_uploaded(guarded, ended, clever, 10, mailed=loses("10 sections", names[name_from]))
    if name_from == "PowerSchool":
        check_uploaded(guarded, guarded.run(), clever, 10)  # it is news once


def test_a_school_whose_sections_go_to_another_one(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    district.change(
        quiet.database,
        "UPDATE sections SET schoolid = 100 WHERE schoolid = 101;"
        "UPDATE teachers SET schoolid = 100",
    )
    ended = guarded.run()
    check_uploaded(guarded, ended, clever, mailed=loses("10 sections", "101 School 101"))
    assert "INFO 100 School 100: 10 -> 20 sections (+0, -0, 10 changed: School_id 10" in ended.log


def test_a_school_with_one_section_that_goes(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    replace_in_clever(guarded, clever, first_upload + b"500,900,5001\n")
    check_uploaded(guarded, guarded.run(), clever, mailed=loses("1 section", "500"))


def test_a_school_whose_year_is_over_is_no_news(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    lines = first_upload.splitlines(keepends=True)
    over = [line.replace(b"06/04/2027", b"11/20/2026") for line in lines]
    over = [line.replace(b"12/18/2026", b"11/20/2026") for line in over]
    rows = [old if line.startswith(b"101") else line for line, old in zip(lines, over, strict=True)]
    replace_in_clever(guarded, clever, b"".join(rows))
    district.change(quiet.database, "DELETE FROM terms WHERE schoolid = 101")
    check_uploaded(guarded, guarded.run(), clever, 10)


# --- What changes ---


def test_what_changes_is_in_a_table_and_in_a_line_for_each_school(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    sql = """
        UPDATE schools SET name = 'East High' WHERE id = 101;
        INSERT INTO sections VALUES (99, 101, 3602, 'C7', '9', '6(A)', 9, NULL, '6(A)');
        DELETE FROM sections WHERE id IN (3, 4);
        UPDATE sections SET expression = '9(A)' WHERE id IN (1, 2);
        UPDATE sections SET grade_level = NULL WHERE id = 2;
        UPDATE sectionteacher SET teacherid = 10100030 WHERE id = 10;
    """
    district.change(quiet.database, sql)
    ended = guarded.run("-v")
    assert ended.status == 0
    assert changes_of(guarded) == [
        ["changed", "100", "School 100", "2", "Course 2", "9", "Period", "2", "9"],
        ["changed", "100", "School 100", "2", "Course 2", "9", "Grade", "9", ""],
        ["removed", "100", "School 100", "4", "Course 4", "4", "", "", ""],
        ["changed", "101", "East High", "1", "Course 1", "9", "Teacher_id", "5001", "5030"],
        ["changed", "101", "East High", "1", "Course 1", "9", "Period", "1", "9"],
        ["removed", "101", "East High", "3", "Course 3", "3", "", "", ""],
        ["added", "101", "East High", "99", "Course 7", "6", "", "", ""],
    ]
    for line in [
        "INFO 100 School 100: 10 -> 9 sections (+0, -1, 1 changed: Period 1, Grade 1)\n",
        "INFO 101 East High: 10 -> 10 sections (+1, -1, 1 changed: Teacher_id 1, Period 1)\n",
    ]:
        assert ended.stderr.count(line) == 1
        assert ended.log.count(line) == 1
    closing = "(+1, -2, 2 changed: Period 2, Grade 1, Teacher_id 1), uploaded, "
    assert f"INFO 19 sections in 2 schools {closing}" in ended.stderr
    check_remote(clever, guarded.output.read_bytes())


def test_a_quiet_night_changes_nothing(guarded: Job, clever: Clever) -> None:
    ended = guarded.run()
    check_uploaded(guarded, ended, clever)
    assert changes_of(guarded) == []
    assert " -> " not in ended.log


def test_every_change_is_in_the_table_and_no_other_list_anywhere(
    guarded: Job, quiet: PowerSchool
) -> None:
    district.change(quiet.database, "UPDATE sections SET expression = '9(A)' WHERE id <= 15")
    ended = guarded.run("-v")
    assert ended.status == 0
    assert len(changes_of(guarded)) == 15
    assert "Course 8" not in ended.stderr + ended.log


def test_a_change_of_more_than_three_quarters_is_mailed(
    guarded: Job, quiet: PowerSchool, clever: Clever
) -> None:
    """Apps hold such a sync. It is uploaded all the same."""
    district.change(
        quiet.database,
        "UPDATE sections SET expression = '9(A)' WHERE id <= 16;"
        "UPDATE sections SET grade_level = 10 WHERE id = 1",
    )
    ended = guarded.run()
    check_uploaded(guarded, ended, clever, mailed="16 of Clever's 20 sections change")
    for words in ("Period", "Sections.changes.csv", "setting"):
        assert words in ended.stderr
    assert "Grade" not in ended.stderr
    check_uploaded(guarded, guarded.run(), clever)


@pytest.mark.parametrize(("changed", "warnings"), [(0, 0), (15, 0), (16, 1), (20, 1)])
def test_three_quarters_may_change(
    caplog: pytest.LogCaptureFixture, changed: int, warnings: int
) -> None:
    """However many values of them do, and whatever is added."""
    before = before_of(*(section(str(number)) for number in range(20)))
    changes = [Change("added", "100", "", str(number), "", "") for number in range(30, 60)]
    for column in ("Period", "Grade"):
        values = (column, "1", "2")
        changes += [Change("changed", "100", "", str(n), "", "", *values) for n in range(changed)]
    clever_sections.warn_of_big_change(changes, before)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warnings


# --- The copies ---


def test_the_file_that_clever_had_before_stays(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes
) -> None:
    previous = guarded.folder / "Sections.previous.csv"
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    check_uploaded(guarded, guarded.run(), clever, 19)
    second = guarded.uploaded.read_bytes()
    assert previous.read_bytes() == first_upload != second
    # A run that changes nothing keeps it: the good file is not lost by looking again.
    check_uploaded(guarded, guarded.run(), clever, 19)
    assert previous.read_bytes() == first_upload
    district.change(quiet.database, "DELETE FROM sections WHERE id = 2")
    check_uploaded(guarded, guarded.run(), clever, 18)
    assert previous.read_bytes() == second


@pytest.mark.parametrize("name", ["Sections.uploaded.csv", "Sections.previous.csv"])
def test_a_copy_cannot_be_kept(
    guarded: Job, quiet: PowerSchool, clever: Clever, first_upload: bytes, name: str
) -> None:
    blocked = guarded.folder / name
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")

    def block(step: str) -> None:
        """At the upload, when the copy has been read."""
        if step.startswith("RENAME"):
            blocked.unlink(missing_ok=True)
            blocked.mkdir()

    clever.fault = block
    ended = guarded.run()
    assert ended.status == 1
    assert f"ERROR uploaded, but writing {name}: [Errno 21] " in ended.stderr
    check_remote(clever, guarded.output.read_bytes())
    if name == "Sections.previous.csv":
        assert guarded.uploaded.read_bytes() == first_upload
    check_clean(guarded, ended)


def test_the_copies_are_replaced_whole(guarded: Job, quiet: PowerSchool, clever: Clever) -> None:
    """Whoever has the old one open goes on reading the old one: it is not written over."""
    district.change(quiet.database, "DELETE FROM sections WHERE id = 1")
    check_uploaded(guarded, guarded.run(), clever, 19)
    names = ("Sections.uploaded.csv", "Sections.previous.csv", "Sections.changes.csv")
    old = {}
    for name in names:
        os.link(guarded.folder / name, guarded.folder / f"old {name}")
        old[name] = (guarded.folder / name).read_bytes()
    district.change(quiet.database, "DELETE FROM sections WHERE id = 2")
    assert guarded.run().status == 0
    for name, content in old.items():
        assert (guarded.folder / f"old {name}").read_bytes() == content
        assert (guarded.folder / name).read_bytes() != content


# --- Direct tests, each of one function ---


def section(number: str, school: str = "100", staff: str = "5001", **values: str) -> Section:
    """A section, with the ids of its staff between blanks."""
    plain = {
        "course_name": "Math",
        "course_number": "M1",
        "section_number": number,
        "period": "3",
        "subject": "Math",
        "grade": "9",
        "term_start": "08/17/2026",
        "term_end": "06/04/2027",
        "term_name": "Year 26-27",
    }
    return Section(school, number, tuple(staff.split()), **(plain | values))


def district_of(*sections: Section) -> District:
    return District(
        schools={"100": "East High", "101": "West High"},
        in_session={"100", "101"},
        sections={one.section_id: one for one in sections},
    )


def before_of(*sections: Section) -> Before:
    by_id = {one.section_id: one for one in sections}
    return Before("Clever's", by_id)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (section("1"), section("1"), ""),
        (section("1"), section("1", school="101", period="9", term_end=""), ""),
        (section("1"), None, NOT_THERE),
        (section("1"), section("1", staff=""), NO_STAFF),
        (section("1"), section("1", staff="5002"), NO_STAFF),
        (section("1", staff="1 2"), section("1", staff="3 2"), ""),
        (section("1", staff=""), section("1", staff="5002"), ""),
        (section("1", staff=""), section("1", staff=""), ""),
        (section("1"), section("1", course_name=""), NO_COURSE),
        (section("1"), section("1", course_name="Algebra"), ""),
        (section("1", course_name=""), section("1", course_name=""), ""),
    ],
)
def test_why_a_section_would_be_lost(old: Section, new: Section | None, reason: str) -> None:
    assert clever_sections.why_lost(old, new) == reason


IDS = {"School_id": {"100": "East High"}, "Teacher_id": {"5001": ""}}
NO_TEACHER = "lead teacher not in Clever's teachers file (look at TEACHER_ID_COLUMN, or that file)"
NO_SCHOOL = "school not in Clever's schools file (look at IGNORED_SCHOOLS, or the schools file)"


@pytest.mark.parametrize(
    ("new", "ids", "reason"),
    [
        (section("1"), IDS, ""),
        (section("1", staff="5001 9"), IDS, ""),
        (section("1", staff=""), IDS, ""),
        (section("1", staff="9 5001"), IDS, NO_TEACHER),
        (section("1", school="101"), IDS, NO_SCHOOL),
        (section("1", school="101", staff="9"), {}, ""),
        (section("1", school="101", staff="9"), {"Teacher_id": {"9": ""}}, ""),
        (section("1", school="101", staff="9"), {"School_id": {"101": "x"}}, ""),
        (section("1", staff="9"), {"Teacher_id": {}}, NO_TEACHER),
    ],
)
def test_why_a_section_would_be_refused(
    new: Section, ids: dict[str, dict[str, str]], reason: str
) -> None:
    assert clever_sections.why_refused(new, ids) == reason


@pytest.mark.parametrize(
    ("found", "total", "are_too_many"),
    [
        (0, 0, False),
        (2, 2, False),
        (2, 5, False),
        (3, 3, True),
        (3, 29, True),
        (3, 30, False),
        (4, 39, True),
        (100, 1000, False),
        (101, 1000, True),
    ],
)
def test_too_many_are_more_than_a_tenth_and_more_than_two(
    found: int, total: int, are_too_many: bool
) -> None:
    sections = [section(str(number)) for number in range(found)]
    assert clever_sections.are_too_many(sections, total) == are_too_many


def check_against(old: list[Section], new: list[Section]) -> None:
    """What the job does before an upload."""
    options = Namespace(date=TODAY, force=False)
    clever_sections.check(before_of(*old), district_of(*new), {}, options)


OLD_SECTIONS = [section(str(number), school=str(100 + number % 2)) for number in range(1, 21)]


@pytest.mark.parametrize(
    ("lost", "values", "reason"),
    [
        (
            3,
            None,
            f"3 of 20 sections that have not ended: 3 {NOT_THERE}, school 101: 2, school 100: 1",
        ),
        (3, {"staff": ()}, f"3 of 20 sections that have not ended: 3 {NO_STAFF}, school 101: 2, "),
        (
            20,
            {"staff": ()},
            f"20 of 20 sections that have not ended: 20 {NO_STAFF}, school 101: 10",
        ),
        (
            20,
            {"course_name": ""},
            f"20 of 20 sections that have not ended: 20 {NO_COURSE}, school ",
        ),
        (3, {"course_name": ""}, f"3 of 20 sections that have not ended: 3 {NO_COURSE}, school 10"),
    ],
)
def test_the_line_on_what_would_be_lost(
    lost: int, values: dict[str, Any] | None, reason: str
) -> None:
    rest = OLD_SECTIONS[lost:]
    changed = [one._replace(**values) for one in OLD_SECTIONS[:lost]] if values else []
    with pytest.raises(clever_sections.Failure) as caught:
        check_against(OLD_SECTIONS, [*changed, *rest])
    assert str(caught.value).startswith(f"Clever would lose {reason}")
    assert f"{caught.value}\n".endswith(FORCE)


def test_the_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clever_sections, "MAX_LOST", 0.3)
    check_against(OLD_SECTIONS, OLD_SECTIONS[6:])
    with pytest.raises(clever_sections.Failure, match="lose 7 of 20 sections"):
        check_against(OLD_SECTIONS, OLD_SECTIONS[7:])


def test_the_changes_between_two_files() -> None:
    one, two, three, four = section("1"), section("2"), section("3", staff="1 2"), section("4")
    new_two = section("2", period="5", course_name="Algebra")
    new_three = section("3", school="101", staff="1")
    five = section("5")
    old = before_of(one, two, three, four)
    changes = clever_sections.changes_between(old, district_of(one, new_two, new_three, five))
    about_two = ("100", "East High", "2", "Algebra", "5")
    about_three = ("101", "West High", "3", "Math", "3")
    assert sorted(changes) == [
        Change("added", "100", "East High", "5", "Math", "3"),
        Change("changed", *about_two, "Course_name", "Math", "Algebra"),
        Change("changed", *about_two, "Period", "3", "5"),
        Change("changed", *about_three, "School_id", "100", "101"),
        Change("changed", *about_three, "Teacher_2_id", "2", ""),
        Change("removed", "100", "East High", "4", "Math", "3"),
    ]


def test_a_column_that_is_not_there_is_no_change() -> None:
    new = district_of(section("1"))
    file = b"School_id,Section_id,Teacher_id,Period\n100,1,5001,4\n"
    old = clever_sections.read_sections(file, "Clever's", new)
    [change] = clever_sections.changes_between(old, new)
    assert (change.column, change.before, change.after) == ("Period", "4", "3")


def test_a_first_upload_has_no_changes() -> None:
    nothing = before_of()
    assert list(clever_sections.changes_between(nothing, district_of(section("1")))) == []


def test_the_summary_of_changes() -> None:
    def change(kind: str, number: int, column: str = "") -> Change:
        return Change(kind, "100", "East High", str(number), "Math", "3", column)

    summary = clever_sections.summary
    assert summary([]) == "+0, -0, 0 changed"
    added = [change("added", number) for number in range(1_200)]
    assert summary([*added, change("removed", 5000)]) == "+1,200, -1, 0 changed"
    values = [change("changed", number, "Period") for number in range(3)]
    values += [change("changed", 1, "Grade"), change("changed", 2, "Grade")]
    assert summary(values) == "+0, -0, 3 changed: Period 3, Grade 2"


ROWS = [{"School_id": "100", "Section_id": "1"}, {"School_id": "100", "Section_id": "2"}]


@pytest.mark.parametrize(
    "content",
    [
        b"School_id,Section_id\n100,1\n100,2\n",
        b"School_id,Section_id\r\n100,1\r\n100,2",
        b"School_id,Section_id\r100,1\r100,2\r",
        b"School_id;Section_id\n100;1\n100;2\n",
        b"School_id\tSection_id\n100\t1\n100\t2\n",
        b'"School_id","Section_id"\n"100","1"\n"100","2"\n',
        b"SCHOOL ID, section_ID \n100,1\n100,2\n",
        b"\xef\xbb\xbfSchool_id,Section_id\n100,1\n100,2\n",
        "\ufeffSchool_id,Section_id\n100,1\n100,2\n".encode("utf-16-le"),
        "\ufeffSchool_id,Section_id\n100,1\n100,2\n".encode("utf-16-be"),
        b"School_id,Section_id\n1\x0000,1\n100,2\n",
    ],
)
def test_the_rows_of_any_usual_csv(content: bytes) -> None:
    assert list(clever_sections.csv_rows(content, "School_id", "Section_id")) == ROWS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has no columns Section_id"),
        (b"\n", "it has no columns Section_id"),
        (b"School_id,Name\n100,x\n", "it has no columns Section_id"),
        (b'Section_id,Name\n1,"x\n2,y\n3,z\n', "line 2 cannot be read"),
        (b'Section_id,Name\n1,"x\n', "line 2 cannot be read"),
        (b'Section_id,Name\n1,"x', "line 2 cannot be read"),
        (b'Section_id,Name\n1,"a\nb"\n2,"x\n', "line 4 cannot be read"),
        (b'Section_id,Name\n1,x\n2,y\n3,"z""\n', "line 4 cannot be read"),
    ],
)
def test_what_is_no_csv_to_read(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(clever_sections.csv_rows(content, "Section_id"))


@pytest.mark.parametrize("name", ['A "B" C', 'say ""', "a\nb", "a,b", '"', ""])
def test_quotes_and_line_ends_in_a_value_are_no_harm(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    content = f'Section_id,Name\n1,{quoted}\n2,plain " quote\n'.encode()
    rows = list(clever_sections.csv_rows(content, "Section_id"))
    assert rows == [
        {"Section_id": "1", "Name": name},
        {"Section_id": "2", "Name": 'plain " quote'},
    ]


def test_the_sections_of_a_file() -> None:
    content = (
        b"section id,SCHOOL_ID,Teacher_id,Teacher_3_id,Period,Colour\n"
        b"1, 100 ,5001,5003,3,red\n"
        b"1,100,5002,,9,the second one of this id\n"
        b"\n,,,,,\n"
        b"2,101\n"
    )
    before = clever_sections.read_sections(content, "Clever's", district_of())
    blank = dict.fromkeys(Section._fields[3:], "")
    assert before.sections == {
        "1": Section("100", "1", ("5001", "5003"), **(blank | {"period": "3"})),
        "2": Section("101", "2", (), **blank),
    }
    assert before.source == "Clever's"


def test_a_file_without_sections() -> None:
    content = b"School_id,Section_id,Teacher_id\n\n,,\n"
    before = clever_sections.read_sections(content, "Clever's", district_of())
    assert (before.source, before.sections) == ("first upload", {})
