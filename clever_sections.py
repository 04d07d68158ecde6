#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["oracledb~=26.1", "pysftp==0.2.9", "paramiko~=5.1"]
# ///
"""Send PowerSchool's class sections to Clever: read, write Sections.csv, upload.

environment variables:
  POWERSCHOOL_READ_USER, POWERSCHOOL_DB_PASSWORD, POWERSCHOOL_PROD_DB
  CLEVER_SFTP_USERNAME, CLEVER_SFTP_PASSWORD, CLEVER_SFTP_ADDRESS
files beside this script:
  known_hosts            Clever's host key: the password goes to no other server
  Sections.csv           what the last run read from PowerSchool
  Sections.uploaded.csv  what Clever has: a copy of the last upload
  Sections.previous.csv  what Clever had before that, to put it back
  clever_sections.log    what every run did
  clever_sections.lock   keeps two runs from working at once
exit status:
  0 all is well, also in summer; 1 the run failed: the last line says why;
  2 an option, variable or setting is wrong;
  129 the terminal was closed; 130 Ctrl-C; 143 SIGTERM
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(f"ERROR this needs Python 3.10 or newer, and this is {sys.version.split()[0]}")

import argparse
import base64
import csv
import fcntl
import filecmp
import io
import logging
import os
import re
import shutil
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from itertools import combinations, groupby
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn, TextIO, TypeVar

try:
    import oracledb
    import paramiko

    # pysftp imports DSSKey, for keys that are not used here; paramiko has dropped it.
    paramiko.DSSKey = None  # type: ignore[attr-defined]
    import pysftp
except ImportError as error:
    sys.exit(
        f"ERROR {' '.join(str(error).split())}. Start the job with .venv/bin/python; if that says "
        "the same, set it up again in this script's folder: "
        "python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt"
    )


# ================================================================================================
# Settings: what a district changes
# ================================================================================================

# The file's name, here and in Clever. Change it only if Clever asks for another one.
OUTPUT_FILE_NAME = "Sections.csv"

# Clever's subjects, as Clever spells them.
VALID_SUBJECTS = [
    "English/language arts",
    "Math",
    "Science",
    "Social studies",
    "Language",
    "Homeroom/advisory",
    "Interventions/online learning",
    "Technology and engineering",
    "PE and health",
    "Arts and music",
    "other",
]

# A course's credit type in PowerSchool, and its subject in Clever. Add your own credit types.
SUBJECT_MAP = {
    "Eng": "English/language arts",
    "Mat": "Math",
    "Sci": "Science",
    "Gls": "Social studies",
    "Gov": "Social studies",
    "Uhi": "Social studies",
    "Social Studies": "Social studies",
    "Socialstudies": "Social studies",
    "Pe": "PE and health",
    "Hlt": "PE and health",
}

# Period 3(A) becomes 3. False if people need to see the track.
STRIP_TRACK_INFO = True

# The column of PowerSchool's sections that has the period. For some districts it is
# "external_expression", the period as people see it.
PERIOD_COLUMN = "expression"

# Grade levels that have a name of their own in Clever. PowerSchool has 0 for kindergarten, but also
# where nobody set a level, so it is left blank here. If yours are all set, this could be
# {-1: "PreKindergarten", 0: "Kindergarten", 14: "PostGraduate"}.
GRADE_NAMES = {0: ""}

# What Clever gets for any other grade level below 0.
PRESCHOOL_GRADE = "Preschool"

# The numbers of schools that teach grades 10 to 12 though their high_grade does not say so, such
# as {300, 310}.
HIGH_SCHOOL_IDS: set[int] = set()

# The most staff that Clever takes for a section.
MAX_STAFF = 10

# The column of PowerSchool's teachers that your teachers file has as Teacher_id.
# For some districts it is "teachernumber".
TEACHER_ID_COLUMN = "users_dcid"

# A school year counts as current this many days before it starts.
TERM_START_OFFSET_DAYS = 0

# The numbers of schools to leave out, such as {800, 999999}.
IGNORED_SCHOOLS: set[int] = set()

# The numbers of courses to leave out, such as {"LUNCH", "DUTY"}.
IGNORED_COURSES: set[str] = set()

# The roles of staff to leave out, as PowerSchool names them, such as {"Class Observer", "Aide"}.
IGNORED_ROLES: set[str] = set()

# True leaves out staff whose assignment is over or has not begun, and inactive staff, unless nobody
# would be left.
IGNORE_FORMER_STAFF = True

# True leaves out sections without students.
IGNORE_ZERO_ENROLLMENT_SECTIONS = False

# True leaves out staff without an e-mail address: placeholders, in many districts.
IGNORE_TEACHERS_WITHOUT_EMAILS = False

# True leaves out sections without staff, which Clever refuses anyway.
IGNORE_SECTIONS_WITH_NO_TEACHERS = False

# The share of its sections that Clever may lose in a night, or refuse, without --force. Clever
# itself pauses a sync that would delete more than a tenth.
MAX_LOST = 0.10

# The time for a log-in, and for each answer of Clever's.
CONNECT_TIMEOUT_SECONDS = 20

# How long the database may take to answer.
QUERY_TIMEOUT_SECONDS = 300

# How often a connection or an upload is tried, and the wait between two tries.
CONNECT_ATTEMPTS = 3
RETRY_DELAY_SECONDS = 10

# Users, passwords and addresses come from the environment, so that they are in no file that is
# copied around with this script.
POWERSCHOOL_READ_USER = os.environ.get("POWERSCHOOL_READ_USER", "").strip()
POWERSCHOOL_DB_PASSWORD = os.environ.get("POWERSCHOOL_DB_PASSWORD", "")
POWERSCHOOL_PROD_DB = os.environ.get("POWERSCHOOL_PROD_DB", "").strip()
CLEVER_SFTP_USERNAME = os.environ.get("CLEVER_SFTP_USERNAME", "").strip()
CLEVER_SFTP_PASSWORD = os.environ.get("CLEVER_SFTP_PASSWORD", "")
CLEVER_SFTP_ADDRESS = os.environ.get("CLEVER_SFTP_ADDRESS", "").strip()

# From here on, there is nothing that a district changes.

FOLDER = Path(__file__).resolve().parent
OUTPUT = FOLDER / OUTPUT_FILE_NAME
TEMPORARY = FOLDER / f"{OUTPUT_FILE_NAME}.tmp"
UPLOADED = OUTPUT.with_suffix(".uploaded.csv")
PREVIOUS = OUTPUT.with_suffix(".previous.csv")
KNOWN_HOSTS = FOLDER / "known_hosts"
LOG = FOLDER / "clever_sections.log"
LOCK = FOLDER / "clever_sections.lock"

log = logging.getLogger("clever_sections")

# For errors that stand until somebody fixes them in PowerSchool. They are in the log and on a
# terminal, but cron does not mail them every night.
standing_log = logging.getLogger("clever_sections.standing")

# The header of Sections.csv.
COLUMNS = [
    "School_id",
    "Section_id",
    "Teacher_id",
    *[f"Teacher_{number}_id" for number in range(2, MAX_STAFF + 1)],
    "Course_name",
    "Course_number",
    "Section_number",
    "Period",
    "Subject",
    "Grade",
    "Term_start",
    "Term_end",
    "Term_name",
]


# ================================================================================================
# What is read from PowerSchool: three queries, each with the fields of its rows
# ================================================================================================


class School(NamedTuple):
    """A school that is not excluded from state reporting."""

    number: int
    name: str | None
    high_grade: int | None  # the highest grade that it teaches


SCHOOLS_SQL = """
    SELECT school_number, name, high_grade
    FROM schools
    WHERE COALESCE(state_excludefromreporting, 0) = 0
    ORDER BY school_number
"""


class Term(NamedTuple):
    """A term of a school's current year: the year itself (its year record), or a part of it."""

    id: int  # unique within the school only
    abbreviation: str | None
    first_day: datetime | None
    last_day: datetime | None
    is_year: int  # 1 for the year record


