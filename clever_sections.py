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
  2 an option or variable is wrong; 129 terminal closed; 130 Ctrl-C; 143 SIGTERM
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

# What Clever gets for a grade level of PowerSchool, before any rule. Level 0 is kindergarten, but
# also what nobody set. If yours are set, it could be:
# {-1: "PreKindergarten", 0: "Kindergarten", 14: "PostGraduate"}
GRADE_NAMES = {0: ""}

# What Clever gets for the other grades below 0.
PRESCHOOL_GRADE = "Preschool"

# The numbers of schools that teach grades 10 to 12 though their high_grade does not say so, such
# as {300, 310}.
HIGH_SCHOOL_IDS: set[int] = set()

# How many staff a section has in Clever at most.
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

# The share of Clever's sections that may be lost in a night without --force. Clever itself holds
# back what deletes more than a tenth.
MAX_LOST = 0.10

# How long a server may take to let the job in, or Clever to answer during the upload.
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

# For what stands as it stood yesterday: in the log and on a terminal, but in no mail from cron.
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


# The terms of the newest school year that is under way.
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
    ORDER BY id
"""


class Assignment(NamedTuple):
    """A section with one of its staff; a section without staff has one row, with no teacher."""

    section: int
    course_number: str | None
    section_number: str | None
    expression: str | None
    grade_level: int | None
    course: str | None  # None if there is no such course
    course_name: str | None
    credit_type: str | None
    teacher: int | str | None
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

# The order of the staff must be the same every night: Clever names a class after the first one.
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
    ORDER BY s.id, CASE WHEN r.rolekey = '{LEAD_TEACHER}' THEN 0 ELSE 1 END, st.roleid, st.id
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
    without_tracks = re.sub(r"\([^)]*\)*", " ", expression or "")
    return clean(without_tracks.replace(",", " "))


# A section for several grades has them in one number: 23 is grades 2 and 3, 345 is 3 to 5,
# 912 is 9 and 12. This is each such number, with the range that Clever gets for it.
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
        return GRADE_NAMES[level]
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

    schools: dict[int, str] = field(default_factory=dict)  # number: name, of all schools
    sections: dict[int, int] = field(default_factory=dict)  # number: sections, if in session
    remarks: dict[str, list[str]] = field(default_factory=dict)  # what: the sections it is about

    def remark(self, what: str, section: str) -> None:
        self.remarks.setdefault(what, []).append(section)


def connect_to_powerschool() -> oracledb.Connection:
    """Log in to PowerSchool's database. Raises Failure."""
    attempt = 1
    while True:
        try:
            # The driver bounds only parts of a log-in; this limit is for all of it.
            with time_limit(CONNECT_TIMEOUT_SECONDS):
                db = oracledb.connect(
                    user=POWERSCHOOL_READ_USER,
                    password=POWERSCHOOL_DB_PASSWORD,
                    dsn=POWERSCHOOL_PROD_DB,
                    # For each address of the host, so that there is time for another one.
                    tcp_connect_timeout=CONNECT_TIMEOUT_SECONDS / 4,
                )
        except Exception as error:
            give_up_or_wait("connecting to PowerSchool", error, POWERSCHOOL, attempt)
            attempt += 1
            continue
        db.call_timeout = QUERY_TIMEOUT_SECONDS * 1000
        db.outputtypehandler = replace_undecodable
        if db.warning:
            what_to_do, _ = advice(db.warning, POWERSCHOOL)
            log.warning("PowerSchool says: %s. %s", cause(db.warning), what_to_do)
        return db


def replace_undecodable(cursor: oracledb.Cursor, column: oracledb.FetchInfo) -> oracledb.Var | None:
    """Have the driver put U+FFFD for a byte that is no text, instead of raising an error."""
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
        # So many rows come in one round trip.
        cursor.prefetchrows = 5000
        cursor.arraysize = 5000
        cursor.execute(sql, binds)
        for row in cursor:
            yield row_type(*row)
    except oracledb.Error as error:
        raise failure(f"reading the {what}", error, POWERSCHOOL) from error


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
        for term in terms.values():
            what = f"sections of school {school.number}, term {term.id}"
            rows = query(db, what, SECTIONS_SQL, Assignment, school=school.number, term=term.id)
            for number, assignments in groupby(rows, key=lambda row: row.section):
                section, *others = assignments
                if number in written or clean(section.course_number) in IGNORED_COURSES:
                    continue
                staff: list[str] = []
                for member in staff_who_count([section, *others], term, today):
                    if clean(member.teacher) not in staff:
                        staff.append(clean(member.teacher))
                if IGNORE_SECTIONS_WITH_NO_TEACHERS and not staff:
                    continue
                row = section_row(school, term, year_of(terms), section, staff)
                writer.writerow(row)
                written.add(number)
                report.sections[school.number] += 1
                add_remarks(report, school, section, staff, row)
        log_school(report, school, terms)
    return report


