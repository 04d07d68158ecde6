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
from clever import Clever
from job import Ended, Job
from powerschool import PowerSchool

GOLDEN = (Path(__file__).parent / "sample.csv").read_bytes()


def rows(content: bytes) -> dict[str, dict[str, str]]:
    """A sections file as Section_id: row."""
    return {row["Section_id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}


def staff(row: dict[str, str]) -> list[str]:
    return [value for name, value in row.items() if name.startswith("Teacher_") and value]


def test_the_upload_is_what_was_written_by_hand(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    ended = job.connect(powerschool, clever).run()
    assert ended.status == 0
    assert (clever.folder / "Sections.csv").read_bytes() == GOLDEN
    assert job.output.read_bytes() == GOLDEN
    assert [path.name for path in clever.folder.iterdir()] == ["Sections.csv"]
    assert ended.files == {"Sections.csv", "Sections.uploaded.csv", "clever_sections.log"}
    assert ended.stdout == ""
    assert ended.stderr == (
        "ERROR more than 10 staff: section 32, 300 BIO.1 Biology; Lab\n"
        "WARNING no current school year: 400 Summer School\n"
    )


def test_the_log_names_every_school_and_the_totals(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    log = job.connect(powerschool, clever).run().log
    assert "INFO 100 Lincoln Elementary: year 26-27, terms 3, sections 7\n" in log
    assert "INFO 200 Carver Middle: year 26-27, terms 1, sections 5\n" in log
    assert "INFO 300 Roosevelt High: year 26-27, terms 3, sections 5\n" in log
    assert "INFO 310 Ridge Academy: year 26-27, terms 1, sections 3\n" in log
    assert "INFO 20 sections in 4 schools (first upload), uploaded, " in log.splitlines()[-1]


def test_a_large_log_is_set_aside(quiet: PowerSchool, job: Job) -> None:
    job.log.write_text("an old line\n" * 100_000)
    ended = job.connect(quiet).run("--dry-run")
    assert ended.files == {"Sections.csv", "clever_sections.log", "clever_sections.log.1"}
    assert "an old line" not in ended.log
    assert "dry run, not uploaded" in ended.log


def test_what_deserves_a_hand_is_told_but_mails_nobody(
    powerschool: PowerSchool, clever: Clever, job: Job
) -> None:
    ended = job.connect(powerschool, clever).run()
    for remark in [
        "INFO no subject for credit type Mus: 2 sections (200 BAND.1, 200 BAND.2)",
        "INFO grade 100 cannot be read: 1 section (200 BAND.2)",
        "INFO grade 10 cannot be read: 2 sections (100 MA3.3, 310 ALG1.1)",
        "INFO no staff, Clever refuses it: 2 sections (200 BAND.2, 200 GONE.1)",
        "INFO no such course in PowerSchool: 1 section (200 GONE.1)",
    ]:
        assert remark in ended.log
        assert remark not in ended.stderr


def test_a_remark_names_the_first_three(quiet: PowerSchool, job: Job) -> None:
    district.change(quiet.database, "UPDATE courses SET credittype = 'Xyz'")
    log = job.connect(quiet).run("--dry-run").log
    names = "100 C8.8, 100 C16.16, 100 C2.2, ..."
    assert f"INFO no subject for credit type Xyz: 20 sections ({names})\n" in log


def test_a_good_run_under_cron_prints_nothing(quiet: PowerSchool, clever: Clever, job: Job) -> None:
    ended = job.connect(quiet, clever).run()
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", "")
    assert "20 sections in 2 schools (first upload), uploaded" in ended.log


def test_a_terminal_sees_each_school(quiet: PowerSchool, job: Job) -> None:
    terminal, stderr = pty.openpty()
    process = job.connect(quiet).start("--dry-run", stderr=stderr)
    os.close(stderr)
    assert process.wait(timeout=30) == 0
    seen = os.read(terminal, 10_000).decode()
    assert "INFO 100 School 100: year 26-27, terms 4, sections 10" in seen
    assert "DEBUG" not in seen


# --- Settings ---

Check = Callable[[dict[str, dict[str, str]]], bool]


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({"STRIP_TRACK_INFO": False}, lambda rows: rows["15"]["Period"] == "1(A),3(B)"),
        ({"STRIP_TRACK_INFO": False}, lambda rows: rows["32"]["Period"] == "2 (A) 3(B)"),
        ({"PRESCHOOL_GRADE": "PreKindergarten"}, lambda rows: rows["14"]["Grade"][:4] == "PreK"),
        ({"ZERO_GRADE": "Kindergarten"}, lambda rows: rows["21"]["Grade"] == "Kindergarten"),
        ({"ZERO_GRADE": "Kindergarten"}, lambda rows: rows["25"]["Grade"] == ""),
        ({"HIGH_SCHOOL_IDS": {310}}, lambda rows: rows["41"]["Grade"] == "10"),
        ({"HIGH_SCHOOL_IDS": {310}}, lambda rows: rows["16"]["Grade"] == ""),
        ({"MAX_STAFF": 11}, lambda rows: staff(rows["32"])[-1] == "511"),
        ({"MAX_STAFF": 2}, lambda rows: staff(rows["11"]) == ["501", "503"]),
        ({"TEACHER_ID_COLUMN": "teachernumber"}, lambda rows: staff(rows["12"]) == ["T-501"]),
        ({"TERM_START_OFFSET_DAYS": 265}, lambda rows: "18" in rows and "11" not in rows),
        ({"IGNORE_ZERO_ENROLLMENT_SECTIONS": True}, lambda rows: not {"15", "42"} & set(rows)),
        ({"IGNORE_ZERO_ENROLLMENT_SECTIONS": True}, lambda rows: len(rows) == 18),
        ({"IGNORE_TEACHERS_WITHOUT_EMAILS": True}, lambda rows: staff(rows["33"]) == ["503"]),
        ({"IGNORE_TEACHERS_WITHOUT_EMAILS": True}, lambda rows: staff(rows["14"]) == []),
        ({"IGNORE_SECTIONS_WITH_NO_TEACHERS": True}, lambda rows: not {"24", "25"} & set(rows)),
        (
            {"IGNORE_SECTIONS_WITH_NO_TEACHERS": True, "IGNORE_TEACHERS_WITHOUT_EMAILS": True},
            lambda rows: not {"14", "24", "25"} & set(rows) and len(rows) == 17,
        ),
    ],
)
def test_a_setting(
    powerschool: PowerSchool, job: Job, settings: dict[str, object], check: Check
) -> None:
    ended = job.connect(powerschool).set(**settings).run("--dry-run")
    assert ended.status == 0
    assert check(rows(job.output.read_bytes()))


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
    assert ended.files == {"classes.csv", "classes.uploaded.csv", "clever_sections.log"}
    assert (clever.folder / "classes.csv").read_bytes() == GOLDEN


# --- Which year it is ---


@pytest.mark.parametrize(
    ("day", "offset", "schools"),
    [
        ("2026-06-05", 0, {"100": 1}),  # the last day still counts
        ("2026-08-16", 0, {}),
        ("2026-08-17", 0, {"100": 7, "300": 5}),  # the first one does, too
        ("2026-08-16", 1, {"100": 7, "300": 5}),
        ("2026-08-17", 2, {"100": 7, "200": 5, "300": 5}),
        ("2026-11-23", 0, {"100": 7, "200": 5, "300": 5}),
        ("2026-11-24", 0, {"100": 7, "200": 5, "300": 5, "310": 3}),
        ("2026-11-25", 0, {"100": 7, "200": 5, "300": 5}),
        ("2027-06-04", 0, {"100": 7, "200": 5, "300": 5}),
        ("2027-06-04", 73, {"100": 1, "200": 5, "300": 5}),  # the later one of two current years
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
    assert "WARNING no school is in session: nothing written, nothing uploaded" in ended.stderr
    assert ended.files == {"clever_sections.log"}
    assert list(clever.folder.iterdir()) == []


# --- Options ---


def test_dry_run_needs_no_clever(powerschool: PowerSchool, job: Job) -> None:
    ended = job.connect(powerschool).run("--dry-run")
    assert ended.status == 0
    assert job.output.read_bytes() == GOLDEN
    assert ended.files == {"Sections.csv", "clever_sections.log"}
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
        *("exit status", "--dry-run", "--date", "--force", "--verbose"),
    ]:
        assert word in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


# --- What changes in Clever ---


def second_night(
    powerschool: PowerSchool, clever: Clever, job: Job, sql: str, *options: str
) -> Ended:
    """Upload, change PowerSchool, and run again."""
    assert job.connect(powerschool, clever).run().status == 0
    district.change(powerschool.database, sql)
    return job.run(*options)


def test_what_changed(quiet: PowerSchool, clever: Clever, job: Job) -> None:
    sql = """
        UPDATE sections SET id = 99, course_number = 'C7' WHERE id = 3;
        DELETE FROM sections WHERE id = 4;
        UPDATE sections SET expression = '9(A)' WHERE id IN (1, 2)
    """
    ended = second_night(quiet, clever, job, sql, "-v")
    assert "INFO 19 sections in 2 schools (+1, -2, 2 changed), uploaded" in ended.stderr
    assert "DEBUG added: school 101, Course 7, period 3, id 99\n" in ended.stderr
    assert "DEBUG removed: school 101, Course 3, period 3, id 3\n" in ended.stderr
    assert "DEBUG removed: school 100, Course 4, period 4, id 4\n" in ended.stderr


def test_at_most_twenty_are_named(tmp_path: Path, clever: Clever, job: Job) -> None:
    with PowerSchool(district.made(tmp_path / "large.db", sections=200)) as powerschool:
        ended = second_night(powerschool, clever, job, "DELETE FROM sections WHERE id <= 23", "-v")
    assert ended.stderr.count("DEBUG removed: school ") == 20
    assert "DEBUG removed: and 3 more\n" in ended.stderr


def test_dry_run_shows_what_an_upload_would_change(
    quiet: PowerSchool, clever: Clever, job: Job
) -> None:
    sql = "DELETE FROM sections WHERE id = 4"
    ended = second_night(quiet, clever, job, sql, "--dry-run", "-v")
    assert "(+0, -1, 0 changed), dry run, not uploaded" in ended.stderr
    assert "4" in rows((clever.folder / "Sections.csv").read_bytes())


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