# The terms of the newest school year that is under way. Of two rows with one id, the last counts:
# that is the year record, if one of them is.
TERMS_SQL = """
    SELECT id, abbreviation, firstday, lastday, isyearrec
    FROM terms
    WHERE schoolid = :school
    AND yearid = (
        SELECT MAX(yearid)
        FROM terms
        WHERE schoolid = :school
        AND isyearrec = 1
        AND firstday < :starts_before
        AND lastday >= :today
    )
    ORDER BY id, COALESCE(isyearrec, 0)
"""


class Assignment(NamedTuple):
    """A section with one of its staff; a section without staff has one row, with no teacher."""

    section_id: int
    course_number: str | None
    section_number: str | None
    expression: str | None
    grade_level: int | None
    found_course: str | None  # its number in courses; None if there is no such course
    course_name: str | None
    credit_type: str | None
    teacher_id: int | str | None
    email: str | None
    status: int | None  # 1 is active
    start_date: datetime | None
    end_date: datetime | None
    role: str | None


# Districts number and name their roles as they like, but the lead teacher's has this key.
LEAD_TEACHER = "com.pearson.powerschool.coteach.primary.teacher"

ONLY_WITH_STUDENTS = """
    AND EXISTS (SELECT 1 FROM cc WHERE cc.sectionid = s.id AND cc.termid = s.termid)
"""

# The order must be the same every night: Clever names a class after its course and first teacher.
SECTIONS_SQL = f"""
    SELECT s.id, s.course_number, s.section_number, s.{PERIOD_COLUMN}, s.grade_level,
        c.course_number, c.course_name, c.credittype,
        t.{TEACHER_ID_COLUMN}, t.email_addr, t.status, st.start_date, st.end_date, r.name
    FROM sections s
    LEFT JOIN courses c ON c.course_number = s.course_number
    LEFT JOIN sectionteacher st ON st.sectionid = s.id
    LEFT JOIN teachers t ON t.id = st.teacherid
    LEFT JOIN roledef r ON r.id = st.roleid
    WHERE s.schoolid = :school
    AND s.termid = :term
    {ONLY_WITH_STUDENTS if IGNORE_ZERO_ENROLLMENT_SECTIONS else ""}
    ORDER BY s.id, CASE WHEN r.rolekey = '{LEAD_TEACHER}' THEN 0 ELSE 1 END, st.roleid, st.id,
        c.course_name, s.section_number
"""


# ================================================================================================
# PowerSchool's values, the way Clever wants them
# ================================================================================================


CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def clean(value: object) -> str:
    """Any value as text on one line; "" for None.

    Each run of white space and control characters becomes a single space.
    """
    if value is None:
        return ""
    return " ".join(CONTROL_CHARACTERS.sub(" ", str(value)).split())


def period(expression: str | None) -> str:
    """The Period for a section's expression: "3(A)" gives "3", "1(A),3(B)" gives "1 3"."""
    if not STRIP_TRACK_INFO:
        return clean(expression)
    without_tracks = re.sub(r"\([^)]*\)*", " ", clean(expression))
    return clean(without_tracks.replace(",", " "))


# A section for several grades has them in one number: 23 is grades 2 and 3, 345 is 3 to 5,
# 912 is 9 to 12. This is each such number, with the range that Clever gets for it.
GRADE_RANGES = {
    int("".join(map(str, grades))): f"{grades[0]}-{grades[-1]}"
    for count in range(2, 13)
    for grades in combinations(range(1, 13), count)
}


def grade(level: int | None, highest: int) -> str:
    """The Grade for a section's grade_level, where `highest` is the school's highest grade.

    "" if the level is None or cannot be read.
    """
    if level is None:
        return ""
    if level in GRADE_NAMES:
        return clean(GRADE_NAMES[level])
    if level < 0:
        return PRESCHOOL_GRADE
    if 1 <= level <= 9:
        return str(level)
    if 10 <= level <= 19 and highest >= 10:
        # In a high school these are single grades, and 12 is not grades 1 and 2.
        return str(level) if level <= min(highest, 13) else ""
    return GRADE_RANGES.get(level, "")


SUBJECTS = {credit_type.casefold(): name for credit_type, name in SUBJECT_MAP.items()}
SUBJECTS |= {name.casefold(): name for name in VALID_SUBJECTS}


def subject(credit_type: str | None) -> str:
    """The Subject for a course's credit type; "" if there is none, and Clever guesses."""
    return SUBJECTS.get(clean(credit_type).casefold(), "")


# ================================================================================================
# Reading PowerSchool and writing Sections.csv
# ================================================================================================


@dataclass
class Report:
    """What a night's reading found."""

    schools: dict[int, str] = field(default_factory=dict)  # school number: its name
    sections: dict[int, int] = field(default_factory=dict)  # those in session: how many sections
    with_staff: int = 0  # how many sections have staff
    remarks: dict[str, list[str]] = field(default_factory=dict)  # what to fix: in which sections

    def remark(self, what: str, section: str) -> None:
        """Note something that a person could fix."""
        self.remarks.setdefault(what, []).append(section)


def connect_to_powerschool() -> oracledb.Connection:
    """Log in to PowerSchool's database, trying as often as the settings say. Raises Failure."""
    attempt = 1
    while True:
        try:
            db = log_in_to_powerschool()
            break
        except Exception as error:
            give_up_or_wait("connecting to PowerSchool", error, POWERSCHOOL, attempt)
            attempt += 1
    if db.warning:
        what_to_do, _ = advice(db.warning, POWERSCHOOL)
        log.warning("PowerSchool says: %s. %s", cause(db.warning), what_to_do)
    return db


def log_in_to_powerschool() -> oracledb.Connection:
    """One try to log in. Raises TookTooLong, or what oracledb raises."""
    # The driver bounds only parts of a log-in; this limit is for all of it.
    with time_limit(CONNECT_TIMEOUT_SECONDS):
        db = oracledb.connect(
            user=POWERSCHOOL_READ_USER,
            password=POWERSCHOOL_DB_PASSWORD,
            dsn=POWERSCHOOL_PROD_DB,
            # A host may have several addresses: one that does not answer leaves time for another.
            tcp_connect_timeout=CONNECT_TIMEOUT_SECONDS / 4,
        )
    db.call_timeout = QUERY_TIMEOUT_SECONDS * 1000
    db.outputtypehandler = replace_undecodable
    return db


def replace_undecodable(cursor: oracledb.Cursor, column: oracledb.FetchInfo) -> oracledb.Var | None:
    """Have the driver put a replacement character for bytes that are not text, not an error."""
    if column.type_code not in (oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_CHAR):
        return None
    return cursor.var(str, arraysize=cursor.arraysize, encoding_errors="replace")


Row = TypeVar("Row")


def query(
    db: oracledb.Connection, what: str, sql: str, row_type: Callable[..., Row], **binds: object
) -> Iterator[Row]:
    """The rows of a query, as they arrive. Raises Failure, which says `what` was read."""
    try:
        cursor = db.cursor()
        # How many rows come in one round trip.
        cursor.prefetchrows = 5000
        cursor.arraysize = 5000
        cursor.execute(sql, binds)
        for row in cursor:
            yield row_type(*row)
    except oracledb.Error as error:
        raise failed(f"reading the {what}", error, POWERSCHOOL) from error


