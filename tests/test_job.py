"""The whole job as a process, against both stand-ins: what it writes, uploads, says and returns."""

import csv
import io
import os
import pty
import re
from datetime import date, timedelta
from pathlib import Path

import district
import pytest
from checks import NEW_FILES, OLD
from clever import Clever
from faults import at
from job import Job
from powerschool import PowerSchool

import clever_sections

GOLDEN = (Path(__file__).parent / "sample.csv").read_bytes()


def rows(content: bytes) -> dict[str, dict[str, str]]:
    """A sections file as Section_id: row."""
    return {row["Section_id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}


def staff(row: dict[str, str]) -> list[str]:
    return [value for name, value in row.items() if name.startswith("Teacher_") and value]


TEN_OF_ELEVEN_STAFF = "more staff than MAX_STAFF: 1 section (300 BIO.1)"
STANDING = [
    f"INFO {TEN_OF_ELEVEN_STAFF}",
    "INFO school 6 of 6: 400 Summer School, 0 terms, 0 sections",
    "INFO no subject for credit type Mus: 4 sections (200 BAND.1, 200 BAND.2, 200 BAND.3, ...)",
    "INFO grade 100 cannot be read: 1 section (200 BAND.2)",
    "INFO grade 10 cannot be read: 2 sections (100 MA3.3, 310 ALG1.1)",
    "INFO grade 13 cannot be read: 1 section (300 ART.1)",
    "INFO grade 14 cannot be read: 1 section (320 ART.3)",
    "INFO grade 19 cannot be read: 1 section (300 ART.2)",
    "INFO no staff, Clever refuses it: 2 sections (200 BAND.2, 200 GONE.1)",
    "INFO no such course in PowerSchool: 1 section (200 GONE.1)",
    "INFO school 200, term 3701: 11/02/2026 is not in its year, so it counts as no date",
]
SUMMER = "2025-07-20"  # before the first year that the sample district has


def test_the_upload_is_what_was_written_by_hand(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    """A healthy night mails nobody; the log names every school, what stands, and the totals."""
    ended = job.connect(powerschool, clever).run()
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert (clever.folder / "Sections.csv").read_bytes() == GOLDEN
    assert job.output.read_bytes() == GOLDEN
    assert [path.name for path in clever.folder.iterdir()] == ["Sections.csv"]
    assert ended.files == NEW_FILES
    log = ended.log
    assert log.count(TEN_OF_ELEVEN_STAFF) == 1  # another section has just ten
    assert "INFO school 1 of 6: 100 Lincoln Elementary, 3 terms, 16 sections\n" in log
    assert "INFO school 2 of 6: 200 Carver Middle, 1 term, 7 sections\n" in log
    assert "INFO school 3 of 6: 300 Roosevelt High, 3 terms, 8 sections\n" in log
    assert "INFO school 4 of 6: 310 Ridge Academy, 1 term, 3 sections\n" in log
    assert "INFO school 5 of 6: 320 Career Center, 1 term, 3 sections\n" in log
    assert "INFO school 6 of 6: 400 Summer School, 0 terms, 0 sections\n" in log
    assert "INFO 37 sections in 5 schools (first upload), uploaded, " in log.splitlines()[-1]
    for line in STANDING:
        assert f" {line}\n" in log


def test_a_terminal_sees_each_phase_each_school_and_what_stands(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    (clever.folder / "Sections.csv").write_bytes(OLD)
    try:
        terminal, stderr = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal to be had: {error}")
    process = job.connect(powerschool, clever).start(stderr=stderr)
    os.close(stderr)
    assert process.wait(timeout=120) == 0
    seen = os.read(terminal, 100_000).decode()
    assert "INFO school 1 of 6: 100 Lincoln Elementary, 3 terms, 16 sections\r\n" in seen
    assert re.search(r"INFO comparing with Clever's Sections.csv of \w+ \d+, 1 section\r\n", seen)
    assert "INFO 100 Lincoln Elementary: 1 -> 16 sections (+16, -1, 0 changed)\r\n" in seen
    assert "INFO uploading 0.0 MB\r\n" in seen
    for line in STANDING:
        assert line in seen
    assert "DEBUG" not in seen
    os.close(terminal)


def test_the_version_is_where_support_looks_for_it(quiet: PowerSchool, job: Job) -> None:
    version = f"clever_sections.py {clever_sections.VERSION}"
    ended = job.run("--version")
    assert re.fullmatch(r"clever_sections\.py [0-9.]+", version)
    assert (ended.status, ended.stdout, ended.stderr) == (0, f"{version}\n", "")
    assert ended.files == set()
    log = job.connect(quiet).run("--dry-run").log
    assert version in log.splitlines()[0]
    assert log.count(version) == 1


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

# A row's value, or its staff, by section and column; None if there is no such row.
Expected = dict[str, str | list[str] | None]


@pytest.mark.parametrize(
    ("settings", "count", "expected"),
    [
        (
            {
                "STRIP_TRACK_INFO": False,
                "GRADE_NAMES": {0: "Kindergarten", 14: "PostGraduate", 345: "Ungraded"},
                "HIGH_SCHOOL_IDS": {310},
                "MAX_STAFF": 11,
                "IGNORED_COURSES": {"BAND", "hr"},
            },
            31,
            {
                **{"15 Period": "1(A),3(B)", "32 Period": "2 (A) 3(B)", "14 Period": "1(A) 3(B)"},
                **{"21 Grade": "Kindergarten", "25 Grade": "", "14 Grade": "Preschool"},
                **{"323 Grade": "PostGraduate", "12 Grade": "Ungraded"},
                **{"41 Grade": "10", "16 Grade": ""},
                "32 Staff": [str(id) for id in range(521, 510, -1)],
                **{"23": None, "13": None, "106": None},
            },
        ),
        # The roles go first, then those who left; the inactive one is all who would be left.
        (
            {
                "PERIOD_COLUMN": "external_expression",
                "PRESCHOOL_GRADE": "PreKindergarten",
                "IGNORED_ROLES": {"CO-TEACHER", "counselor"},
                "TERM_START_OFFSET_DAYS": 265,
                "IGNORE_ZERO_ENROLLMENT_SECTIONS": True,
            },
            36,
            {
                **{"11 Period": "P3", "21 Period": "", "14 Grade": "PreKindergarten"},
                **{"11 Staff": ["501", "504"], "105 Staff": ["506"], "106 Staff": ["503"]},
                **{"11 Term_name": "Year 26-27", "18 Term_name": "Year 27-28"},
                **{"15": None, "42": None},
            },
        ),
        (
            {
                "IGNORE_FORMER_STAFF": False,
                "MAX_STAFF": 2,
                "GRADE_NAMES": {-1: "PreK"},
                "IGNORED_SCHOOLS": {310, 320},
                "IGNORE_SECTIONS_WITH_NO_TEACHERS": True,
            },
            29,
            {
                **{"101 Staff": ["501", "503"], "102 Staff": ["501", "503"]},
                **{"105 Staff": ["506", "504"], "103 Staff": ["504", "511"]},
                **{"109 Staff": ["501", "503"], "11 Staff": ["501", "503"]},
                **{"14 Grade": "PreK", "21 Grade": ""},
                **{"41": None, "321": None, "24": None, "25": None},
            },
        ),
        (
            {"IGNORED_ROLES": {"classroom aide", "Teacher"}},
            37,
            {"32 Staff": [], "109 Staff": ["503"]},
        ),
        (
            {
                "TEACHER_ID_COLUMN": "teachernumber",
                "IGNORE_TEACHERS_WITHOUT_EMAILS": True,
                "IGNORE_SECTIONS_WITH_NO_TEACHERS": True,
            },
            34,
            {"12 Staff": ["T-501"], "33 Staff": ["T-503"], "14": None, "24": None, "25": None},
        ),
    ],
)
def test_settings_that_do_not_touch_one_another(
    powerschool: PowerSchool,
    job: Job,
    settings: dict[str, object],
    count: int,
    expected: Expected,
) -> None:
    ended = job.connect(powerschool).set(**settings).run("--dry-run")
    assert ended.status == 0
    found = rows(job.output.read_bytes())
    assert len(found) == count
    for place, value in expected.items():
        section, _, column = place.partition(" ")
        if value is None:
            assert section not in found
        elif column == "Staff":
            assert staff(found[section]) == value
        else:
            assert found[section][column] == value


def test_a_level_that_is_left_blank_on_purpose_is_no_remark(
    powerschool: PowerSchool, job: Job
) -> None:
    ended = job.connect(powerschool).set(GRADE_NAMES={0: "", 100: ""}).run("--dry-run")
    assert rows(job.output.read_bytes())["24"]["Grade"] == ""
    assert "grade 100 cannot be read" not in ended.log
    assert "grade 10 cannot be read" in ended.log


def test_another_file_name(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    ended = job.connect(powerschool, clever).set(OUTPUT_FILE_NAME="classes.csv").run()
    assert ended.status == 0
    assert ended.files == {
        *("classes.csv", "classes.uploaded.csv"),
        *("clever_sections.lock", "clever_sections.log"),
    }
    assert (clever.folder / "classes.csv").read_bytes() == GOLDEN


def test_summer(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    """Clever is not even asked."""
    ended = job.connect(powerschool, clever).run("--date", SUMMER)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "INFO no school is in session: nothing written, nothing uploaded\n" in ended.log
    assert ended.files == {"clever_sections.lock", "clever_sections.log"}
    assert (clever.steps, list(clever.folder.iterdir())) == ([], [])


# --- Options ---


def test_dry_run_needs_no_clever(powerschool: PowerSchool, job: Job) -> None:
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    assert job.output.read_bytes() == GOLDEN
    assert ended.files == {"Sections.csv", "clever_sections.lock", "clever_sections.log"}
    assert "37 sections in 5 schools (" in ended.log.splitlines()[-1]
    assert "), dry run, not uploaded, " in ended.log.splitlines()[-1]


def test_dry_run_uploads_nothing(powerschool: PowerSchool, clever: Clever, job: Job) -> None:
    ended = job.connect(powerschool, clever).run("--dry-run")
    assert (ended.status, ended.stderr) == (0, "")
    assert (list(clever.folder.iterdir()), len(clever.passwords)) == ([], 1)
    assert ended.files == {"Sections.csv", "clever_sections.lock", "clever_sections.log"}
    assert "(first upload), dry run, not uploaded" in ended.log


def test_verbose_shows_the_schools_without_a_terminal(quiet: PowerSchool, job: Job) -> None:
    ended = job.connect(quiet).run("--dry-run", "--verbose")
    assert "INFO school 2 of 2: 101 School 101, 4 terms, 10 sections" in ended.stderr


@pytest.mark.parametrize(("days", "status"), [(0, "dry run"), (-1, "no school is in session")])
def test_the_date_is_today_unless_given(
    quiet: PowerSchool, job: Job, days: int, status: str
) -> None:
    last = date.today() + timedelta(days=days)
    first = last - timedelta(days=9)
    yearid = first.year - 1990
    sql = f"UPDATE terms SET firstday = '{first} 00:00:00', lastday = '{last} 00:00:00'"
    district.change(quiet.database, f"{sql}, yearid = {yearid}")
    job.date = ""
    job.set(TERM_END_OFFSET_DAYS=0)
    assert status in job.connect(quiet).run("--dry-run").log


def test_help_names_variables_files_and_exit_statuses(job: Job) -> None:
    ended = job.run("--help")
    assert ended.status == 0
    for word in [
        *("POWERSCHOOL_READ_USER", "POWERSCHOOL_DB_PASSWORD", "POWERSCHOOL_PROD_DB"),
        *("CLEVER_SFTP_USERNAME", "CLEVER_SFTP_PASSWORD", "CLEVER_SFTP_ADDRESS"),
        *("known_hosts", "Sections.csv", "Sections.uploaded.csv", "clever_sections.log"),
        *("Sections.previous.csv", "Sections.changes.csv", "clever_sections.lock"),
        *("CLEVER_SECTIONS_FOLDER", "exit status"),
        *("--dry-run", "--date", "--force", "--verbose", "--version"),
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
    # One for the moment; courses, roles, teachers, schools; five for their terms, six for these.
    assert len(powerschool.queries) - queries == 1 + 4 + 5 + (1 + 3 + 1 + 1)


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


def test_a_years_term_that_stands_twice_once_as_no_year(powerschool: PowerSchool, job: Job) -> None:
    sql = "INSERT INTO terms SELECT id, schoolid, yearid, name, abbreviation, firstday, lastday,"
    for second, schools in {"0": "100, 300", "NULL": "200, 310, 320"}.items():
        where = f"WHERE id = 3600 AND schoolid IN ({schools})"
        district.change(powerschool.database, f"{sql} {second}, portion FROM terms {where}")
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