def current_terms(db: oracledb.Connection, school: School, today: date) -> dict[int, Term]:
    """All terms of the school's current year, past and coming ones too, by id; {} if none is."""
    midnight = datetime(today.year, today.month, today.day)
    starts_before = midnight + timedelta(days=TERM_START_OFFSET_DAYS + 1)
    what = f"terms of school {school.number}"
    binds = {"school": school.number, "today": midnight, "starts_before": starts_before}
    return {term.id: term for term in query(db, what, TERMS_SQL, Term, **binds)}


def year_of(terms: dict[int, Term]) -> str:
    """The name of the school year that these terms are of, such as "26-27"."""
    return next(clean(term.abbreviation) for term in terms.values() if term.is_year == 1)


def staff_who_count(assignments: list[Assignment], term: Term, today: date) -> list[Assignment]:
    """Those of a section's assignments whose staff Clever is to get, in the same order."""
    wanted = [assignment for assignment in assignments if is_wanted(assignment)]
    if not IGNORE_FORMER_STAFF:
        return wanted
    # In a coming term those count who begin it, in a past one those who ended it.
    day = today
    if term.last_day:
        day = min(day, term.last_day.date())
    if term.first_day:
        day = max(day, term.first_day.date())
    current = [assignment for assignment in wanted if is_current(assignment, day)]
    return current or wanted


IGNORED_ROLE_NAMES = {clean(role).casefold() for role in IGNORED_ROLES}


def is_wanted(assignment: Assignment) -> bool:
    """Whether there is such a person, whom no setting leaves out."""
    if not clean(assignment.teacher):
        return False
    if IGNORE_TEACHERS_WITHOUT_EMAILS and not clean(assignment.email):
        return False
    return clean(assignment.role).casefold() not in IGNORED_ROLE_NAMES


def is_current(assignment: Assignment, day: date) -> bool:
    """Whether the person is active, and assigned on that day; an empty date is open."""
    if assignment.status not in (1, None):
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
        str(section.section),
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
    return f"{day:%m/%d/%Y}"


def add_remarks(
    report: Report, school: School, section: Assignment, staff: list[str], row: list[str]
) -> None:
    """Note what a person could mend in PowerSchool or in the settings."""
    name = f"{school.number} {clean(section.course_number)}.{clean(section.section_number)}"
    credit_type = clean(section.credit_type)
    level = section.grade_level
    if not staff:
        report.remark("no staff, Clever refuses it", name)
    if len(staff) > MAX_STAFF:
        course = clean(section.course_name)
        what = f"more than {MAX_STAFF} staff: section {section.section}, {name} {course}"
        standing_log.error("%s", what)
    if section.course is None:
        report.remark("no such course in PowerSchool", name)
    if credit_type and not subject(credit_type):
        report.remark(f"no subject for credit type {credit_type}", name)
    if level and level not in GRADE_NAMES and not grade(level, highest_grade(school)):
        report.remark(f"grade {level} cannot be read", name)
    if any("\N{REPLACEMENT CHARACTER}" in text for text in row):
        report.remark("a character that cannot be read", name)


def log_school(report: Report, school: School, terms: dict[int, Term]) -> None:
    """Say that a school is done."""
    name = report.schools[school.number]
    counts = f"terms {len(terms)}, sections {report.sections[school.number]:,}"
    log.info("%s %s: year %s, %s", school.number, name, year_of(terms), counts)


def export(today: date) -> Report:
    """Write Sections.csv, if a school is in session. Raises Failure."""
    try:
        # Opened first: what this machine refuses is said before the database is asked.
        with open(TEMPORARY, "w", encoding="utf-8", newline="") as file:
            with connect_to_powerschool() as db:
                show_one_moment(db)
                report = write_sections(db, today, file)
        check_report(report)
        if report.sections:
            TEMPORARY.replace(OUTPUT)
        return report
    except OSError as error:
        raise failure(f"writing {OUTPUT.name}", error) from error
    finally:
        TEMPORARY.unlink(missing_ok=True)


def show_one_moment(db: oracledb.Connection) -> None:
    """Have all queries see the database as of now, whatever is changed meanwhile."""
    try:
        db.cursor().execute("SET TRANSACTION READ ONLY")
    except oracledb.Error as error:
        raise failure("reading PowerSchool", error, POWERSCHOOL) from error