def write_sections(db: oracledb.Connection, today: date, file: TextIO) -> Report:
    """Read all schools, terms, sections and staff, and write a row for each section to `file`."""
    report = Report()
    written: set[int] = set()  # PowerSchool may show a school, a term or a section twice
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for school in query(db, "schools", SCHOOLS_SQL, School):
        if school.number in IGNORED_SCHOOLS or school.number in report.schools:
            continue
        report.schools[school.number] = clean(school.name)
        terms = current_terms(db, school, today)
        if not terms:
            continue
        report.sections[school.number] = 0
        year = year_of(terms)
        for term in terms.values():
            what = f"sections of school {school.number}, term {term.id}"
            rows = query(db, what, SECTIONS_SQL, Assignment, school=school.number, term=term.id)
            for section_id, group in groupby(rows, key=lambda row: row.section_id):
                assignments = list(group)
                section = assignments[0]
                if section_id in written or is_ignored(section.course_number, IGNORED_COURSES):
                    continue
                staff: list[str] = []
                for member in staff_to_send(assignments, term, today):
                    if clean(member.teacher_id) not in staff:
                        staff.append(clean(member.teacher_id))
                if IGNORE_SECTIONS_WITH_NO_TEACHERS and not staff:
                    continue
                row = section_row(school, term, year, section, staff)
                writer.writerow(row)
                written.add(section_id)
                report.sections[school.number] += 1
                report.with_staff += bool(staff)
                add_remarks(report, school, section, staff, row)
        counts = f"terms {len(terms)}, sections {report.sections[school.number]:,}"
        log.info("%s %s: year %s, %s", school.number, clean(school.name), year, counts)
    return report


def current_terms(db: oracledb.Connection, school: School, today: date) -> dict[int, Term]:
    """All terms of the school's current year by id, past and coming ones too; {} if it has none."""
    midnight = datetime(today.year, today.month, today.day)
    starts_before = midnight + timedelta(days=TERM_START_OFFSET_DAYS + 1)
    what = f"terms of school {school.number}"
    binds = {"school": school.number, "today": midnight, "starts_before": starts_before}
    return {term.id: term for term in query(db, what, TERMS_SQL, Term, **binds)}


def year_of(terms: dict[int, Term]) -> str:
    """The name of the school year that these terms are of, such as "26-27"."""
    return next(clean(term.abbreviation) for term in terms.values() if term.is_year == 1)


def staff_to_send(assignments: list[Assignment], term: Term, today: date) -> list[Assignment]:
    """Those of a section's assignments whose staff is to be sent to Clever, in the same order."""
    wanted = [assignment for assignment in assignments if is_wanted(assignment)]
    if not IGNORE_FORMER_STAFF:
        return wanted
    # For a coming term its first day counts, for a past one its last.
    day = today
    if term.last_day:
        day = min(day, term.last_day.date())
    if term.first_day:
        day = max(day, term.first_day.date())
    current = [assignment for assignment in wanted if is_current(assignment, day)]
    return current or wanted


def is_wanted(assignment: Assignment) -> bool:
    """Whether there is such a person, in a role and with an address that the settings take."""
    if not clean(assignment.teacher_id):
        return False
    if IGNORE_TEACHERS_WITHOUT_EMAILS and not clean(assignment.email):
        return False
    return not is_ignored(assignment.role, IGNORED_ROLES)


def is_ignored(name: str | None, ignored: set[str]) -> bool:
    """Whether a name is among those of a setting, in any case."""
    return clean(name).casefold() in {clean(other).casefold() for other in ignored}


def is_current(assignment: Assignment, day: date) -> bool:
    """Whether the person is active, and assigned on that day; an empty date is open."""
    if clean(assignment.status) not in ("1", ""):
        return False
    if assignment.start_date and assignment.start_date.date() > day:
        return False
    return not assignment.end_date or assignment.end_date.date() >= day


def highest_grade(school: School) -> int:
    """The highest grade that the school teaches; 0 if nobody knows."""
    if school.number in HIGH_SCHOOL_IDS:
        return 12
    return school.high_grade or 0


def section_row(
    school: School, term: Term, year: str, section: Assignment, staff: list[str]
) -> list[str]:
    """A section's row of Sections.csv: a value for each of COLUMNS."""
    term_name = "Year" if term.is_year == 1 else clean(term.abbreviation)
    return [
        str(school.number),
        str(section.section_id),
        *staff[:MAX_STAFF],
        *[""] * (MAX_STAFF - len(staff)),
        clean(section.course_name),
        clean(section.course_number),
        clean(section.section_number),
        period(section.expression),
        subject(section.credit_type),
        grade(section.grade_level, highest_grade(school)),
        day_text(term.first_day),
        day_text(term.last_day),
        clean(f"{term_name} {year}"),
    ]


def day_text(day: datetime | None) -> str:
    """A day as MM/DD/YYYY; "" for None."""
    if day is None:
        return ""
    return f"{day.month:02}/{day.day:02}/{day.year:04}"


def add_remarks(
    report: Report, school: School, section: Assignment, staff: list[str], row: list[str]
) -> None:
    """Note what a person could fix in PowerSchool or in the settings."""
    name = f"{school.number} {clean(section.course_number)}.{clean(section.section_number)}"
    credit_type = clean(section.credit_type)
    level = section.grade_level
    if not staff:
        report.remark("no staff, Clever refuses it", name)
    if len(staff) > MAX_STAFF:
        course = clean(section.course_name)
        section_name = f"section {section.section_id}, {name} {course}"
        standing_log.error("more than %d staff: %s", MAX_STAFF, section_name)
    if section.found_course is None:
        report.remark("no such course in PowerSchool", name)
    if credit_type and not subject(credit_type):
        report.remark(f"no subject for credit type {credit_type}", name)
    if level and level not in GRADE_NAMES and not grade(level, highest_grade(school)):
        report.remark(f"grade {level} cannot be read", name)
    if any("\N{REPLACEMENT CHARACTER}" in text for text in row):
        report.remark("a character that cannot be read", name)


def export(today: date) -> Report:
    """Write Sections.csv, if a school is in session. Raises Failure."""
    try:
        # Opened first: what this machine refuses is said before the database is asked.
        file = open(TEMPORARY, "w", encoding="utf-8", newline="")
        try:
            with file, connect_to_powerschool() as db:
                start_read_only_transaction(db)
                report = write_sections(db, today, file)
            check_report(report)
            if report.sections:
                TEMPORARY.replace(OUTPUT)
        finally:
            TEMPORARY.unlink(missing_ok=True)
        return report
    except OSError as error:
        raise failed(f"writing {OUTPUT.name}", error) from error


def start_read_only_transaction(db: oracledb.Connection) -> None:
    """Have all queries see the database as of now, whatever is changed meanwhile."""
    try:
        db.cursor().execute("SET TRANSACTION READ ONLY")
    except oracledb.Error as error:
        raise failed("reading PowerSchool", error, POWERSCHOOL) from error


def check_report(report: Report) -> None:
    """Log what the reading found. Raises Failure if it found nothing, though it should have."""
    if not report.schools:
        raise Failure(
            "PowerSchool shows no school. Have the account granted access to the rows of schools, "
            "and look at state_excludefromreporting there"
        )
    if report.sections and not sum(report.sections.values()):
        raise Failure(
            "PowerSchool shows no section. If sections are there, have the account granted access "
            "to their rows, and look at the settings that leave some out"
        )
    closed = [number for number in report.schools if number not in report.sections]
    if closed:
        names = ", ".join(f"{number} {report.schools[number]}" for number in closed)
        log.info("no current school year: %s", names)
    log_remarks(report.remarks)


def check_staff(report: Report) -> None:
    """Raise Failure if there are sections, but no staff at all: Clever would refuse them all."""
    if report.sections and not report.with_staff:
        raise Failure(
            "PowerSchool shows no staff for any section. Look at sectionteacher and teachers "
            "there, and at the settings that leave some out; --force uploads anyway"
        )


def log_remarks(remarks: dict[str, list[str]]) -> None:
    """Log what a person could fix, with the first three of the sections that it is about."""
    for what, sections in sorted(remarks.items()):
        named = [*sections[:3], "..."] if len(sections) > 3 else sections
        log.info("%s: %s (%s)", what, count(len(sections), "section"), ", ".join(named))


