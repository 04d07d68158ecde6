"""The whole job as a process, against both stand-ins: what it writes, uploads, says and returns."""

import csv
import io
import os
import pty
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import district
import pytest
from checks import NEW_FILES
from clever import Clever
from faults import at
from job import Job
from powerschool import PowerSchool

GOLDEN = (Path(__file__).parent / "sample.csv").read_bytes()


def rows(content: bytes) -> dict[str, dict[str, str]]:
    """A sections file as Section_id: row."""
    return {row["Section_id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}


def staff(row: dict[str, str]) -> list[str]:
    return [value for name, value in row.items() if name.startswith("Teacher_") and value]


STANDING = [
    "ERROR more than 10 staff: section 32, 300 BIO.1 Biology; Lab",
    "INFO no current school year: 400 Summer School",
    "INFO no subject for credit type Mus: 4 sections (200 BAND.1, 200 BAND.2, 200 BAND.3, ...)",
    "INFO grade 100 cannot be read: 1 section (200 BAND.2)",
    "INFO grade 10 cannot be read: 2 sections (100 MA3.3, 310 ALG1.1)",
    "INFO grade 13 cannot be read: 1 section (300 ART.1)",
    "INFO grade 14 cannot be read: 1 section (320 ART.3)",
    "INFO grade 19 cannot be read: 1 section (300 ART.2)",
    "INFO no staff, Clever refuses it: 2 sections (200 BAND.2, 200 GONE.1)",
    "INFO no such course in PowerSchool: 1 section (200 GONE.1)",
]


def test_the_upload_is_what_was_written_by_hand(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    ended = job.connect(powerschool, clever).run()
    assert ended.status == 0
    assert (clever.folder / "Sections.csv").read_bytes() == GOLDEN
    assert job.output.read_bytes() == GOLDEN
    assert [path.name for path in clever.folder.iterdir()] == ["Sections.csv"]
    assert ended.files == NEW_FILES


def test_the_log_names_every_school_and_the_totals(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    log = job.connect(powerschool, clever).run().log
    assert log.count("more than 10 staff") == 1  # one section has just ten
    assert "INFO 100 Lincoln Elementary: year 26-27, terms 3, sections 16\n" in log
    assert "INFO 200 Carver Middle: year 26-27, terms 1, sections 7\n" in log
    assert "INFO 300 Roosevelt High: year 26-27, terms 3, sections 8\n" in log
    assert "INFO 310 Ridge Academy: year 26-27, terms 1, sections 3\n" in log
    assert "INFO 320 Career Center: year 26-27, terms 1, sections 3\n" in log
    assert "INFO 37 sections in 5 schools (first upload), uploaded, " in log.splitlines()[-1]


@pytest.mark.parametrize("day", ["2026-11-24", "2026-07-20"])
def test_a_healthy_night_mails_nobody(
    powerschool: PowerSchool, clever: Clever, job: Job, day: str
) -> None:
    """What stands as it stood is in the log; also in summer."""
    ended = job.connect(powerschool, clever).run("--date", day)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    if day == "2026-11-24":
        for line in STANDING:
            assert f" {line}\n" in ended.log


def test_a_terminal_sees_each_school_and_what_stands(powerschool: PowerSchool, job: Job) -> None:
    try:
        terminal, stderr = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal to be had: {error}")
    process = job.connect(powerschool).start("--dry-run", stderr=stderr)
    os.close(stderr)
    assert process.wait(timeout=30) == 0
    seen = os.read(terminal, 100_000).decode()
    assert "INFO 100 Lincoln Elementary: year 26-27, terms 3, sections 16" in seen
    for line in STANDING:
        assert line in seen
    assert "DEBUG" not in seen
    os.close(terminal)


def test_a_large_log_is_set_aside(quiet: PowerSchool, job: Job) -> None:
    job.log.write_text("an old line\n" * 100_000)
    ended = job.connect(quiet).run("--dry-run")
    assert ended.files == {
        *("Sections.csv", "clever_sections.lock"),
        *("clever_sections.log", "clever_sections.log.1"),
    }
    assert "an old line" not in ended.log
    assert "dry run, not uploaded" in ended.log


def test_a_remark_names_the_first_three(quiet: PowerSchool, job: Job) -> None:
    district.change(quiet.database, "UPDATE courses SET credittype = 'Xyz'")
    log = job.connect(quiet).run("--dry-run").log
    names = "100 C8.8, 100 C16.16, 100 C2.2, ..."
    assert f"INFO no subject for credit type Xyz: 20 sections ({names})\n" in log


# --- Settings ---

Check = Callable[[dict[str, dict[str, str]]], bool]


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({"STRIP_TRACK_INFO": False}, lambda rows: rows["15"]["Period"] == "1(A),3(B)"),
        ({"STRIP_TRACK_INFO": False}, lambda rows: rows["32"]["Period"] == "2 (A) 3(B)"),
        ({"PRESCHOOL_GRADE": "PreKindergarten"}, lambda rows: rows["14"]["Grade"][:4] == "PreK"),
        ({"GRADE_NAMES": {0: "Kindergarten"}}, lambda rows: rows["21"]["Grade"][:6] == "Kinder"),
        ({"GRADE_NAMES": {0: "Kindergarten"}}, lambda rows: rows["25"]["Grade"] == ""),
        ({"GRADE_NAMES": {0: "Kindergarten"}}, lambda rows: rows["14"]["Grade"] == "Preschool"),
        ({"GRADE_NAMES": {-1: "PreK"}}, lambda rows: rows["14"]["Grade"] == "PreK"),
        ({"GRADE_NAMES": {14: "PostGraduate"}}, lambda rows: rows["323"]["Grade"][:4] == "Post"),
        ({"GRADE_NAMES": {345: "Ungraded"}}, lambda rows: rows["12"]["Grade"] == "Ungraded"),
        ({"PERIOD_COLUMN": "external_expression"}, lambda rows: rows["11"]["Period"] == "P3"),
        ({"PERIOD_COLUMN": "external_expression"}, lambda rows: rows["21"]["Period"] == ""),
        ({"IGNORED_COURSES": {"BAND", "HR"}}, lambda rows: not {"23", "13", "106"} & set(rows)),
        ({"IGNORED_COURSES": {"BAND", "HR"}}, lambda rows: len(rows) == 37 - 6),
        ({"IGNORED_SCHOOLS": {100, 320}}, lambda rows: len(rows) == 37 - 16 - 3),
        ({"IGNORED_ROLES": {"CO-TEACHER"}}, lambda rows: staff(rows["11"]) == ["501", "504"]),
        ({"IGNORED_ROLES": {"classroom aide"}}, lambda rows: staff(rows["32"]) == []),
        # The roles go first, then those who left; the inactive one is all who would be left.
        (
            {"IGNORED_ROLES": {"Co-Teacher", "counselor"}},
            lambda rows: (staff(rows["105"]), staff(rows["106"])) == (["506"], ["503"]),
        ),
        ({"IGNORED_ROLES": {"Teacher"}}, lambda rows: staff(rows["109"]) == ["503"]),
        ({"IGNORE_FORMER_STAFF": False}, lambda rows: staff(rows["101"]) == ["501", "503"]),
        ({"IGNORE_FORMER_STAFF": False}, lambda rows: staff(rows["102"]) == ["501", "503"]),
        ({"IGNORE_FORMER_STAFF": False}, lambda rows: staff(rows["105"]) == ["506", "504"]),
        ({"IGNORE_FORMER_STAFF": False}, lambda rows: staff(rows["103"]) == ["504", "511"]),
        ({"HIGH_SCHOOL_IDS": {310}}, lambda rows: rows["41"]["Grade"] == "10"),
        ({"HIGH_SCHOOL_IDS": {310}}, lambda rows: rows["16"]["Grade"] == ""),
        ({"MAX_STAFF": 11}, lambda rows: staff(rows["32"])[-1] == "511"),
        ({"MAX_STAFF": 2}, lambda rows: staff(rows["11"]) == ["501", "503"]),
        ({"TEACHER_ID_COLUMN": "teachernumber"}, lambda rows: staff(rows["12"]) == ["T-501"]),
        ({"TERM_START_OFFSET_DAYS": 265}, lambda rows: "18" in rows and "11" not in rows),
        ({"IGNORE_ZERO_ENROLLMENT_SECTIONS": True}, lambda rows: not {"15", "42"} & set(rows)),
        ({"IGNORE_ZERO_ENROLLMENT_SECTIONS": True}, lambda rows: len(rows) == 35),
        ({"IGNORE_TEACHERS_WITHOUT_EMAILS": True}, lambda rows: staff(rows["33"]) == ["503"]),
        ({"IGNORE_TEACHERS_WITHOUT_EMAILS": True}, lambda rows: staff(rows["14"]) == []),
        ({"IGNORE_SECTIONS_WITH_NO_TEACHERS": True}, lambda rows: not {"24", "25"} & set(rows)),
        (
            {"IGNORE_SECTIONS_WITH_NO_TEACHERS": True, "IGNORE_TEACHERS_WITHOUT_EMAILS": True},
            lambda rows: not {"14", "24", "25"} & set(rows) and len(rows) == 34,
        ),
    ],
)
def test_a_setting(
    powerschool: PowerSchool, job: Job, settings: dict[str, object], check: Check
) -> None:
    ended = job.connect(powerschool).set(**settings).run("--dry-run")
    assert ended.status == 0
    assert check(rows(job.output.read_bytes()))


def test_a_level_that_is_left_blank_on_purpose_is_no_remark(
    powerschool: PowerSchool, job: Job
) -> None:
    ended = job.connect(powerschool).set(GRADE_NAMES={0: "", 100: ""}).run("--dry-run")
    assert rows(job.output.read_bytes())["24"]["Grade"] == ""
    assert "grade 100 cannot be read" not in ended.log
    assert "grade 10 cannot be read" in ended.log


def test_subject_settings(powerschool: PowerSchool, job: Job) -> None:
    text = job.script.read_text()
    text = text.replace('"other",', '"other", "Robotics",').replace(
        '"Mat": ', '"mus": "Robotics", "Mat": '
    )
    job.script.write_text(text)
    assert job.connect(powerschool).run("--dry-run").status == 0
    assert rows(job.output.read_bytes())["23"]["Subject"] == "Robotics"


def test_another_file_name(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    ended = job.connect(powerschool, clever).set(OUTPUT_FILE_NAME="classes.csv").run()
    assert ended.status == 0
    assert ended.files == {
        *("classes.csv", "classes.uploaded.csv"),
        *("clever_sections.lock", "clever_sections.log"),
    }
    assert (clever.folder / "classes.csv").read_bytes() == GOLDEN


# --- Which year it is ---


@pytest.mark.parametrize(
    ("day", "offset", "schools"),
    [
        ("2026-06-05", 0, {"100": 1}),  # the last day still counts
        ("2026-08-16", 0, {}),
        ("2026-08-17", 0, {"100": 16, "300": 8, "320": 3}),  # the first one does, too
        ("2026-08-16", 1, {"100": 16, "300": 8, "320": 3}),
        ("2026-08-17", 2, {"100": 16, "200": 7, "300": 8, "320": 3}),
        ("2026-11-23", 0, {"100": 16, "200": 7, "300": 8, "320": 3}),
        ("2026-11-24", 0, {"100": 16, "200": 7, "300": 8, "310": 3, "320": 3}),
        ("2026-11-25", 0, {"100": 16, "200": 7, "300": 8, "320": 3}),
        ("2027-06-04", 0, {"100": 16, "200": 7, "300": 8, "320": 3}),
        (
            "2027-06-04",
            73,
            {"100": 1, "200": 7, "300": 8, "320": 3},
        ),  # the later one of two current years
    ],
)
def test_the_current_year(
    powerschool: PowerSchool, job: Job, day: str, offset: int, schools: dict[str, int]
) -> None:
    job.connect(powerschool).set(TERM_START_OFFSET_DAYS=offset)
    ended = job.run("--dry-run", "--date", day)
    counts: dict[str, int] = {}
    if job.output.exists():
        for row in rows(job.output.read_bytes()).values():
            counts[row["School_id"]] = counts.get(row["School_id"], 0) + 1
    assert (ended.status, counts) == (0, schools)


def test_summer(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    ended = job.connect(powerschool, clever).run("--date", "2026-07-20")
    assert ended.status == 0
    assert ended.stderr == ""
    assert "INFO no school is in session: nothing written, nothing uploaded\n" in ended.log
    assert ended.files == {"clever_sections.lock", "clever_sections.log"}
    assert list(clever.folder.iterdir()) == []


# --- Options ---


def test_dry_run_needs_no_clever(powerschool: PowerSchool, job: Job) -> None:
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    assert job.output.read_bytes() == GOLDEN
    assert ended.files == {"Sections.csv", "clever_sections.lock", "clever_sections.log"}
    assert "(first upload), dry run, not uploaded" in ended.log


def test_dry_run_uploads_nothing(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    assert job.connect(powerschool, clever).run("--dry-run").status == 0
    assert (list(clever.folder.iterdir()), clever.passwords) == ([], [])


def test_verbose_shows_the_schools_without_a_terminal(quiet: PowerSchool, job: Job) -> None:
    ended = job.connect(quiet).run("--dry-run", "--verbose")
    assert "INFO 101 School 101: year 26-27, terms 4, sections 10" in ended.stderr


@pytest.mark.parametrize(("days", "status"), [(0, "dry run"), (-1, "no school is in session")])
def test_the_date_is_today_unless_given(
    quiet: PowerSchool, job: Job, days: int, status: str
) -> None:
    last = date.today() + timedelta(days=days)
    first = f"firstday = '{date.today() - timedelta(days=9)} 00:00:00'"
    district.change(quiet.database, f"UPDATE terms SET {first}, lastday = '{last} 00:00:00'")
    job.date = ""
    assert status in job.connect(quiet).run("--dry-run").log


def test_help_names_variables_files_and_exit_statuses(job: Job) -> None:
    ended = job.run("--help")
    assert ended.status == 0
    for word in [
        *("POWERSCHOOL_READ_USER", "POWERSCHOOL_DB_PASSWORD", "POWERSCHOOL_PROD_DB"),
        *("CLEVER_SFTP_USERNAME", "CLEVER_SFTP_PASSWORD", "CLEVER_SFTP_ADDRESS"),
        *("known_hosts", "Sections.csv", "Sections.uploaded.csv", "clever_sections.log"),
        *("Sections.previous.csv", "clever_sections.lock"),
        *("exit status", "--dry-run", "--date", "--force", "--verbose"),
    ]:
        assert word in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


# --- What PowerSchool shows ---


def test_an_ignored_school_is_not_read_at_all(powerschool: PowerSchool, job: Job) -> None:
    powerschool.fault = at("FROM terms", "ORA-00942: not this one", times=1)
    ended = job.connect(powerschool).set(IGNORED_SCHOOLS={100}).run("--dry-run")
    assert "reading the terms of school 200: ORA-00942" in ended.stderr
    powerschool.fault = None
    queries = len(powerschool.queries)
    ended = job.run("--dry-run")
    assert ended.status == 0
    assert "100 Lincoln" not in ended.log
    # One for the moment, one for the schools, five for their terms, six for these.
    assert len(powerschool.queries) - queries == 1 + 1 + 5 + (1 + 3 + 1 + 1)


def test_a_section_that_stands_twice_is_written_once(powerschool: PowerSchool, job: Job) -> None:
    """A school, a term and sections stand twice in the sample; here another one's in two terms."""
    sql = "INSERT INTO sections SELECT id, schoolid, 3602, course_number, 'x', expression,"
    sql += " grade_level, teacher, external_expression FROM sections WHERE id = 12"
    district.change(powerschool.database, sql)
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    assert job.output.read_bytes() == GOLDEN


def test_what_stands_twice_in_other_words_is_the_same_every_night(
    powerschool: PowerSchool, job: Job
) -> None:
    """Clever names a class after its course."""
    sql = """
        INSERT INTO courses VALUES ('ART', 'A Art', 'Arts and Music');
        INSERT INTO courses VALUES ('ALG1', 'Z Algebra', 'Mat');
        INSERT INTO sections SELECT id, schoolid, termid, course_number, '0', expression,
            grade_level, teacher, external_expression FROM sections WHERE id = 12;
    """
    district.change(powerschool.database, sql)
    assert job.connect(powerschool).run("--dry-run").status == 0
    found = rows(job.output.read_bytes())
    assert (found["42"]["Course_name"], found["31"]["Course_name"]) == ("A Art", "Algebra 1")
    assert found["12"]["Section_number"] == "0"


@pytest.mark.parametrize("second", ["0", "NULL"])
def test_a_years_term_that_stands_twice_once_as_no_year(
    powerschool: PowerSchool, job: Job, second: str
) -> None:
    sql = "INSERT INTO terms SELECT id, schoolid, yearid, name, abbreviation, firstday, lastday,"
    change = f"{sql} {second}, portion FROM terms WHERE id = 3600"
    district.change(powerschool.database, change)
    ended = job.connect(powerschool).run("--dry-run")
    assert (ended.status, ended.stderr) == (0, "")
    assert job.output.read_bytes() == GOLDEN


def test_control_characters_count_as_white_space(powerschool: PowerSchool, job: Job) -> None:
    sql = "UPDATE courses SET course_name = 'Ar' || char(0, 27, 133) || 't', credittype ="
    district.change(powerschool.database, sql + " char(8) || 'art' || char(0) WHERE 1 = 1")
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    assert rows(job.output.read_bytes())["11"]["Course_name"] == "Ar t"
    assert "INFO no subject for credit type art: " in ended.log


# --- The cost ---


def test_ten_times_the_sections_cost_no_more_round_trips(tmp_path: Path) -> None:
    trips = []
    for sections in (120, 1200):
        folder = tmp_path / str(sections)
        folder.mkdir()
        with PowerSchool(district.made(folder / "made.db", 3, sections)) as powerschool:
            with Clever(folder / "clever") as clever:
                assert Job(folder / "job").connect(powerschool, clever).run().status == 0
            uploaded = rows((clever.folder / "Sections.csv").read_bytes())
            trips.append(powerschool.round_trips)
        assert len(uploaded) == sections
    assert trips[0] == trips[1]