def check_report(report: Report) -> None:
    """Log what the reading found. Raises Failure if it found nothing, though it should have."""
    if not report.schools:
        raise Failure(
            "PowerSchool shows no school. Have the account granted to see the rows of schools, and "
            "look at state_excludefromreporting there"
        )
    if report.sections and not sum(report.sections.values()):
        raise Failure(
            "PowerSchool shows no section. Have the account granted to see the rows of sections, "
            "and look at the IGNORE settings"
        )
    closed = [number for number in report.schools if number not in report.sections]
    if closed:
        names = ", ".join(f"{number} {report.schools[number]}" for number in closed)
        log.info("no current school year: %s", names)
    log_remarks(report.remarks)


def log_remarks(remarks: dict[str, list[str]]) -> None:
    """Log what a person could mend, with the sections that it is about."""
    for what, sections in sorted(remarks.items()):
        count = f"{len(sections)} section" if len(sections) == 1 else f"{len(sections)} sections"
        named = [*sections[:3], "..."] if len(sections) > 3 else sections
        log.info("%s: %s (%s)", what, count, ", ".join(named))


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
    going_on: int = 0  # sections in Clever whose term has not ended
    lost: dict[str, Counter[str]] = field(default_factory=dict)  # reason: School_id: how many
    lost_schools: list[str] = field(default_factory=list)  # School_id of those left without any

    def __str__(self) -> str:
        counts = f"+{len(self.added):,}, -{len(self.removed):,}, {len(self.changed):,} changed"
        if not self.changed:
            return counts
        columns = ", ".join(f"{column} {count:,}" for column, count in self.columns.most_common())
        return f"{counts}: {columns}"

    def lose(self, reason: str, school: str) -> None:
        self.lost.setdefault(reason, Counter())[school] += 1


def value(values: Values, column: str) -> str:
    return values[COLUMNS.index(column)]


def label(values: Values) -> str:
    """A section as the log names it."""
    school = value(values, "School_id")
    course = value(values, "Course_name")
    section = value(values, "Section_id")
    return f"school {school}, {course}, period {value(values, 'Period')}, id {section}"


def sections_in(path: Path) -> Iterator[Values]:
    """The sections of a file. Raises OSError, and ValueError or csv.Error if it is none."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        yield from read_csv(file, COLUMNS, needed=["School_id", "Section_id", "Teacher_id"])


def read_csv(lines: Iterable[str], columns: list[str], needed: list[str]) -> Iterator[Values]:
    """The values of some columns, row by row, of a file in any usual form of CSV.

    A column that the file lacks is blank; for one that is needed that is a ValueError.
    """
    reader = csv.reader(line.replace("\0", "") for line in lines)
    header = [column_key(name) for name in next(reader, [])]
    if not all(column_key(name) in header for name in needed):
        raise ValueError(f"it has no columns {', '.join(needed)}")
    width = len(header)
    keys = [column_key(name) for name in columns]
    # What the file lacks is read from a blank behind the last column.
    places = [header.index(key) if key in header else width for key in keys]
    for row in reader:
        padded = [*row[:width], *[""] * (width - len(row)), ""]
        # Most values stand in many rows: interned, each is in memory once.
        yield tuple(sys.intern(padded[place].strip()) for place in places)


def column_key(name: str) -> str:
    """A column's name without what people write differently: "Teacher id" is Teacher_id."""
    return name.strip().casefold().replace(" ", "_")


def compare(before: Iterable[Values], after: Iterable[Values], today: date) -> Comparison:
    """Compare what Clever has with what it would get. Raises what reading them raises."""
    comparison = Comparison()
    old_sections = {value(old, "Section_id"): old for old in before}
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
        comparison.going_on += goes_on(old, today)
        if section in new_sections:
            continue
        comparison.removed.append(label(old))
        if goes_on(old, today):
            school = value(old, "School_id")
            comparison.lose(NOT_THERE, school)
            if school not in new_schools and school not in comparison.lost_schools:
                comparison.lost_schools.append(school)
    return comparison


def goes_on(values: Values, today: date) -> bool:
    """Whether a section's term has not ended. One whose end is no date has not."""
    end = day_of(value(values, "Term_end"))
    return end is None or end >= today


@cache
def day_of(text: str) -> date | None:
    """The day that is written MM/DD/YYYY or YYYY-MM-DD; None for anything else."""
    for form in ("%m/%d/%Y", "%Y-%m-%d"):
        with suppress(ValueError):
            return datetime.strptime(text, form).date()
    return None