def count(number: int, noun: str) -> str:
    """A number of things: "1 section", "2,604 sections"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# ================================================================================================
# Comparing with what Clever has
# ================================================================================================

# A section's values in a sections file, in the order of COLUMNS.
Values = tuple[str, ...]

TEACHER_COLUMNS = [column for column in COLUMNS if column.startswith("Teacher_")]

# Why Clever loses a section, and where to look for the reason.
NOT_THERE = "not in the new file"
NO_STAFF = "without any of their staff"
NO_COURSE = "without their course name"
WHERE_TO_LOOK = {
    NOT_THERE: "schools, terms, sections",
    NO_STAFF: "sectionteacher, teachers, TEACHER_ID_COLUMN",
    NO_COURSE: "courses",
}


@dataclass
class Comparison:
    """What an upload would change in Clever. Sections are given as the log names them."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    columns: Counter[str] = field(default_factory=Counter)  # column: sections that change in it
    not_ended: int = 0  # sections in Clever whose term has not ended
    lost: dict[str, Counter[str]] = field(default_factory=dict)  # reason: School_id: how many
    lost_schools: set[str] = field(default_factory=set)  # School_id of those left without any

    def __str__(self) -> str:
        """The counts, such as "+12, -3, 41 changed: Period 38, Teacher_id 3"."""
        counts = f"+{len(self.added):,}, -{len(self.removed):,}, {len(self.changed):,} changed"
        if not self.changed:
            return counts
        columns = ", ".join(f"{column} {count:,}" for column, count in self.columns.most_common())
        return f"{counts}: {columns}"

    def lose(self, reason: str, school: str) -> None:
        """Count a section that Clever would lose."""
        self.lost.setdefault(reason, Counter())[school] += 1


def value(values: Values, column: str) -> str:
    """One value of a section, by the name of its column."""
    return values[COLUMNS.index(column)]


def label(values: Values) -> str:
    """A section as the log names it."""
    school = value(values, "School_id")
    course = value(values, "Course_name")
    section = value(values, "Section_id")
    return clean(f"school {school}, {course}, period {value(values, 'Period')}, id {section}")


def sections_in(path: Path) -> Iterator[Values]:
    """The sections in a file. Raises OSError; ValueError or csv.Error if it is not such a file."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for values in read_csv(file, COLUMNS, needed=["School_id", "Section_id", "Teacher_id"]):
            if value(values, "Section_id"):  # and no blank line
                yield values


def read_csv(lines: Iterable[str], columns: list[str], needed: list[str]) -> Iterator[Values]:
    """The values of some columns, row by row, of a file in any usual form of CSV.

    A column that the file lacks is blank; for one that is needed that is a ValueError.
    """
    csv.field_size_limit(sys.maxsize)
    texts = (line.replace("\0", "") for line in lines)
    first = next(texts, "")
    separator = max(",;\t", key=first.count)
    header = [column_key(name) for name in next(csv.reader([first], delimiter=separator))]
    if not all(column_key(name) in header for name in needed):
        raise ValueError(f"it has no columns {', '.join(needed)}")
    width = len(header)
    keys = [column_key(name) for name in columns]
    # What the file lacks is read from a blank behind the last column.
    positions = [header.index(key) if key in header else width for key in keys]
    for row in csv.reader(texts, delimiter=separator):
        padded = [*row[:width], *[""] * (width - len(row)), ""]
        # Most values stand in many rows: interned, each is in memory once.
        yield tuple(sys.intern(padded[position].strip()) for position in positions)


def column_key(name: str) -> str:
    """A column's name without what people write differently: "Teacher id" is Teacher_id."""
    return name.strip().casefold().replace(" ", "_")


def compare(before: Iterable[Values], after: Iterable[Values], today: date) -> Comparison:
    """Compare what Clever has with what it would get. Raises what reading them raises."""
    comparison = Comparison()
    old_sections = {value(old, "Section_id"): old for old in before}
    if not old_sections:
        raise ValueError("it has no sections")
    new_sections = set()
    new_schools = set()
    for new in after:
        new_sections.add(value(new, "Section_id"))
        new_schools.add(value(new, "School_id"))
        old = old_sections.get(value(new, "Section_id"))
        if old is None:
            comparison.added.append(label(new))
        elif old != new:
            note_change(comparison, old, new, today)
    for section, old in old_sections.items():
        school = value(old, "School_id")
        if section not in new_sections:
            comparison.removed.append(label(old))
        if not has_not_ended(old, today):
            continue
        comparison.not_ended += 1
        if section not in new_sections:
            comparison.lose(NOT_THERE, school)
        if school not in new_schools:
            comparison.lost_schools.add(school)
    return comparison


def has_not_ended(values: Values, today: date) -> bool:
    """Whether a section's term has not ended; a term without a readable end has not."""
    end = day_of(value(values, "Term_end"))
    return end is None or end >= today


@cache
def day_of(text: str) -> date | None:
    """The day that is written as MM/DD/YYYY or YYYY-MM-DD; None for anything else."""
    for form in ("%m/%d/%Y", "%Y-%m-%d"):
        with suppress(ValueError):
            return datetime.strptime(text, form).date()
    return None


def note_change(comparison: Comparison, old: Values, new: Values, today: date) -> None:
    """Note what changes in a section, and whether Clever loses it by that."""
    changes = []
    for column, was, becomes in zip(COLUMNS, old, new, strict=True):
        if was != becomes:
            comparison.columns[column] += 1
            changes.append(f"{column} {was or '(blank)'} -> {becomes or '(blank)'}")
    comparison.changed.append(clean(f"{label(new)}: {', '.join(changes)}"))
    if not has_not_ended(old, today):
        return
    old_staff = {value(old, column) for column in TEACHER_COLUMNS} - {""}
    new_staff = {value(new, column) for column in TEACHER_COLUMNS} - {""}
    if old_staff and not old_staff & new_staff:
        comparison.lose(NO_STAFF, value(old, "School_id"))
    elif value(old, "Course_name") and not value(new, "Course_name"):
        comparison.lose(NO_COURSE, value(old, "School_id"))


def compare_with_clever(report: Report, today: date) -> Comparison | None:
    """Compare Sections.csv with the copy of the last upload, and log what would change.

    None if the copy is not a sections file. If no school is in session, there is no new file, and
    the copy is compared with nothing. Raises Failure if the copy may not be read.
    """
    after = sections_in(OUTPUT) if report.sections else iter(())
    try:
        comparison = compare(sections_in(UPLOADED), after, today)
    except PermissionError as error:
        raise failed(f"reading {UPLOADED.name}", error) from error
    except (OSError, ValueError, csv.Error) as error:
        # Without a school in session nothing replaces it, and this would be mailed every night.
        level = logging.WARNING if report.sections else logging.INFO
        log.log(level, "%s is broken, so nothing is compared: %s", UPLOADED.name, cause(error))
        return None
    if report.sections:
        log_sections("added", comparison.added)
        log_sections("removed", comparison.removed)
        log_sections("changed", comparison.changed)
    return comparison


def log_sections(what: str, sections: list[str]) -> None:
    """Log the first twenty of the sections that are added, removed or changed."""
    for section in sections[:20]:
        log.debug("%s: %s", what, section)
    if len(sections) > 20:
        log.debug("%s: and %s more", what, f"{len(sections) - 20:,}")


def check_losses(comparison: Comparison, report: Report, force: bool) -> None:
    """Raise Failure if Clever would lose too many sections; warn of each school that it loses."""
    lost = sum(sum(schools.values()) for schools in comparison.lost.values())
    too_many = lost > MAX_LOST * comparison.not_ended
    if too_many and not report.sections:
        raise Failure(
            f"no school is in session, yet {lost:,} of Clever's sections have not ended. "
            "Look at this machine's date, and in PowerSchool at terms"
        )
    if too_many and not force:
        reasons = "; ".join(
            f"{sum(schools.values()):,} {reason} ({school_counts(schools)})"
            for reason, schools in comparison.lost.items()
        )
        places = ", ".join(WHERE_TO_LOOK[reason] for reason in comparison.lost)
        raise Failure(
            f"Clever would lose {lost:,} of {comparison.not_ended:,} sections that have not ended: "
            f"{reasons}. Look at {OUTPUT.name}, and in PowerSchool at "
            f"{places}; if the file is right, run once with --force, which uploads it anyway"
        )
    for school in sorted(comparison.lost_schools):
        name = report.schools.get(int(school), "") if school.isdecimal() else ""
        log.warning("Clever loses all sections of school %s", clean(f"{school} {name}"))


def school_counts(schools: Counter[str]) -> str:
    """How many sections of which schools."""
    return ", ".join(f"school {school}: {count:,}" for school, count in schools.items())


# ================================================================================================
# Uploading to Clever
# ================================================================================================


class CleverServer(NamedTuple):
    """Where Clever's server is."""

    host: str
    port: int


def clever_server() -> CleverServer:
    """The server that CLEVER_SFTP_ADDRESS names. Raises Failure if it is not an address."""
    # A name or an IPv6 address in brackets; a scheme, a port and a last slash may be there.
    name = r"[\w-]{1,63}(\.[\w-]{1,63})*\.?"
    form = rf"(\w+://)?(?P<host>{name}|\[[\da-f:.]+\])(:(?P<port>\d{{1,5}}))?/?"
    address = re.fullmatch(form, CLEVER_SFTP_ADDRESS, re.IGNORECASE)
    port = int(address["port"] or 22) if address else 0
    mistaken = [CLEVER_SFTP_USERNAME.lower(), CLEVER_SFTP_PASSWORD.lower()]
    if not address or port not in range(1, 65536) or address["host"].lower() in mistaken:
        # The address itself is not shown: it may hold a password.
        raise Failure(
            "CLEVER_SFTP_ADDRESS is not an address. Set it to sftp.clever.com or to host:port, "
            "without a user name, a password or a folder",
            status=2,
        )
    return CleverServer(address["host"].strip("[]").lower(), port)


FETCH_THE_KEY = "Fetch Clever's host key as the README says under Set it up"


class KnownKey(NamedTuple):
    """A line of known_hosts."""

    line: int
    name: str  # under which the host was found: [host]:port or host
    is_revoked: bool
    key: paramiko.PKey


def host_key(server: CleverServer) -> paramiko.PKey:
    """The first key that known_hosts has for Clever's server. Raises Failure."""
    try:
        text = KNOWN_HOSTS.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise failed("reading known_hosts", error) from error
    found = known_keys(text, [f"[{server.host}]:{server.port}", server.host])
    revoked = {known.key.get_base64(): known.line for known in found if known.is_revoked}
    usable = [known for known in found if not known.is_revoked]
    if not usable:
        port = "" if server.port == 22 else f", port {server.port}"
        raise Failure(f"known_hosts has no key of {server.host}{port}. {FETCH_THE_KEY}")
    for_this_port = [known for known in usable if known.name != server.host]
    first = (for_this_port or usable)[0]
    line = revoked.get(first.key.get_base64())
    if line is not None:
        raise Failure(f"known_hosts, line {line}: it revokes the key. {FETCH_THE_KEY}")
    return first.key


def known_keys(text: str, names: list[str]) -> list[KnownKey]:
    """The lines of known_hosts for any of these names. Raises Failure if one cannot be read.

    The format is described in the manual page sshd(8). pysftp's own reading does not know the form
    [host]:port, and fails at lines for other hosts.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if marker not in ("", "@revoked"):  # @cert-authority, which this job does not know
            continue
        named = [name for name in names if fields and is_named(fields[0], name)]
        if not named:
            continue
        try:
            key_data = base64.b64decode(fields[2], validate=True)
            key = paramiko.PKey.from_type_string(fields[1], key_data)
        except Exception as error:
            line_name = f"known_hosts, line {number}"
            raise Failure(
                f"{line_name}: it has no key that can be read. {FETCH_THE_KEY}"
            ) from error
        found.append(KnownKey(number, named[0], marker == "@revoked", key))
    return found


def is_named(names: str, host: str) -> bool:
    """Whether a line's names, which are joined by commas, hold a host.

    A name may be hashed, have the wildcards * and ?, or be negated with !, as sshd(8) has it.
    """
    found = False
    for name in names.split(","):
        if name.startswith("|1|"):
            with suppress(ValueError, IndexError, AssertionError):  # this name cannot be read
                found = found or paramiko.HostKeys.hash_host(host, name) == name
            continue
        pattern = re.escape(name.lstrip("!").lower()).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(pattern, host):
            if name.startswith("!"):
                return False
            found = True
    return found


class OnlyThisKey(pysftp.CnOpts):
    """pysftp's options: the server must have exactly this host key.

    pysftp would look the key up by the host's name in a file that it reads itself.
    """

    def __init__(self, key: paramiko.PKey) -> None:
        """Set what pysftp's own options have, without reading known_hosts."""
        self.log = False
        self.compression = False
        self.ciphers = None
        self.hostkeys = paramiko.HostKeys()
        self.key = key

    def get_hostkey(self, host: str) -> paramiko.PKey:
        """The key that pysftp compares the server's with before it sends the password."""
        return self.key


def connect_to_clever(server: CleverServer, key: paramiko.PKey) -> pysftp.Connection:
    """Log in to the server that has this host key, and start an SFTP session.

    If one of the host's addresses does not answer, the next one is tried, all within one limit.
    Raises TookTooLong, or what pysftp and paramiko raise.
    """
    ends = time.monotonic() + CONNECT_TIMEOUT_SECONDS
    found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    addresses = [str(socket_address[0]) for _, _, _, _, socket_address in found]
    while len(addresses) > 1:
        address = addresses.pop(0)
        seconds = (ends - time.monotonic()) / (len(addresses) + 1)
        try:
            return log_in_to_clever(address, server.port, key, seconds)
        except Exception as error:
            if is_final(error, CLEVER):
                raise
            log.info("%s, at %s: %s", server.host, address, cause(error))
    return log_in_to_clever(addresses[0], server.port, key, max(1, ends - time.monotonic()))


@contextmanager
def clever_session(server: CleverServer, key: paramiko.PKey) -> Iterator[pysftp.Connection]:
    """Be logged in to Clever in the block. Raises what connect_to_clever raises."""
    clever = connect_to_clever(server, key)
    try:
        yield clever
    finally:
        close(clever)


def log_in_to_clever(
    address: str, port: int, key: paramiko.PKey, seconds: float
) -> pysftp.Connection:
    """One try to log in. Raises TookTooLong, or what pysftp and paramiko raise."""
    # No library bounds a log-in; this limit is for all of it.
    with time_limit(seconds):
        clever = pysftp.Connection(
            address,
            username=CLEVER_SFTP_USERNAME,
            password=CLEVER_SFTP_PASSWORD,
            port=port,
            cnopts=OnlyThisKey(key),
        )
        # From now on this is the limit for each answer. Setting it starts the SFTP session.
        clever.timeout = CONNECT_TIMEOUT_SECONDS
    return clever


PIECE = 32_000  # bytes: what fits into one packet of SSH


def send_file(clever: pysftp.Connection, name: str, content: bytes, pipelined: bool) -> None:
    """Store the content in Clever's folder under this name.

    `pipelined` sends without waiting for each answer. That is many times faster, but servers that
    answer out of order cannot do it. Raises OSError or paramiko.SSHException.
    """
    before = look_in_clever(clever, name)
    target = clever.open(name, "wb")
    try:
        for start in range(0, len(content), PIECE):
            # The last write is not pipelined: it reads and checks all answers that are due.
            is_last = start + PIECE >= len(content)
            target.set_pipelined(pipelined and not is_last)
            target.write(content[start : start + PIECE])
    except BaseException:
        # Clever stores a file when it is closed, even half of one. So this one is not closed: the
        # connection is dropped, and Clever drops what was open.
        close(clever)
        raise
    target.close()
    if not has_arrived(clever, name, content, before):
        remove_temporary(clever)
        raise OSError("the file has not arrived whole")