def note_change(comparison: Comparison, old: Values, new: Values, today: date) -> None:
    """Note what is new in a section, and whether Clever loses it by that."""
    changes = []
    for column, was, becomes in zip(COLUMNS, old, new, strict=True):
        if was != becomes:
            comparison.columns[column] += 1
            changes.append(f"{column} {was or '(blank)'} -> {becomes or '(blank)'}")
    comparison.changed.append(f"{label(new)}: {', '.join(changes)}")
    if not goes_on(old, today):
        return
    old_staff = {value(old, column) for column in TEACHER_COLUMNS} - {""}
    new_staff = {value(new, column) for column in TEACHER_COLUMNS} - {""}
    if old_staff and not old_staff & new_staff:
        comparison.lose(NO_STAFF, value(old, "School_id"))
    elif value(old, "Course_name") and not value(new, "Course_name"):
        comparison.lose(NO_COURSE, value(old, "School_id"))


def compare_with_clever(report: Report, today: date) -> Comparison | None:
    """Compare Sections.csv with the copy of the last upload, and log what changes.

    None if the copy is no sections file. Where no school is in session, Clever would get nothing.
    """
    after = sections_in(OUTPUT) if report.sections else iter(())
    try:
        comparison = compare(sections_in(UPLOADED), after, today)
    except (OSError, ValueError, csv.Error) as error:
        log.warning("%s is broken, so nothing is compared: %s", UPLOADED.name, cause(error))
        return None
    log_sections("added", comparison.added)
    log_sections("removed", comparison.removed)
    log_sections("changed", comparison.changed)
    return comparison


def log_sections(what: str, sections: list[str]) -> None:
    """Name the first twenty of the sections that were added, say."""
    for section in sections[:20]:
        log.debug("%s: %s", what, section)
    if len(sections) > 20:
        log.debug("%s: and %s more", what, f"{len(sections) - 20:,}")


def check_losses(comparison: Comparison, report: Report, force: bool) -> None:
    """Raise Failure if Clever would lose too many sections; warn of each school that it loses."""
    lost = sum(sum(schools.values()) for schools in comparison.lost.values())
    share = f"{lost:,} of {comparison.going_on:,} sections that have not ended"
    too_many = lost > MAX_LOST * comparison.going_on
    if too_many and not report.sections:
        raise Failure(
            f"no school is in session, yet Clever has {share}. "
            "Look at this machine's date, and in PowerSchool at terms"
        )
    if too_many and not force:
        reasons = "; ".join(
            f"{sum(schools.values()):,} {reason} ({school_counts(schools)})"
            for reason, schools in comparison.lost.items()
        )
        places = ", ".join(WHERE_TO_LOOK[reason] for reason in comparison.lost)
        raise Failure(
            f"Clever would lose {share}: {reasons}. Look at {OUTPUT.name}, and in PowerSchool at "
            f"{places}; if the file is right, run once with --force, which uploads it anyway"
        )
    for school in comparison.lost_schools:
        name = report.schools.get(int(school), "") if school.isdecimal() else ""
        log.warning("Clever loses all sections of school %s", clean(f"{school} {name}"))


def school_counts(schools: Counter[str]) -> str:
    return ", ".join(f"school {school}: {count:,}" for school, count in schools.items())


# ================================================================================================
# Uploading to Clever
# ================================================================================================


def clever_address() -> tuple[str, int]:
    """Host and port of CLEVER_SFTP_ADDRESS. Raises Failure if it is no address."""
    form = r"(?:\w+://)?(?P<host>[\w.-]+|\[[\da-f:.]+\])(?::(?P<port>\d{1,5}))?/?"
    address = re.fullmatch(form, CLEVER_SFTP_ADDRESS, re.IGNORECASE)
    if not address or int(address["port"] or 22) not in range(1, 65536):
        # The address itself is not shown: it may hold a password.
        raise Failure(
            "CLEVER_SFTP_ADDRESS is no address. Set it to sftp.clever.com or to host:port, "
            "without a user name, a password or a folder",
            status=2,
        )
    return address["host"].strip("[]").lower(), int(address["port"] or 22)