def has_arrived(
    clever: pysftp.Connection,
    name: str,
    content: bytes,
    before: paramiko.SFTPAttributes | None,
) -> bool:
    """Whether Clever has stored a file, where it knew `before` of one of that name.

    The answer to the close would tell, but paramiko discards it.
    """
    after = look_in_clever(clever, name)
    if after is None or after.st_size != len(content):
        return False
    if before is None or (before.st_size, before.st_mtime) != (after.st_size, after.st_mtime):
        return True
    # Times are in whole seconds: this is the old file, or one that was stored a moment later.
    try:
        return read_file(clever, name) == content
    except OSError as error:
        if not is_refusal(error, clever):
            raise
        return True  # it may not be read, so its size has to do


def look_in_clever(clever: pysftp.Connection, name: str) -> paramiko.SFTPAttributes | None:
    """What Clever knows of a file in its folder; None if there is none."""
    try:
        return clever.stat(name)
    except FileNotFoundError:
        return None


# Clever's server stores a file again when it is closed, even if it was only read. That could undo
# what another job has uploaded meanwhile. So files are left open until the connection is gone: they
# are kept here, because Python closes what nobody keeps.
FILES_LEFT_OPEN: list[paramiko.SFTPFile] = []


def read_file(clever: pysftp.Connection, name: str) -> bytes:
    """What a file in Clever's folder holds. Raises what paramiko raises."""
    source = clever.open(name, "rb")
    FILES_LEFT_OPEN.append(source)
    pieces = [source.read(PIECE)]
    while pieces[-1]:
        pieces.append(source.read(PIECE))
    return b"".join(pieces)


def close(clever: pysftp.Connection) -> None:
    """Drop a connection. What mattered has been answered, or has failed, before."""
    with suppress(EOFError, OSError, paramiko.SSHException):
        clever.close()


def remove_temporary(clever: pysftp.Connection) -> None:
    """Remove what is left under the temporary name, if the server lets us."""
    try:
        clever.remove(TEMPORARY.name)
    except FileNotFoundError:
        return
    except OSError as error:
        if not is_refusal(error, clever):
            raise
        log.info("%s may stay in Clever's folder: %s", TEMPORARY.name, cause(error))


def is_refusal(error: OSError, clever: pysftp.Connection) -> bool:
    """Whether an error is the server's answer, and not the lack of one."""
    channel = clever.sftp_client.get_channel()
    return not isinstance(error, TimeoutError) and channel is not None and not channel.closed


def rename(clever: pysftp.Connection, server: CleverServer, key: paramiko.PKey) -> bool:
    """Give the new file its name. False if the server cannot do that; Clever's can."""
    try:
        try:
            rename_temporary(clever)
        except SessionEnded:
            # Has the line broken, or does the server end every session over this?
            with clever_session(server, key) as another:
                if look_in_clever(another, TEMPORARY.name) is not None:
                    rename_temporary(another)
                # Otherwise it was done the first time, and only the answer was lost.
        return True
    except (CannotRename, SessionEnded) as error:
        log.info("Clever cannot rename, so %s is written in place: %s", OUTPUT.name, error)
        return False


def rename_temporary(clever: pysftp.Connection) -> None:
    """Rename the temporary file over the old one.

    On Clever's server, a plain rename does that. OpenSSH has posix-rename for it, over which other
    servers may end the session. Raises CannotRename, SessionEnded, or what paramiko raises.
    """
    try:
        clever.rename(TEMPORARY.name, OUTPUT.name)
        return
    except OSError as error:
        if not is_refusal(error, clever):
            raise
        refusal = cause(error)
    try:
        clever.sftp_client.posix_rename(TEMPORARY.name, OUTPUT.name)
    except OSError as error:
        if not is_refusal(error, clever):
            raise
        raise CannotRename(f"{refusal}; {cause(error)}") from error
    except paramiko.SSHException as error:
        raise SessionEnded(f"{refusal}; {cause(error)}") from error


class CannotRename(Exception):
    """The server refuses to rename a file over another one; the text is what it says."""


class SessionEnded(Exception):
    """The session ended over posix-rename; the text is what was said until then."""


class IdFile(NamedTuple):
    """Another file of the district's in Clever: Clever refuses a section whose id is not in it."""

    name: str  # in lower case; in Clever's folder it may be written in any case
    column: str
    remark: str
    where_to_look: str


ID_FILES = [
    IdFile(
        "schools.csv",
        "School_id",
        "school not in Clever's schools file",
        "IGNORED_SCHOOLS, or the schools file",
    ),
    IdFile(
        "teachers.csv",
        "Teacher_id",
        "lead teacher not in Clever's teachers file",
        "TEACHER_ID_COLUMN, or the teachers file",
    ),
]


def read_ids(clever: pysftp.Connection) -> tuple[dict[IdFile, set[str]], bool]:
    """The ids in those of ID_FILES that can be read, and whether the session can still be used."""
    known: dict[IdFile, set[str]] = {}
    try:
        entries = clever.listdir_attr()
    except Exception as error:
        return known, can_go_on("other files", error, clever)
    for file in ID_FILES:
        try:
            known[file] = ids_in_clever(clever, entries, file)
        except Exception as error:
            if not can_go_on(file.name, error, clever):
                return known, False
    return known, True


def can_go_on(what: str, error: Exception, clever: pysftp.Connection) -> bool:
    """Log why no ids are compared. False if the session can no longer be used."""
    log.info("ids are not compared with Clever's %s: %s", what, cause(error))
    if isinstance(error, OSError):
        return is_refusal(error, clever)
    return isinstance(error, (ValueError, csv.Error))  # it is about what was read


def ids_in_clever(
    clever: pysftp.Connection, entries: list[paramiko.SFTPAttributes], file: IdFile
) -> set[str]:
    """The ids in a file that is among the entries of Clever's folder.

    Raises ValueError, csv.Error, OSError, EOFError or paramiko.SSHException.
    """
    found = [entry for entry in entries if entry.filename.lower() == file.name]
    if not found:
        raise ValueError("there is none")
    ids = set()
    for entry in found:
        content = read_file(clever, entry.filename)
        if entry.st_size not in (None, len(content)):
            raise ValueError("it has not arrived whole")
        lines = io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=None)
        ids |= {values[0] for values in read_csv(lines, [file.column], needed=[file.column])}
    return ids


def check_ids(known: dict[IdFile, set[str]], today: date, force: bool) -> None:
    """Log which sections Clever would refuse. Raises Failure if they are too many."""
    remarks: dict[str, list[str]] = {}
    not_ended = 0
    refused = 0
    for section in sections_in(OUTPUT):
        if not has_not_ended(section, today):
            continue
        not_ended += 1
        ids = {file: value(section, file.column) for file in known}
        # A section without staff has a remark of its own.
        missing = [file for file in known if ids[file] and ids[file] not in known[file]]
        if missing:
            refused += 1
        course = f"{value(section, 'Course_number')}.{value(section, 'Section_number')}"
        for file in missing:
            remarks.setdefault(file.remark, []).append(f"{value(section, 'School_id')} {course}")
    log_remarks(remarks)
    if refused > MAX_LOST * not_ended and not force:
        reasons = ", ".join(f"{remark}: {len(remarks[remark]):,}" for remark in remarks)
        places = "; ".join(file.where_to_look for file in known if file.remark in remarks)
        raise Failure(
            f"Clever would refuse {refused:,} of {not_ended:,} sections that have not ended "
            f"({reasons}). Look at {places}; --force uploads anyway"
        )


def upload(server: CleverServer, today: date, force: bool) -> None:
    """Replace Clever's Sections.csv with the new one. Raises Failure."""
    content = OUTPUT.read_bytes()
    key = host_key(server)
    name = TEMPORARY.name
    ids_are_checked = False
    attempt = 1
    while True:
        try:
            with clever_session(server, key) as clever:
                if not ids_are_checked:
                    ids_are_checked = True
                    known, usable = read_ids(clever)
                    if known:
                        check_ids(known, today, force)
                    if not usable:
                        continue  # on a new connection; this is no failed attempt
                remove_temporary(clever)
                send_file(clever, name, content, pipelined=attempt == 1)
                if name == OUTPUT.name or rename(clever, server, key):
                    return
            # From now on in place, and on a new connection: the server may have ended this one.
            name = OUTPUT.name
        except Failure:
            raise
        except Exception as error:
            give_up_or_wait(f"uploading to {server.host}", error, CLEVER, attempt)
            attempt += 1


# ================================================================================================
# The run
# ================================================================================================


def run(options: argparse.Namespace) -> None:
    """One night's work. Raises Failure."""
    started = time.monotonic()
    check_settings()
    check_variables(options.dry_run)
    server = None if options.dry_run else clever_server()
    lock.take()
    report = export(options.date)
    comparison = None
    changes = "first upload"
    if UPLOADED.exists():
        comparison = compare_with_clever(report, options.date)
        changes = "not compared"
    if comparison:
        check_losses(comparison, report, options.force)
        changes = str(comparison)
    elif not options.force:
        check_staff(report)
    if not report.sections:
        log.info("no school is in session: nothing written, nothing uploaded")
        return
    done = "dry run, not uploaded"
    if server:
        upload(server, options.date, options.force)
        keep_copies(keep_previous=comparison is not None)
        done = "uploaded"
    sections = count(sum(report.sections.values()), "section")
    schools = count(len(report.sections), "school")
    seconds = time.monotonic() - started
    log.info("%s in %s (%s), %s, %.1f s", sections, schools, changes, done, seconds)


def check_variables(dry_run: bool) -> None:
    """Raise Failure if a variable of the environment is missing or cannot be right."""
    needed = {
        "POWERSCHOOL_READ_USER": POWERSCHOOL_READ_USER,
        "POWERSCHOOL_DB_PASSWORD": POWERSCHOOL_DB_PASSWORD,
        "POWERSCHOOL_PROD_DB": POWERSCHOOL_PROD_DB,
    }
    if not dry_run:
        needed |= {
            "CLEVER_SFTP_USERNAME": CLEVER_SFTP_USERNAME,
            "CLEVER_SFTP_PASSWORD": CLEVER_SFTP_PASSWORD,
            "CLEVER_SFTP_ADDRESS": CLEVER_SFTP_ADDRESS,
        }
    missing = [name for name in needed if not needed[name]]
    if missing:
        raise Failure(f"missing or empty variables: {', '.join(missing)}", status=2)
    for name, text in needed.items():
        # A Windows editor may leave a carriage return there, or another encoding. Tried, that might
        # lock the account.
        if text[-1].isspace():
            raise Failure(f"{name} ends in a blank or a line end. Remove it", status=2)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise Failure(f"{name} is not in UTF-8. Save the file that sets it as UTF-8", status=2)


def check_settings() -> None:
    """Raise Failure if a setting has a form that would do something else than it says."""
    sets: list[tuple[str, object, type, str]] = [
        ("HIGH_SCHOOL_IDS", HIGH_SCHOOL_IDS, int, "{300, 310}"),
        ("IGNORED_SCHOOLS", IGNORED_SCHOOLS, int, "{800, 999999}"),
        ("IGNORED_COURSES", IGNORED_COURSES, str, '{"LUNCH", "DUTY"}'),
        ("IGNORED_ROLES", IGNORED_ROLES, str, '{"Class Observer", "Aide"}'),
    ]
    for name, setting, kind, example in sets:
        if not isinstance(setting, set) or not all(isinstance(item, kind) for item in setting):
            raise Failure(
                f"{name} has a wrong form. Write it like {example}; none is set()", status=2
            )
    if not 0 <= MAX_LOST <= 1:
        raise Failure("MAX_LOST has a wrong form. It is a share: 0.1 is 10%", status=2)


class Lock:
    """Keeps two runs from working at once: both would write the same files."""

    taken = False

    def take(self) -> None:
        """Take it, until this run ends, however it ends. Raises Failure if another run has it."""
        try:
            self.file = open(LOCK, "a")
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Failure("another run is at work. Wait for its end") from error
        except OSError as error:
            raise failed(f"locking {LOCK.name}", error) from error
        self.taken = True


lock = Lock()


def keep_copies(keep_previous: bool) -> None:
    """Keep what was uploaded and, if it is different, what Clever had before. Raises Failure."""
    try:
        if keep_previous and not filecmp.cmp(UPLOADED, OUTPUT, shallow=False):
            copy_whole(UPLOADED, PREVIOUS)
        copy_whole(OUTPUT, UPLOADED)
    except OSError as error:
        raise failed(f"uploaded, but not copied to {UPLOADED.name}", error) from error


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that the target is never half written. Raises OSError."""
    try:
        shutil.copyfile(source, TEMPORARY)
        TEMPORARY.replace(target)
    finally:
        TEMPORARY.unlink(missing_ok=True)


def parse_arguments() -> argparse.Namespace:
    """What the command line says: dry_run, force, date and verbose."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="upload nothing; needs no CLEVER_ variable"
    )
    parser.add_argument(
        "--force", action="store_true", help="upload even if Clever loses or refuses many sections"
    )
    parser.add_argument("--date", type=day, default=date.today(), help="run as if on YYYY-MM-DD")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show progress, and up to twenty sections each that are added, removed and changed",
    )
    try:
        return parser.parse_args()
    except OSError as error:  # the command line is wrong, and standard error is full
        raise SystemExit(2) from error


def day(text: str) -> date:
    """The day YYYY-MM-DD. Raises ValueError if it is none, or too far off to calculate with."""
    chosen = date.fromisoformat(text)
    try:
        chosen + timedelta(days=TERM_START_OFFSET_DAYS + 1)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return chosen


def start_logging(verbose: bool) -> None:
    """Start the log and what goes to the screen. Raises Failure.

    The log has everything. A terminal shows progress, too. Without a terminal, cron mails what goes
    to the screen, so that is only what is new tonight.
    """
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    if verbose:
        screen.setLevel(logging.DEBUG)
    elif sys.stderr and sys.stderr.isatty():
        screen.setLevel(logging.INFO)
    else:
        screen.setLevel(logging.WARNING)
        screen.addFilter(lambda record: record.name != standing_log.name)
    log.addHandler(screen)
    log.setLevel(logging.DEBUG)
    # A log or a screen that cannot be written must not stop the job.
    logging.raiseExceptions = False
    # paramiko raises what it logs, so it would be said twice.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    try:
        file = RotatingFileHandler(
            LOG, maxBytes=1_000_000, backupCount=9, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise failed("opening the log", error) from error
    file.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    log.addHandler(file)


def main() -> int:
    """Run the job for the command line, and return the exit status."""
    options = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored, and that is to stay so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupted)
    try:
        start_logging(options.verbose)
        run(options)
        return 0
    except Failure as error:
        log.error("%s", error)
        return error.status
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        what = f"{type(error).__name__} {cause(error)}, {where}"
        log.error("a bug in this script: %s. Please report this line", what)
        return 1


# ================================================================================================
# When something fails
# ================================================================================================


class Failure(Exception):
    """Why the run ends: its text is the one line that people see, `status` the exit status."""

    def __init__(self, line: str, status: int = 1) -> None:
        """A line and an exit status, which is 2 for an option, a variable or a setting."""
        super().__init__(clean(line))
        self.status = status


class TookTooLong(Exception):
    """A time limit is over. Not a TimeoutError, because the libraries catch those themselves."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block if it takes longer than these seconds."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        """Handle SIGALRM."""
        raise TookTooLong("no answer in time")

    signal.signal(signal.SIGALRM, stop)
    # Once more each second after that, as a library may be too busy to notice the first one.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Handle Ctrl-C, SIGTERM or a closed terminal: say so, tidy up, and end at once."""
    log.error("interrupted: Clever has the old file or the whole new one")
    if lock.taken:
        TEMPORARY.unlink(missing_ok=True)
    os._exit(128 + number)