def host_key(host: str, port: int) -> paramiko.PKey:
    """The first key of a host in known_hosts. Raises Failure.

    known_hosts is described in the manual page sshd(8). pysftp's own reading of it does not know
    the form [host]:port, and fails at any line that it cannot read.
    """
    try:
        lines = KNOWN_HOSTS.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise failure("reading known_hosts", error) from error
    names = [f"[{host}]:{port}", host]
    keys: dict[str, paramiko.PKey] = {}  # by the name in the line; the first line counts
    revoked: dict[str, int] = {}  # key: the number of its line
    for number, line in enumerate(lines, start=1):
        marker, fields = marker_and_fields(line)
        name = next((name for name in names if fields and is_named(fields[0], name)), None)
        if name is None or marker == "@cert-authority":
            continue
        try:
            key = paramiko.PKey.from_type_string(fields[1], base64.b64decode(fields[2]))
        except Exception as error:
            advice = "Remove that line, and fetch the key anew as the README says"
            raise Failure(f"known_hosts, line {number}: no key can be read. {advice}") from error
        if marker == "@revoked":
            revoked[key.get_base64()] = number
        else:
            keys.setdefault(name, key)
    for name in names:
        if name in keys and keys[name].get_base64() in revoked:
            line_number = revoked[keys[name].get_base64()]
            advice = "Ask Clever's support for the key that is right"
            raise Failure(
                f"known_hosts, line {line_number}: the key of {host} is revoked. {advice}"
            )
        if name in keys:
            return keys[name]
    raise Failure(f"known_hosts has no key of {host}. Fetch it as the README says")


def marker_and_fields(line: str) -> tuple[str, list[str]]:
    """A line of known_hosts as its marker, such as "@revoked", and names, type and key."""
    fields = line.split()
    if not fields or fields[0].startswith("#"):
        return "", []
    if fields[0].startswith("@"):
        return fields[0], fields[1:]
    return "", fields


def is_named(names: str, host: str) -> bool:
    """Whether a host is among a line's names, which are joined by commas and may be hashed."""
    for name in names.split(","):
        if name.lower() == host:
            return True
        if name.startswith("|1|"):
            with suppress(ValueError, IndexError, AssertionError):  # it cannot be read
                if paramiko.HostKeys.hash_host(host, name) == name:
                    return True
    return False


class OneHostKey(pysftp.CnOpts):
    """pysftp's options, with the one host key that it is to accept, whatever the host's name."""

    def __init__(self, key: paramiko.PKey) -> None:
        self.log = False
        self.compression = False
        self.ciphers = None
        self.hostkeys = paramiko.HostKeys()
        self.key = key

    def get_hostkey(self, host: str) -> paramiko.PKey:
        return self.key


def connect_to_clever(key: paramiko.PKey) -> pysftp.Connection:
    """Log in to the server that has this host key, and start an SFTP session.

    Raises TookTooLong, or what pysftp and paramiko raise.

    Where the host has several addresses, one that does not answer leaves time for the others.
    """
    host, port = clever_address()
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(socket_address[0]) for _, _, _, _, socket_address in found]
    for address in addresses:
        try:
            # No library bounds a log-in; this limit is for all of it.
            with time_limit(CONNECT_TIMEOUT_SECONDS / len(addresses)):
                clever = pysftp.Connection(
                    address,
                    username=CLEVER_SFTP_USERNAME,
                    password=CLEVER_SFTP_PASSWORD,
                    port=port,
                    cnopts=OneHostKey(key),
                )
                # From now on this is the limit for each answer. Setting it starts the session.
                clever.timeout = CONNECT_TIMEOUT_SECONDS
            return clever
        except Exception as error:
            if is_final(error, CLEVER) or address == addresses[-1]:
                raise
            log.info("%s, at %s: %s", host, address, cause(error))
    raise OSError(f"no address of {host} is known")


def send_file(clever: pysftp.Connection, name: str, pipelined: bool) -> None:
    """Write Sections.csv to Clever's folder under this name.

    `pipelined` sends without waiting for each answer, which is many times faster, but which
    servers that answer out of order cannot do. Raises OSError or paramiko.SSHException.
    """
    size = OUTPUT.stat().st_size
    size_before = size_in_clever(clever, name)
    target = clever.open(name, "wb")
    try:
        with open(OUTPUT, "rb") as source:
            while source.tell() < size:
                piece = source.read(32_000)  # so much fits into one packet
                # The last write is not pipelined: it reads and checks all answers that are due.
                target.set_pipelined(pipelined and source.tell() < size)
                target.write(piece)
    except BaseException:
        # Clever stores a file when it is closed, even half of one, so it must not be closed. It
        # drops what is open when the connection goes.
        clever.close()
        raise
    target.close()
    # paramiko keeps the answer to the close to itself. Whether Clever has stored the file can only
    # be seen: in its size or, if a file of that size was there before, in what it holds.
    arrived = size_in_clever(clever, name) == size
    if arrived and size_before == size:
        arrived = content_in_clever(clever, name) == OUTPUT.read_bytes()
    if not arrived:
        remove_temporary(clever)
        raise OSError("the file has not arrived whole")


def size_in_clever(clever: pysftp.Connection, name: str) -> int | None:
    """The size in bytes of a file in Clever's folder; None if there is none."""
    try:
        return clever.stat(name).st_size
    except FileNotFoundError:
        return None


def content_in_clever(clever: pysftp.Connection, name: str) -> bytes:
    content = io.BytesIO()
    clever.getfo(name, content)
    return content.getvalue()


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


def rename_temporary(clever: pysftp.Connection) -> bool:
    """Give the new file its name. False if the server cannot do that.

    A plain rename replaces Clever's old file. OpenSSH refuses that, but has posix-rename for it.
    """
    try:
        clever.rename(TEMPORARY.name, OUTPUT.name)
        return True
    except OSError as error:
        if not is_refusal(error, clever):
            raise
        refusal = cause(error)
    try:
        clever.sftp_client.posix_rename(TEMPORARY.name, OUTPUT.name)
        return True
    except TimeoutError:
        raise
    except (OSError, paramiko.SSHException) as error:
        # A server may also end the session over a request that it does not know. Clever's does.
        refusal = f"{refusal}; {cause(error)}"
    log.info("Clever cannot rename, so %s is written in place: %s", OUTPUT.name, refusal)
    return False


class IdFile(NamedTuple):
    """Another file that the district sends to Clever: an id that it lacks is refused there."""

    name: str  # in lower case; in Clever's folder it may be written otherwise
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


def check_ids(
    clever: pysftp.Connection, left_open: list[paramiko.SFTPFile], today: date, force: bool
) -> bool:
    """Look for the sections' ids in Clever's other files. Raises Failure if too many are missing.

    False if the connection is of no more use. What cannot be read is not looked for.
    """
    known: dict[IdFile, set[str]] = {}
    try:
        entries = clever.listdir_attr()
        for file in ID_FILES:
            try:
                known[file] = ids_in_clever(clever, entries, file, left_open)
            except (ValueError, csv.Error, OSError) as error:
                if isinstance(error, OSError) and not is_refusal(error, clever):
                    raise
                log.info("ids are not compared with Clever's %s: %s", file.name, cause(error))
    except (OSError, EOFError, paramiko.SSHException) as error:
        log.info("ids are not compared with Clever's other files: %s", cause(error))
        if not isinstance(error, OSError) or not is_refusal(error, clever):
            return False
    if known:
        check_refusals(known, today, force)
    return True


def ids_in_clever(
    clever: pysftp.Connection,
    entries: list[paramiko.SFTPAttributes],
    file: IdFile,
    left_open: list[paramiko.SFTPFile],
) -> set[str]:
    """The ids in a file that is among the `entries` of Clever's folder, and that is left open.

    Clever's server stores a file when it is closed, also one that was only read: closing it could
    undo what another job has uploaded meanwhile. `left_open` keeps it from being closed.
    """
    found = [entry for entry in entries if entry.filename.lower() == file.name]
    if not found:
        raise FileNotFoundError("there is none")
    source = clever.open(found[0].filename, "rb")
    left_open.append(source)
    source.prefetch(found[0].st_size)  # asks for all of it at once
    text = io.StringIO(source.read().decode("utf-8-sig", errors="replace"), newline=None)
    return {key for (key,) in read_csv(text, [file.column], needed=[file.column])}


def check_refusals(known: dict[IdFile, set[str]], today: date, force: bool) -> None:
    """Log which sections Clever would refuse. Raises Failure if they are too many."""
    remarks: dict[str, list[str]] = {}
    going_on = 0
    refused = 0
    for section in sections_in(OUTPUT):
        if not goes_on(section, today):
            continue
        going_on += 1
        ids = {file: value(section, file.column) for file in known}
        # A section without staff has a remark of its own.
        missing = [file for file in known if ids[file] and ids[file] not in known[file]]
        refused += bool(missing)
        course = f"{value(section, 'Course_number')}.{value(section, 'Section_number')}"
        for file in missing:
            remarks.setdefault(file.remark, []).append(f"{value(section, 'School_id')} {course}")
    if refused > MAX_LOST * going_on and not force:
        reasons = "; ".join(f"{len(remarks[what]):,} {what}" for what in remarks)
        places = "; ".join(file.where_to_look for file in known if file.remark in remarks)
        raise Failure(
            f"Clever would refuse {refused:,} of {going_on:,} sections that have not ended: "
            f"{reasons}. Look at {places}; --force uploads anyway"
        )
    log_remarks(remarks)