# Where something can fail, and whom to ask about what is not in the table below.
POWERSCHOOL = "PowerSchool"
CLEVER = "Clever"
HERE = "here"
WHOM_TO_ASK = {
    POWERSCHOOL: "If it happens again, show this line to whoever runs PowerSchool's database",
    CLEVER: "If it happens again, show this line to Clever's support",
    HERE: "If it happens again, show this line to whoever runs this machine",
}


class Advice(NamedTuple):
    """What to do when a library says something."""

    pattern: str  # for what it says
    text: str
    places: tuple[str, ...] = (POWERSCHOOL, CLEVER)
    is_final: bool = False  # trying again cannot help, or may lock an account


# What python-oracledb says of a connect string that it cannot read.
CONNECT_STRING_CODES = (
    "DPY-(2049|2056|2059|3001|3029|4000|4017|4018|4021|4022|4026|4027|4028|4030|4032|4038)"
)

ADDRESS = {POWERSCHOOL: "POWERSCHOOL_PROD_DB", CLEVER: "CLEVER_SFTP_ADDRESS", HERE: ""}

# The first pattern that fits counts. {address} is the variable that has the server's address. The
# codes are explained in Oracle's error help (ORA-) and in python-oracledb's documentation (DPY-).
ADVICE = [
    Advice(
        "ORA-01017|ORA-01005",
        "Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD",
        is_final=True,
    ),
    Advice(
        r"^Authentication failed\.$",
        "Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD",
        is_final=True,
    ),
    Advice(
        "Bad authentication type",
        "Clever takes no password for this account. Ask Clever's support to allow one",
        is_final=True,
    ),
    Advice(
        "ORA-28000",
        "Have the database's administrator unlock the account, and check POWERSCHOOL_DB_PASSWORD",
        is_final=True,
    ),
    Advice(
        "ORA-28001|ORA-28002|ORA-28011",
        "Have the password changed, and put the new one into POWERSCHOOL_DB_PASSWORD",
        is_final=True,
    ),
    Advice("ORA-01045", "Have CREATE SESSION granted to the account", is_final=True),
    Advice(
        "ORA-00942|ORA-01031|ORA-41900",
        "Have SELECT granted to the account on the tables that the README names",
    ),
    Advice(
        "ORA-00904",
        "Check TEACHER_ID_COLUMN and PERIOD_COLUMN, and that the account may read all columns of "
        "the tables that the README names",
    ),
    Advice(
        "ORA-12660|Native Network Encryption|DPY-5016",
        "The database demands Oracle's own encryption, which this job cannot do. Ask for a TLS "
        "port (tcps://), or use an SSH tunnel, as for a PowerSchool that is hosted",
        is_final=True,
    ),
    Advice(
        "DPY-3010",
        "The database is older than Oracle 12.1, with which this job cannot work",
        is_final=True,
    ),
    Advice(
        "DPY-3015",
        "The account's password is stored in an old form. Have the same password set once more",
        is_final=True,
    ),
    Advice(
        "CERTIFICATE|certificate|DPY-6002|DPY-2018|DPY-4026.*wallet",
        "Have the server's certificate in a wallet, and name its folder at the end of {address}: "
        "?wallet_location=/the/folder",
        places=(POWERSCHOOL,),
        is_final=True,
    ),
    Advice(
        CONNECT_STRING_CODES,
        "Check the form of {address}: host:1521/service",
        is_final=True,
    ),
    Advice(
        "DPY-6001|DPY-6003|ORA-12504|ORA-12505|ORA-12514",
        "Check the service's name at the end of {address}; if it is right, the database may be "
        "down",
    ),
    Advice(
        "ORA-01033|ORA-01034|ORA-01035|ORA-01089|ORA-01109|ORA-125[12][0-9]|DPY-6000",
        "The database is starting, stopping or in its backup: if it is so every night, run the "
        "job at another hour",
    ),
    Advice(
        "DPY-4024",
        "If it is so every night, set QUERY_TIMEOUT_SECONDS higher or run the job at another hour",
    ),
    Advice("ORA-01555", "If it is so every night, run the job at another hour"),
    Advice(
        "Bad host key|no acceptable host key",
        "Ask Clever's support whether their host key is a new one; if so, replace it in "
        "known_hosts as the README says. Until then, another server may be answering",
        is_final=True,
    ),
    Advice(
        "Errno -[0-9]|Name or service not known|name resolution|nodename nor servname",
        "Check the host's name in {address}, and this machine's DNS",
    ),
    Advice("'idna' codec", "Check the host's name in {address}", is_final=True),
    Advice(
        "Connection refused|ORA-12541",
        "Check host and port in {address}; if they are right, the server may be down",
    ),
    Advice(
        "no answer in time, after the log-in",
        "If it happens again, set CONNECT_TIMEOUT_SECONDS higher, or show this line to Clever's "
        "support",
    ),
    Advice(
        "No route to host|Network is unreachable|no answer in time|timed out",
        "Check {address}, and the firewalls between this machine and the server",
    ),
    Advice(
        "No space|[Qq]uota|disk full",
        "Ask Clever's support to make room for the file",
        places=(CLEVER,),
    ),
    Advice(
        "Permission denied|not permitted|AccessDenied|Access Denied",
        f"Ask Clever's support to let the account write {OUTPUT.name} and {TEMPORARY.name}",
        places=(CLEVER,),
    ),
    Advice("No space left|quota", "Make room on this machine's disk", places=(HERE,)),
    Advice(
        "Permission denied|not permitted|Read-only",
        "The user who runs the job must be able to write to it and to its folder. What a run as "
        "another user has left there, give to that user with chown",
        places=(HERE,),
    ),
    Advice("Is a directory", "Remove or rename that folder", places=(HERE,)),
    Advice("No such file.*known_hosts", FETCH_THE_KEY, places=(HERE,)),
]


def advice(error: object, place: str) -> tuple[str, bool]:
    """What to do about an error, and whether it is final."""
    for known in ADVICE:
        if place in known.places and re.search(known.pattern, words(error)):
            return known.text.format(address=ADDRESS[place]), known.is_final
    return WHOM_TO_ASK[place], False


def words(error: object) -> str:
    """What a library says of its error; the name of the error if it says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time, after the log-in"
    return str(error) or type(error).__name__


def cause(error: object) -> str:
    """What a library says of its error: on one line, and without secrets."""
    text = words(error)
    if text.startswith("DPY-"):
        # The driver may quote the connect string, in which people may have put a password: in
        # quotes, or after a colon.
        text = re.sub('".*"', '"..."', text, flags=re.DOTALL)
        if re.match(CONNECT_STRING_CODES, text):
            text = ": ".join(text.split(": ")[:2])
    for secret in (POWERSCHOOL_DB_PASSWORD, CLEVER_SFTP_PASSWORD):
        # No library quotes a password, but a server might. A short one could be part of any word.
        if len(secret) >= 8:
            text = text.replace(secret, "*****")
    text = re.sub(r"\s*Help: https?://\S+", "", text)  # a link to the driver's manual
    return clean(text).rstrip(".: ")


def failed(doing: str, error: BaseException, place: str = HERE) -> Failure:
    """A Failure that says what was being done, the cause, and what to do about it."""
    what_to_do, _ = advice(error, place)
    return Failure(f"{doing}: {cause(error)}. {what_to_do}")


def is_final(error: BaseException, place: str) -> bool:
    """Whether trying again cannot help, or may lock an account."""
    _, final = advice(error, place)
    return final


def give_up_or_wait(doing: str, error: Exception, place: str, attempt: int) -> None:
    """After a failed attempt, wait for the next one. Raises Failure if there is to be none."""
    why = failed(doing, error, place)
    if is_final(error, place) or attempt >= CONNECT_ATTEMPTS:
        raise why from error
    log.info("attempt %d: %s", attempt, why)
    time.sleep(RETRY_DELAY_SECONDS)


if __name__ == "__main__":
    try:
        exit_status = main()
    except SystemExit as usage:  # the help was asked for, or the command line is wrong
        exit_status = int(usage.code or 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # it is closed or full
            stream.flush()
    # sys.exit would turn the status into 120 if one of them is full.
    os._exit(exit_status)