def upload(today: date, force: bool) -> None:
    """Replace Clever's Sections.csv with the new one. Raises Failure."""
    host, port = clever_address()
    key = host_key(host, port)
    name = TEMPORARY.name
    ids_are_checked = False
    left_open: list[paramiko.SFTPFile] = []
    attempt = 1
    while True:
        try:
            with connect_to_clever(key) as clever:
                if not ids_are_checked:
                    ids_are_checked = True
                    if not check_ids(clever, left_open, today, force):
                        continue
                remove_temporary(clever)
                send_file(clever, name, pipelined=attempt == 1)
                if name == OUTPUT.name or rename_temporary(clever):
                    return
            # From now on in place, and on a new connection: the server may have ended this one.
            name = OUTPUT.name
        except Failure:
            raise
        except Exception as error:
            give_up_or_wait(f"uploading to {host}", error, CLEVER, attempt)
            attempt += 1


# ================================================================================================
# The run
# ================================================================================================


def run(options: argparse.Namespace) -> None:
    """One night's work. Raises Failure."""
    started = time.monotonic()
    check_variables(options.dry_run)
    lock.take()
    report = export(options.date)
    changes = "first upload"
    if UPLOADED.exists():
        comparison = compare_with_clever(report, options.date)
        if comparison:
            check_losses(comparison, report, options.force)
        changes = str(comparison or "not compared")
    if not report.sections:
        log.info("no school is in session: nothing written, nothing uploaded")
        return
    done = "dry run, not uploaded"
    if not options.dry_run:
        upload(options.date, options.force)
        keep_copies()
        done = "uploaded"
    sections = f"{sum(report.sections.values()):,} sections in {len(report.sections)} schools"
    seconds = time.monotonic() - started
    log.info("%s (%s), %s, %.1f s", sections, changes, done, seconds)


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
        # A Windows editor leaves a carriage return there. Tried, it might lock the account.
        if text[-1].isspace():
            raise Failure(f"{name} ends in a blank or a line end. Remove it", status=2)
    if not dry_run:
        clever_address()


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
            raise failure(f"locking {LOCK.name}", error) from error
        self.taken = True


lock = Lock()


def keep_copies() -> None:
    """Keep what was uploaded, and the last other file before it. Raises Failure."""
    try:
        if UPLOADED.exists() and not filecmp.cmp(UPLOADED, OUTPUT, shallow=False):
            replace_with_copy(PREVIOUS, UPLOADED)
        replace_with_copy(UPLOADED, OUTPUT)
    except OSError as error:
        raise failure(f"uploaded, but not copied to {UPLOADED.name}", error) from error


def replace_with_copy(path: Path, source: Path) -> None:
    """Have `path` hold what `source` holds. It is never half written. Raises OSError."""
    try:
        shutil.copyfile(source, TEMPORARY)
        TEMPORARY.replace(path)
    finally:
        TEMPORARY.unlink(missing_ok=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="upload nothing; needs no CLEVER_ variable"
    )
    parser.add_argument(
        "--force", action="store_true", help="upload even if Clever loses many sections"
    )
    parser.add_argument("--date", type=day, default=date.today(), help="run as if on YYYY-MM-DD")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show progress, and up to twenty sections each that are added, removed and changed",
    )
    return parser.parse_args()


def day(text: str) -> date:
    """The day YYYY-MM-DD. Raises ValueError if it is none, or too far off to calculate with."""
    chosen = date.fromisoformat(text)
    try:
        chosen + timedelta(days=TERM_START_OFFSET_DAYS + 1)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    return chosen


def start_logging(verbose: bool) -> None:
    """Log everything to the file, and to the screen what people should see there. Raises Failure.

    What is on the screen of a run without a terminal is mailed by cron: only what is new tonight.
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
    # A log or a screen that cannot be written keeps nothing from being done.
    logging.raiseExceptions = False
    # What paramiko logs, it also raises.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    try:
        file = RotatingFileHandler(
            LOG, maxBytes=1_000_000, backupCount=9, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise failure("opening the log", error) from error
    file.setFormatter(logging.Formatter("%(asctime).19s %(levelname)s %(message)s"))
    log.addHandler(file)


def main() -> int:
    """Run the job for the command line, and return the exit status."""
    options = parse_arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
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
        what = f"{type(error).__name__} {cause(error)}, {place.name}, line {place.lineno}"
        log.error("a bug in this script: %s. Please report this line", what)
        return 1


# ================================================================================================
# When something fails
# ================================================================================================


class Failure(Exception):
    """Why the run ends: its text is the one line that people see, `status` the exit status."""

    def __init__(self, line: str, status: int = 1) -> None:
        super().__init__(line)
        self.status = status


class TookTooLong(Exception):
    """A time limit is over. No TimeoutError, because the libraries catch that themselves."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block if it takes longer than so many seconds."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise TookTooLong("no answer in time")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
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


# Where something can fail, and what to do about what is not in the table below.
POWERSCHOOL = "PowerSchool"
CLEVER = "Clever"
HERE = "here"
WHOM_TO_ASK = {
    POWERSCHOOL: "If it stays, show this line to whoever runs PowerSchool's database",
    CLEVER: "If it stays, show this line to Clever's support",
    HERE: "If it stays, show this line to whoever runs this machine",
}


class Advice(NamedTuple):
    """What to do about what a library says."""

    words: str  # a pattern for what it says
    advice: str
    places: tuple[str, ...] = (POWERSCHOOL, CLEVER)
    is_final: bool = False  # trying again cannot mend it, or may lock an account


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
        r"^Authentication failed\.$|Bad authentication type",
        "Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD",
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
        "ORA-12660|DPY-3001|DPY-5016",
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
        is_final=True,
    ),
    Advice(
        "DPY-(2049|2059|3029|4000|4017|4018|4021|4022|4026|4027|4028|4030|4032|4038)",
        "Write {address} as host:1521/service",
        is_final=True,
    ),
    Advice(
        "DPY-6001|DPY-6003|ORA-12504|ORA-12505|ORA-12514",
        "Check the service's name at the end of {address}; if it is right, the database is down",
    ),
    Advice(
        "ORA-01033|ORA-01034|ORA-01035|ORA-01089|ORA-12528|ORA-12518|ORA-12520",
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
        "Errno -[0-9]|Name or service not known|name resolution|nodename nor servname|codec",
        "Check the host's name in {address}, and this machine's DNS",
    ),
    Advice(
        "Connection refused",
        "Check host and port in {address}; if they are right, the server is down",
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
        "Let the user who runs the job write to it and to its folder: chown gives him what "
        "another user's run has left there",
        places=(HERE,),
    ),
    Advice("Is a directory", "Remove or rename that folder", places=(HERE,)),
    Advice(
        "known_hosts.*No such file|No such file.*known_hosts",
        "Fetch Clever's host key as the README says",
        places=(HERE,),
    ),
]


def advice(error: object, place: str) -> tuple[str, bool]:
    """What to do about an error, and whether it is final."""
    for known in ADVICE:
        if place in known.places and re.search(known.words, words(error)):
            return known.advice.format(address=ADDRESS[place]), known.is_final
    return WHOM_TO_ASK[place], False


def words(error: object) -> str:
    """What a library says of its error; for no words, the name of the error."""
    if isinstance(error, pysftp.ConnectionException):
        error = error.__context__  # pysftp's own error has no words
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__


def cause(error: object) -> str:
    """What a library says of its error: on one line, and without secrets."""
    text = words(error)
    if text.startswith("DPY-") and MAY_HOLD_PASSWORD.search(POWERSCHOOL_PROD_DB):
        # The driver may quote the connect string.
        return f"{text[:8]} (POWERSCHOOL_PROD_DB may hold a password, so no more is shown)"
    for secret in (POWERSCHOOL_DB_PASSWORD, CLEVER_SFTP_PASSWORD):
        # A shorter one could be a part of any word.
        if len(secret) >= 8:
            text = text.replace(secret, "*****")
    text = re.sub(r"\s*Help: https?://\S+", "", text)  # a link to the driver's manual
    return clean(text).rstrip(".: ")


MAY_HOLD_PASSWORD = re.compile(r"@|password|^(?!\w+://).*/.*/", re.IGNORECASE)


def failure(doing: str, error: BaseException, place: str = HERE) -> Failure:
    """What was being done, the cause in the library's words, and what to do about it."""
    what_to_do, _ = advice(error, place)
    return Failure(f"{doing}: {cause(error)}. {what_to_do}")


def is_final(error: BaseException, place: str) -> bool:
    """Whether trying again cannot mend an error, or may lock an account."""
    _, final = advice(error, place)
    return final


def give_up_or_wait(doing: str, error: Exception, place: str, attempt: int) -> None:
    """After a failed attempt, wait for the next one. Raises Failure if there is to be none."""
    failed = failure(doing, error, place)
    if is_final(error, place) or attempt >= CONNECT_ATTEMPTS:
        raise failed from error
    log.info("attempt %d: %s", attempt, failed)
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
