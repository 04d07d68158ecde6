#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["oracledb~=26.1", "pysftp==0.2.9", "paramiko~=5.1"]
# ///
"""Send PowerSchool's class sections to Clever, every night.

  1 read    PowerSchool's schools, terms, sections and staff
  2 write   Sections.csv, for a person to look at
  3 look    at what Clever has
  4 check   what Clever would lose or refuse; stop if it is too much
  5 upload  to a temporary name, then rename: Clever has the old file or the new
  6 tell    keep copies, and say what was done

environment variables:
  POWERSCHOOL_READ_USER, POWERSCHOOL_DB_PASSWORD, POWERSCHOOL_PROD_DB
  CLEVER_SFTP_USERNAME, CLEVER_SFTP_PASSWORD, CLEVER_SFTP_ADDRESS
  CLEVER_SECTIONS_FOLDER: where its files are; by default beside the script
files:
  known_hosts, Sections.csv, Sections.changes.csv, Sections.uploaded.csv,
  Sections.previous.csv, clever_sections.log, clever_sections.lock
exit status:
  0 all is well, also in summer; 1 the run failed: the last line says why;
  2 an option, variable or setting is wrong;
  129 the terminal was closed; 130 Ctrl-C; 143 SIGTERM
"""

import sys

if sys.version_info < (3, 10):
    sys.exit(f"ERROR this needs Python 3.10 or newer, and this is {sys.version.split()[0]}")

try:
    import fcntl
except ImportError:
    sys.exit("ERROR this runs on Linux and macOS; on Windows, in WSL")

import argparse
import csv
import io
import logging
import os
import re
import resource
import signal
import socket
import stat
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict, namedtuple
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from itertools import combinations, groupby, islice, zip_longest
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

try:
    import oracledb
    import paramiko

    # pysftp imports DSSKey, for keys that are not used here; paramiko has dropped it.
    paramiko.DSSKey = None  # type: ignore[attr-defined]
    import pysftp
except Exception as error:
    said = " ".join(str(error).split()) or type(error).__name__
    again = "python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt"
    sys.exit(f"ERROR {said}. Start the job with .venv/bin/python, or set that up again: {again}")

VERSION = "3.0"

# ==== Settings: what a district changes ===========================================================
# What is written `NAME: form = value` is a setting; check_settings() tests that it has this form.

OUTPUT_FILE_NAME: str = "Sections.csv"  # here and in Clever
TABLE_OWNER: str = ""  # whose tables to read, such as "ps", if the account has no synonyms for them

# Clever's subjects, as Clever spells them. A credit type of such a name needs no other entry.
VALID_SUBJECTS: list[str] = [
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
SUBJECT_MAP: dict[str, str] = {
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
COURSE_SUBJECTS: dict[str, str] = {}  # of single courses, such as {"ROBO1": "Science"}; it wins

# The letters in an expression are days of the schedule's cycle. True leaves them out: 3(A) becomes
# 3, but 1(A) 2(B) and 1(B) 2(A) both become 1 2. False if A and B days hold different classes.
STRIP_TRACK_INFO: bool = True
PERIOD_COLUMN: str = "expression"  # or "external_expression", the period as people see it
# Grade levels that have a name of their own in Clever. PowerSchool has 0 for kindergarten, but also
# where nobody set a level, so it is left blank here. If yours are all set, this could be
# {-1: "PreKindergarten", 0: "Kindergarten", 14: "PostGraduate"}.
GRADE_NAMES: dict[int, str] = {0: ""}
PRESCHOOL_GRADE: str = "Preschool"  # any other grade level below 0
# Numbers of schools that teach grades 10 to 12 though their high_grade does not say so: {300, 310}.
HIGH_SCHOOL_IDS: set[int] = set()
TEACHER_ID_COLUMN: str = "users_dcid"  # Teacher_id of your teachers file; or "teachernumber"
MAX_STAFF: int = 10  # the most staff that Clever takes for a section

# A coming school year is sent from so many days before it starts. A school without a year that is
# under way keeps its last one until so many days after its end.
TERM_START_OFFSET_DAYS: int = 0
TERM_END_OFFSET_DAYS: int = 90

IGNORED_SCHOOLS: set[int] = set()  # numbers of schools to leave out, such as {800, 999999}
INCLUDED_SCHOOLS: set[int] = set()  # to send though they are excluded from state reporting
IGNORED_COURSES: set[str] = set()  # numbers of courses to leave out, such as {"LUNCH", "DUTY"}
IGNORED_ROLES: set[str] = set()  # of staff to leave out, such as {"Class Observer", "Aide"}

# True leaves out staff who are inactive or not assigned today. Dates alone never leave a section
# without a lead teacher, and if nobody is left, those stay who were assigned last.
IGNORE_FORMER_STAFF: bool = True
IGNORE_ZERO_ENROLLMENT_SECTIONS: bool = False  # True leaves out sections without students
IGNORE_TEACHERS_WITHOUT_EMAILS: bool = False  # True leaves out staff without an e-mail address
IGNORE_SECTIONS_WITH_NO_TEACHERS: bool = False  # True leaves out what Clever refuses anyway

# The share of its sections that Clever may lose in a night, or refuse, without --force; it may
# always lose two. Clever itself pauses a sync that would delete more than a tenth.
MAX_LOST: float = 0.10

CONNECT_TIMEOUT_SECONDS: float = 20  # for a log-in, and for each answer of Clever's
QUERY_TIMEOUT_SECONDS: float = 300  # for each answer of the database
TRY_TIMEOUT_MINUTES: float = 15  # for all of a try: to read PowerSchool, look at Clever, upload
CONNECT_ATTEMPTS: int = 3  # how often each of these is tried
RETRY_DELAY_SECONDS: float = 10  # the wait between two tries


def variable(name: str) -> str:
    """A variable of the environment, in UTF-8 whatever this machine's language; "" for none."""
    return os.environb.get(name.encode(), b"").decode(errors="surrogateescape").strip()


# From the environment, so that they are in no file that is copied around with this script.
POWERSCHOOL_READ_USER = variable("POWERSCHOOL_READ_USER")
POWERSCHOOL_DB_PASSWORD = variable("POWERSCHOOL_DB_PASSWORD")
POWERSCHOOL_PROD_DB = variable("POWERSCHOOL_PROD_DB")
CLEVER_SFTP_USERNAME = variable("CLEVER_SFTP_USERNAME")
CLEVER_SFTP_PASSWORD = variable("CLEVER_SFTP_PASSWORD")
CLEVER_SFTP_ADDRESS = variable("CLEVER_SFTP_ADDRESS")

# From here on, there is nothing that a district changes.
FOLDER = Path(variable("CLEVER_SECTIONS_FOLDER") or Path(__file__).parent).resolve()
OUTPUT = FOLDER / str(OUTPUT_FILE_NAME)  # what the last run read from PowerSchool
CHANGES = FOLDER / f"{OUTPUT.stem}.changes.csv"  # what that changes in Clever, value by value
UPLOADED = FOLDER / f"{OUTPUT.stem}.uploaded.csv"  # a copy of the last upload
PREVIOUS = FOLDER / f"{OUTPUT.stem}.previous.csv"  # what Clever had before that, to put it back
KNOWN_HOSTS = FOLDER / "known_hosts"  # Clever's host key: the password goes to no other server
LOG = FOLDER / "clever_sections.log"  # what every run did
LOCK = FOLDER / "clever_sections.lock"  # keeps two runs from working at once
TEMPORARY = f"{OUTPUT.name}.tmp"  # the name in Clever under which a file is sent
log = logging.getLogger("clever_sections")

# What stays open until this process ends. Python would close it as soon as nobody uses it, but a
# silent database may never let itself be closed, and to close a file stores it again in Clever.
KEPT = list[object]()  # `KEPT: list[object] = []` would be a setting


# ==== When something fails: each error becomes one line for a person ==============================


class Failure(Exception):
    """Why a step, or the run, ends: its text is the one line that people see."""

    def __init__(self, line: str, is_final: bool = True, status: int = 1) -> None:
        """A line, which may come from anywhere: it is put on one line here."""
        super().__init__(clean(line))
        self.is_final = is_final  # trying again cannot help
        self.status = status  # the exit status


class Refused(Failure):
    """The server has answered, and does not do it: the connection can still be used."""


# Where a step can fail. The patterns of advice, at the end of this file, may begin with it.
POWERSCHOOL = "POWERSCHOOL_PROD_DB"
CLEVER = "CLEVER_SFTP_ADDRESS"
KEYS = "known_hosts"
HERE = "CLEVER_SECTIONS_FOLDER"
BROKEN = "the connection broke"


@contextmanager
def step(doing: str, place: str) -> Iterator[None]:
    """Turn what a library raises in the block into a Failure: only there, so a bug stays a bug."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        # It is an answer if paramiko raises OSError, or ValueError for words that are not UTF-8. A
        # time-out and a broken connection are OSErrors as well, but no answers.
        no_answer = isinstance(error, (TimeoutError, ConnectionError)) or words(error) == BROKEN
        is_answer = isinstance(error, (OSError, ValueError)) and not no_answer
        what_to_do, is_final = advice(error, place)
        line = f"{doing}: {cause(error)}. {what_to_do}"
        raise (Refused if is_answer else Failure)(line, is_final) from error


def words(error: object) -> str:
    """What a library says of its error, in words for a person where it has none."""
    text = str(error)
    if isinstance(error, EOFError) or text == "Socket is closed":
        return BROKEN
    if isinstance(error, OSError) and text in ("", "Failure"):  # all that an SFTP server may say
        return "no answer in time" if isinstance(error, TimeoutError) else "refused without a word"
    return text or type(error).__name__


def advice(error: object, place: str) -> tuple[str, bool]:
    """What to do about an error, by the first pattern that fits, and whether it is final."""
    text = f"{place} {type(error).__name__}: {words(error)}"
    table = FINAL_ADVICE | ADVICE
    pattern = next(pattern for pattern in table if re.search(pattern, text, re.DOTALL))
    return table[pattern].format(address=place), pattern in FINAL_ADVICE


def cause(error: object) -> str:
    """What a library says of its error: on one line, not too long, and without secrets."""
    text = words(error)
    if text.startswith("DPY-"):
        # The driver may quote the connect string, in which people may have put a password, as in
        # `DPY-4018: cannot parse connect string "..."`. In that there may be quotes, and colons: so
        # all between the outer quotes goes, and what stands after a second colon.
        if re.match(CONNECT_STRING_CODES, text):
            text = ": ".join(re.sub('".*"', '"..."', text, flags=re.DOTALL).split(": ")[:2])
        text = re.sub('"[^"]*"', '"..."', text)
    for secret in (POWERSCHOOL_DB_PASSWORD, CLEVER_SFTP_PASSWORD):
        # No library quotes a password, but a server might. A short one could be part of any word.
        if len(secret) >= 8:
            text = text.replace(secret, "*****")
    text = clean(text[:5000].split("Help: http")[0]).rstrip(".: ")  # without a link to a manual
    return text if len(text) <= 1000 else f"{text[:1000]} ..."


@contextmanager
def time_limit(seconds: float, doing: str, what_to_do: str) -> Iterator[None]:
    """End the block with a Failure after these seconds. A limit around it waits meanwhile."""
    too_late = Failure(f"{doing}: no end within {seconds:g} seconds. {what_to_do}", is_final=False)
    is_over = False

    def ring(number: int, frame: object) -> NoReturn:
        """Handle SIGALRM."""
        nonlocal is_over
        is_over = True
        raise too_late

    # Each second from then on, as a library may be busy. What is left of the outer limit is kept.
    outer_timer = signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    outer_ring = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    except Exception:
        if is_over:
            raise too_late from None  # whatever a library has made of it
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # 0 turns it off
        signal.signal(signal.SIGALRM, outer_ring)
        signal.setitimer(signal.ITIMER_REAL, *outer_timer)


def trying(doing: str, attempt: Callable[[], Any]) -> Any:
    """The result of an attempt, which is made again after a Failure that may pass."""
    for number in range(1, CONNECT_ATTEMPTS + 1):
        try:
            with time_limit(TRY_TIMEOUT_MINUTES * 60, doing, TRY_IS_SLOW):
                return attempt()
        except Failure as failure:
            if failure.is_final or number == CONNECT_ATTEMPTS:
                raise
            log.info("attempt %d: %s", number, failure)
        time.sleep(RETRY_DELAY_SECONDS)


@lru_cache(maxsize=10_000)
def clean(value: object) -> str:
    """Any value as text on one line, without control characters; "" for None."""
    text = "" if value is None else str(value)
    if not text.isprintable():
        text = re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)
    return " ".join(text.split())


# ==== The night in six steps ======================================================================


def run(options: argparse.Namespace) -> None:
    """One night's work. Raises Failure."""
    started = time.monotonic()
    check_settings()
    check_variables(options.dry_run)
    lock_folder()
    # 1 read
    district: District = trying("reading PowerSchool", lambda: read_powerschool(options.date))
    check_district(district)
    if not district.in_session:
        check_summer(last_upload(district), options.date)  # Clever is not asked
        return
    # 2 write
    last_file = bytes_of(OUTPUT)  # if Clever has this one, it is ours, though no copy was kept
    content = csv_bytes(columns(), (section.row() for section in district.sections.values()))
    write(OUTPUT, content)
    # 3 look
    if CLEVER_SFTP_ADDRESS:
        # What errors begin with: to look is a part of uploading.
        doing = f"{'looking at' if options.dry_run else 'uploading to'} {clever_server()[0]}"
        found: Found = trying(doing, lambda: look(doing))
        before = read_before(found, last_file, district, options.force)
        district.schools = found.ids.get("School_id", {}) | district.schools  # for names in the log
    else:  # only in a dry run, as check_variables() has it
        log.info("not looked at Clever: no CLEVER_ variable is set")
        found = Found()
        before = last_upload(district)
    changes = list(changes_between(before, district))
    tell_changes(changes, before, district)
    # 4 check
    check(before, district, found.ids, options)
    warn_of_big_change(changes, before)
    # 5 upload, 6 tell
    if not options.dry_run:  # so there is an address
        log.info("uploading %.1f MB", len(content) / 1_000_000)
        trying(doing, lambda: upload(doing, content, found.state))
        keep_copies(content, found.content)
    sections = count(len(district.sections), "section")
    schools = count(len(district.in_session), "school")
    compared = summary(changes) if before.sections else before.source
    done = "dry run, not uploaded" if options.dry_run else "uploaded"
    log.info(f"{sections} in {schools} ({compared}), {done}, {time.monotonic() - started:.1f} s")


# ==== 1 read: what is asked of PowerSchool ========================================================

SCHOOLS_SQL = """
    SELECT school_number, name, high_grade, state_excludefromreporting
    FROM schools ORDER BY school_number
"""
COURSES_SQL = """
    SELECT course_number, course_name, credittype FROM courses ORDER BY course_number, course_name
"""
ROLES_SQL = "SELECT id, name, rolekey FROM roledef"
# A person has a row for each of his schools, with that school's status: 1 is active.
TEACHERS_SQL = f"""
    SELECT id, schoolid, {TEACHER_ID_COLUMN} AS teacher_id, email_addr, status
    FROM teachers ORDER BY id, schoolid, {TEACHER_ID_COLUMN}
"""
# The terms of a school that may matter; isyearrec is 1 for the record of the whole year, which may
# have the id of another term, and then comes after it, so that it counts.
# A date before the year 1 is none, and Python could not hold it.
TERMS_SQL = """
    SELECT id, yearid, abbreviation, isyearrec,
        CASE WHEN firstday >= :first_date THEN firstday END AS firstday,
        CASE WHEN lastday >= :first_date THEN lastday END AS lastday
    FROM terms
    WHERE schoolid = :school AND yearid >= :first_year
    ORDER BY yearid, id, COALESCE(isyearrec, 0)
"""
# cc keeps a student's row: if he dropped the section, with a negative sectionid; if he had it in
# another term, with that termid.
ONLY_WITH_STUDENTS = "AND EXISTS (SELECT 1 FROM cc WHERE sectionid = s.id AND termid = s.termid)"
# A term's sections, each with one row for each of its staff; one without staff has one row, too.
# The order must be the same every night: Clever names a class after its course and first teacher.
SECTIONS_SQL = f"""
    SELECT s.id, s.course_number, s.section_number, s.{PERIOD_COLUMN} AS expression, s.grade_level,
        st.teacherid, st.roleid,
        CASE WHEN st.start_date >= :first_date THEN st.start_date END AS start_date,
        CASE WHEN st.end_date >= :first_date THEN st.end_date END AS end_date
    FROM sections s
    LEFT JOIN sectionteacher st ON st.sectionid = s.id
    WHERE s.schoolid = :school AND s.termid = :term
    {ONLY_WITH_STUDENTS if IGNORE_ZERO_ENROLLMENT_SECTIONS else ""}
    ORDER BY s.id, st.roleid, st.id, s.section_number
"""

# Districts number and name their roles as they like, but the lead teacher's has this rolekey.
LEAD_TEACHER = "com.pearson.powerschool.coteach.primary.teacher"

TOO_MANY_STAFF = "more staff than MAX_STAFF"  # a remark

# A row of a query: row.school_number, row.name and so on, as the query names its columns.
Row = Any
Findings = dict[str, list["Section"]]  # sections by what is wrong with them


class Section(NamedTuple):
    """A section as Clever gets it: a row of Sections.csv."""

    school_id: str
    section_id: str
    staff: tuple[str, ...]  # their Teacher_ids, at most MAX_STAFF
    course_name: str
    course_number: str
    section_number: str
    period: str
    subject: str
    grade: str
    term_start: str
    term_end: str
    term_name: str

    def row(self) -> list[str]:
        """A value for each of columns()."""
        school_id, section_id, staff, *others = self
        return [school_id, section_id, *staff, *[""] * (MAX_STAFF - len(staff)), *others]


@cache
def columns() -> list[str]:
    """The header of Sections.csv."""
    staff = ["Teacher_id", *(f"Teacher_{number}_id" for number in range(2, MAX_STAFF + 1))]
    return ["School_id", "Section_id", *staff, *(name.capitalize() for name in Section._fields[3:])]


class Term(NamedTuple):
    """A term as Clever gets it."""

    id: int  # unique within its school only
    name: str  # such as "S1 26-27"
    first_day: date
    last_day: date
    start: str  # these two days as MM/DD/YYYY
    end: str


class Member(NamedTuple):
    """Somebody who is assigned to a section, at some time."""

    teacher_id: str
    is_lead: bool
    is_active: bool
    start: date
    end: date


@dataclass
class District:
    """What a night's reading found."""

    schools: dict[str, str] = field(default_factory=dict)  # School_id: name
    in_session: set[str] = field(default_factory=set)  # School_id of those with a year to send
    sections: dict[str, Section] = field(default_factory=dict)  # by Section_id
    remarks: Findings = field(default_factory=lambda: defaultdict(list))  # what a person could fix


def read_powerschool(today: date) -> District:
    """Read all schools, their terms, and the sections and staff of these. Raises Failure."""
    log.info("reading PowerSchool")
    district = District()
    powerschool = PowerSchool()
    schools = powerschool.schools_to_send()
    for position, (number, school) in enumerate(schools.items(), start=1):
        district.schools[number] = clean(school.name)
        sections_before = len(district.sections)
        terms = powerschool.terms_to_send(school, today)
        for term in terms:
            for rows in powerschool.sections_of(school, term):
                members = [one for row in rows for one in powerschool.members_of(row, school)]
                staff = staff_to_send(members, term, today)
                course = powerschool.courses.get(key(rows[0].course_number))
                section = as_section(school, term, rows[0], course, staff)
                if section.section_id in district.sections:  # PowerSchool may show one twice
                    continue
                if is_among(section.course_number, IGNORED_COURSES):
                    continue
                if IGNORE_SECTIONS_WITH_NO_TEACHERS and not staff:
                    continue
                district.sections[section.section_id] = section
                for remark in remarks_on(section, rows[0], course, staff):
                    district.remarks[remark].append(section)
        if terms:
            district.in_session.add(number)
        added = count(len(district.sections) - sections_before, "section")
        name = f"school {position} of {len(schools)}: {number} {district.schools[number]}"
        log.info("%s, %s, %s", name, count(len(terms), "term"), added)
    with suppress(Failure), time_limit(5, "logging off", ""), step("logging off", POWERSCHOOL):
        powerschool.db.close()
    return district


class PowerSchool:
    """PowerSchool's database, and what is read of it once. Each method raises Failure."""

    def __init__(self) -> None:
        """Log in, and read the courses, roles and teachers of all schools."""
        doing = "connecting to PowerSchool"
        # The driver bounds only parts of a log-in; this limit is for all of it.
        with time_limit(CONNECT_TIMEOUT_SECONDS, doing, LOG_IN_IS_SLOW), step(doing, POWERSCHOOL):
            self.db = oracledb.connect(
                user=POWERSCHOOL_READ_USER,
                password=POWERSCHOOL_DB_PASSWORD,
                dsn=POWERSCHOOL_PROD_DB,
                # A host may have several addresses: a silent one leaves time for another.
                tcp_connect_timeout=CONNECT_TIMEOUT_SECONDS / 4,
            )
        KEPT.append(self.db)
        self.db.call_timeout = int(QUERY_TIMEOUT_SECONDS * 1000)
        self.db.outputtypehandler = replace_undecodable
        if self.db.warning:
            what_to_do, _ = advice(self.db.warning, POWERSCHOOL)
            log.warning("PowerSchool says: %s. %s", cause(self.db.warning), what_to_do)
        with step("reading PowerSchool", POWERSCHOOL):
            if TABLE_OWNER:
                self.db.current_schema = TABLE_OWNER
            # All queries see the database as of now, whatever is changed meanwhile.
            self.db.cursor().execute("SET TRANSACTION READ ONLY")
        self.courses: dict[str, Row] = {}  # by the key of their course number
        for row in self.query("courses", COURSES_SQL):
            self.courses.setdefault(key(row.course_number), row)
        self.roles = {row.id: row for row in self.query("roles", ROLES_SQL)}
        self.teachers: dict[int, list[Row]] = defaultdict(list)  # by id; two people may have one
        self.active: set[str] = set()  # Teacher_id of those who are active at any school
        for row in self.query("teachers", TEACHERS_SQL):
            self.teachers[row.id].append(row)
            if row.status in (1, None):  # one without a status counts as active
                self.active.add(clean(row.teacher_id))

    def query(self, what: str, sql: str, **binds: object) -> Iterator[Row]:
        """The rows of a query, as they arrive. A Failure says `what` was read."""
        if ":first_date" in sql:
            binds["first_date"] = datetime(1, 1, 1)
        with step(f"reading the {what}", POWERSCHOOL):
            cursor = self.db.cursor()
            cursor.prefetchrows = cursor.arraysize = 50_000  # rows in one round trip
            cursor.execute(sql, binds)
            names = [column.name.lower() for column in cursor.description or []]
            cursor.rowfactory = namedtuple("row", names)  # type: ignore[misc]
            yield from cursor

    def schools_to_send(self) -> dict[str, Row]:
        """The rows of the schools to send, by school number."""
        rows = {clean(row.school_number): row for row in self.query("schools", SCHOOLS_SQL)}
        log_unknown_names(rows, "IGNORED_SCHOOLS", "INCLUDED_SCHOOLS", "HIGH_SCHOOL_IDS")
        log_unknown_names(self.courses, "IGNORED_COURSES", "COURSE_SUBJECTS")
        log_unknown_names((role.name for role in self.roles.values()), "IGNORED_ROLES")
        return {
            number: row
            for number, row in rows.items()
            if not is_among(number, IGNORED_SCHOOLS)
            and (not row.state_excludefromreporting or is_among(number, INCLUDED_SCHOOLS))
        }

    def terms_to_send(self, school: Row, today: date) -> list[Term]:
        """The terms of every year of a school that is to be sent.

        Every year that is under way is sent, and a coming one from TERM_START_OFFSET_DAYS before it
        starts. If there is none, the last one stays, until TERM_END_OFFSET_DAYS after its end.
        """
        number = clean(school.school_number)
        starts_by = today + timedelta(days=TERM_START_OFFSET_DAYS)
        ends_from = today - timedelta(days=TERM_END_OFFSET_DAYS)
        # A yearid is the calendar year in which the school year starts, less 1990. One that ends on
        # ends_from may have started the calendar year before.
        binds = {"school": school.school_number, "first_year": ends_from.year - 1 - 1990}
        rows = self.query(f"terms of school {number}", TERMS_SQL, **binds)
        to_send: list[Term] = []
        over: list[tuple[date, list[Term]]] = []  # the years that have ended, each with its end
        for yearid, year in groupby(rows, key=lambda row: row.yearid):
            # Of two rows with one id the last counts: the year's record.
            terms = terms_of(number, int(yearid) + 1990, {row.id: row for row in year}.values())
            if not terms:
                log.info("school %s, yearid %s: no date, so it is left out", number, yearid)
                continue
            # A year runs from the first day of its first term to the last day of its last one.
            end = max(term.last_day for term in terms)
            if today <= end and min(term.first_day for term in terms) <= starts_by:
                to_send += terms
            elif ends_from <= end < today:
                over.append((end, terms))
        return to_send or max(over, default=(today, []))[1]

    def sections_of(self, school: Row, term: Term) -> Iterator[list[Row]]:
        """The rows of each section of a term, one for each of its staff."""
        what = f"sections of school {clean(school.school_number)}, term {term.id}"
        rows = self.query(what, SECTIONS_SQL, school=school.school_number, term=term.id)
        for _, rows_of_one in groupby(rows, key=lambda row: row.id):
            yield list(rows_of_one)

    def members_of(self, row: Row, school: Row) -> list[Member]:
        """Who is meant by a section's row: as a rule one person, or nobody if settings say so."""
        role = self.roles.get(row.roleid)
        if role and is_among(role.name, IGNORED_ROLES):
            return []
        people = self.teachers.get(row.teacherid, [])
        # Of people with the same id, those of the section's school count; else all of them.
        of_this_school = [person for person in people if person.schoolid == school.school_number]
        return [
            Member(
                teacher_id=clean(person.teacher_id),
                is_lead=bool(role and role.rolekey == LEAD_TEACHER),
                is_active=clean(person.teacher_id) in self.active,
                start=row.start_date.date() if row.start_date else date.min,
                end=row.end_date.date() if row.end_date else date.max,
            )
            for person in of_this_school or people
            if clean(person.teacher_id)
            and (clean(person.email_addr) or not IGNORE_TEACHERS_WITHOUT_EMAILS)
        ]


def replace_undecodable(cursor: oracledb.Cursor, column: oracledb.FetchInfo) -> oracledb.Var | None:
    """Have the driver put a replacement character for bytes that are not text, not an error."""
    if column.type_code != oracledb.STRING:
        return None
    return cursor.var(column.type_code, arraysize=cursor.arraysize, encoding_errors="replace")


def log_unknown_names(there: Iterable[object], *settings: str) -> None:
    """Log what settings name and PowerSchool does not have: a typo, or a forgotten comma."""
    known = {key(name) for name in there}
    for setting in settings:
        for name in globals()[setting]:
            if key(name) not in known:
                log.info("%s: nothing is called %s", setting, clean(name))


@cache
def key(name: object) -> str:
    """A name without what people write differently: blanks around it, and upper or lower case."""
    return clean(name).casefold()


def is_among(name: object, names: Iterable[object]) -> bool:
    """Whether a name is among those of a setting."""
    return key(name) in {key(other) for other in names}


def terms_of(school: str, year: int, rows: Collection[Row]) -> list[Term]:
    """The terms of a school year that starts in a calendar year; [] if they have no date at all."""
    records = [clean(row.abbreviation) for row in rows if row.isyearrec == 1]
    year_name = max(records, default="") or f"{year % 100:02}-{(year + 1) % 100:02}"
    spans = []
    for row in rows:
        what = f"school {school}, term {row.id}"
        spans.append((day_within(row.firstday, year, what), day_within(row.lastday, year, what)))
    days = [day for span in spans for day in span if day]
    if not days:
        return []
    terms = []
    for row, (first_day, last_day) in zip(rows, spans, strict=True):
        name = "Year" if row.isyearrec == 1 else clean(row.abbreviation)
        # A term without dates has those of its year.
        span = (first_day or min(days), last_day or max(days))
        texts = [f"{day:%m/%d/%Y}" for day in span]
        terms.append(Term(row.id, clean(f"{name} {year_name}"), *span, *texts))
    return terms


def day_within(moment: datetime | None, year: int, what: str) -> date | None:
    """The day of a date, if it is in one of the two calendar years that a school year touches."""
    if moment and moment.year in (year, year + 1):
        return moment.date()
    if moment:  # A typing error: a year that ends in 2207 would never end.
        log.info(f"{what}: {moment:%m/%d/%Y} is not in its year, so it counts as no date")
    return None


def as_section(school: Row, term: Term, row: Row, course: Row, staff: list[str]) -> Section:
    """A section as Clever gets it; `course` is None if there is no such course."""
    number = clean(school.school_number)
    highest_grade = 12 if is_among(number, HIGH_SCHOOL_IDS) else school.high_grade or 0
    return Section(
        school_id=number,
        section_id=clean(row.id),
        staff=tuple(staff[:MAX_STAFF]),
        course_name=clean(course.course_name) if course else "",
        course_number=clean(row.course_number),
        section_number=clean(row.section_number),
        period=period(row.expression),
        subject=subject(row.course_number, course.credittype if course else None),
        grade=grade(row.grade_level, highest_grade),
        term_start=term.start,
        term_end=term.end,
        term_name=term.name,
    )


def remarks_on(section: Section, row: Row, course: Row, staff: list[str]) -> list[str]:
    """What a person could fix in a section, in PowerSchool or in the settings."""
    level = row.grade_level
    is_unread = (level or 0) > 0 and not section.grade and level not in GRADE_NAMES
    credit_type = clean(course.credittype) if course else ""
    remarks = {
        "no staff, Clever refuses it": not staff,
        TOO_MANY_STAFF: len(staff) > MAX_STAFF,
        "no such course in PowerSchool": not course,
        f"no subject for credit type {credit_type}": credit_type and not section.subject,
        f"grade {level} cannot be read": is_unread,
        "a character that cannot be read": "\N{REPLACEMENT CHARACTER}" in "".join(section.row()),
    }
    return [remark for remark, is_so in remarks.items() if is_so]


@cache
def period(expression: str | None) -> str:
    """The Period for a section's expression: "3(A)" gives "3", "1(A),3(B) 1(C)" gives "1 3"."""
    if not STRIP_TRACK_INFO:
        return clean(expression)
    # In brackets, as "3(A)" or "3(A", are days of the cycle.
    meetings = re.split(r"\([^)]*\)*|,", clean(expression))
    # Without these, the same period may stand twice.
    return clean(" ".join(dict.fromkeys(clean(meeting) for meeting in meetings)))


# A section for several grades has them in one number: 23 is grades 2 and 3, 345 is 3 to 5. This is
# each such number, with the range that Clever gets for it: 2-3, 3-5, and 9-12 for 912.
GRADE_RANGES = {
    int("".join(map(str, grades))): f"{grades[0]}-{grades[-1]}"
    for size in range(2, 13)
    for grades in combinations(range(1, 13), size)
}


@cache
def grade(level: int | None, highest: int) -> str:
    """The Grade for a section's grade_level, in a school with this highest grade; "" for none."""
    if level in GRADE_NAMES:
        return clean(GRADE_NAMES[level])
    level = level or 0
    if level < 0:
        return PRESCHOOL_GRADE
    if level in range(1, 10):
        return str(level)
    # 12 is grade 12 in a high school, and grades 1 and 2 elsewhere. Clever's grades end at 13.
    if level in range(10, 20) and highest >= 10:
        return str(level) if level <= min(highest, 13) else ""
    return GRADE_RANGES.get(level, "")


@cache
def subject(course_number: str | None, credit_type: str | None) -> str:
    """The Subject for a course; "" if its credit type is in no list, and Clever guesses."""
    courses = {key(number): name for number, name in COURSE_SUBJECTS.items()}
    subjects = {key(name): name for name in VALID_SUBJECTS}
    subjects |= {key(other): name for other, name in SUBJECT_MAP.items()}
    return courses.get(key(course_number)) or subjects.get(key(credit_type), "")


def staff_to_send(members: list[Member], term: Term, today: date) -> list[str]:
    """The Teacher_ids of a section's staff, each once, the lead teacher first."""
    members = sorted(members, key=lambda member: not member.is_lead)
    if IGNORE_FORMER_STAFF:
        # For a coming term its first day counts, for a past one its last.
        day = max(term.first_day, min(term.last_day, today))
        active = [member for member in members if member.is_active]
        current = [member for member in active if member.start <= day <= member.end]
        # Dates do not take the lead teacher from a section, nor the last of its staff.
        if not any(member.is_lead for member in current):
            current = latest([member for member in active if member.is_lead]) + current
        members = current or latest(members)
    return list(dict.fromkeys(member.teacher_id for member in members))


def latest(members: list[Member]) -> list[Member]:
    """Those whose assignment ends last; one without an end is the latest of all."""
    last = max((member.end for member in members), default=None)
    return [member for member in members if member.end == last]


def check_district(district: District) -> None:
    """Log what the reading found. Raises Failure if it found nothing, though it should have."""
    what_to_do = "Look at the settings that leave some out, and have the account granted rights to"
    if not district.schools:
        raise Failure(f"PowerSchool shows no school. {what_to_do} all rows of schools")
    if district.in_session and not district.sections:
        raise Failure(f"PowerSchool shows no section. {what_to_do} all rows of sections")
    log_findings(district.remarks)


def log_findings(findings: Findings) -> None:
    """Log what is wrong with sections, naming three; those with too many staff are all named."""
    for what, sections in sorted(findings.items()):
        names = [f"{s.school_id} {s.course_number}.{s.section_number}" for s in sections]
        if len(names) > 3 and what != TOO_MANY_STAFF:
            names[3:] = ["..."]
        log.info("%s: %s (%s)", what, count(len(sections), "section"), ", ".join(names))


def count(number: int, noun: str) -> str:
    """A number of things: "1 section", "2,604 sections"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# ==== 2 write: files on this machine ==============================================================


def csv_bytes(header: Iterable[str], rows: Iterable[Iterable[str]]) -> bytes:
    """A CSV file, in UTF-8."""
    content = io.BytesIO()
    with io.TextIOWrapper(content, "utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        text.flush()
        return content.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, for this user only. Raises Failure."""
    with step(f"writing {path.name}", HERE):
        # A name of this run's own: what another run writes or has left does not matter.
        handle, name = tempfile.mkstemp(".tmp", f"{OUTPUT.stem}.", FOLDER)
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def bytes_of(path: Path) -> bytes | None:
    """What a file holds; None if there is none. Raises Failure."""
    with step(f"reading {path.name}", HERE):
        return path.read_bytes() if path.exists() else None


def lock_folder() -> None:
    """Keep other runs out of this folder until this process ends. Raises Failure if one is in."""
    with step(f"locking {LOCK.name}", HERE):
        file = open(LOCK, "a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = LOCK.read_text().strip() or "just started"
            what_to_do = "Wait for its end; if it is hours old, end it with kill and its number"
            raise Failure(f"another run ({holder}) is at work. {what_to_do}") from error
        KEPT.append(file)
        file.truncate(0)
        since = f"process {os.getpid()}, since {datetime.now():%H:%M on %Y-%m-%d}"
        os.write(file.fileno(), since.encode())  # at once, or not at all
        LOCK.chmod(0o600)
        for leftover in FOLDER.glob(f"{OUTPUT.stem}.*.tmp"):  # of a run that was killed
            leftover.unlink()


# ==== 3 look: what Clever has =====================================================================

MOST_NAMES = 10_000  # a folder in Clever holds a handful of files,
MOST_BYTES = 500_000_000  # of a few MB

State = paramiko.SFTPAttributes | None  # what Clever knows of a file; None if there is none


class Clever(pysftp.Connection):
    """pysftp's connection to Clever, with what it lacks. Each method raises Failure."""

    _transport: paramiko.Transport | None = None  # pysftp calls close() also before it has one

    def __init__(self, doing: str) -> None:
        """Log in; `doing` is what errors begin with."""
        self.doing = doing
        self.entries: dict[str, paramiko.SFTPAttributes] = {}  # of the folder, by name
        # No library bounds a log-in; this limit is for all of it.
        with time_limit(CONNECT_TIMEOUT_SECONDS, f"{doing}: logging in", LOG_IN_IS_SLOW):
            self.log_in()

    def asking(self, what: str) -> AbstractContextManager[None]:
        """Say what was asked of Clever when that fails. Raises Refused or another Failure."""
        return step(f"{self.doing}: {what}", CLEVER)

    def log_in(self) -> None:
        """Connect, send the password, and start an SFTP session."""
        host, port = clever_server()
        options = only_the_known_key(host, port)
        try:
            with self.asking("logging in"):
                account = (CLEVER_SFTP_USERNAME, None, CLEVER_SFTP_PASSWORD)  # no key file
                super().__init__(host, *account, port, cnopts=options)
                if not (self._transport and self._transport.is_authenticated()):
                    raise paramiko.AuthenticationException("the password is not enough")
        except Failure as failure:
            # There is an auth_handler as soon as the password is sent. Then this is final: another
            # try could lock the account. (Silence is tried again: time_limit raises its own.)
            if not (self._transport and self._transport.auth_handler):
                raise
            said = cause(failure.__cause__)
            raise Failure(f"{self.doing}: logging in: {said}. {LOG_IN_REFUSED}") from failure
        with self.asking("logging in"):
            # The limit for each answer. pysftp starts the SFTP session when this is set.
            self.timeout = CONNECT_TIMEOUT_SECONDS

    def _start_transport(self, host: str, port: int) -> None:
        """Connect, when pysftp (its version is pinned) calls this: to any address of the host."""
        connected = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_SECONDS / 4)
        self._transport = transport = paramiko.Transport(connected)
        # paramiko has shorter limits of its own; the one around the whole log-in is to count.
        longer = CONNECT_TIMEOUT_SECONDS + 5
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = longer

    def close(self) -> None:
        """Drop the connection. Saying goodbye could wait for ever, and nothing depends on it."""
        if self._transport:
            self._transport.close()

    def list_folder(self) -> None:
        """Note which files are in the folder, if Clever tells."""
        try:
            with self.asking("listing the folder"):
                found = islice(self.sftp_client.listdir_iter(read_aheads=5), MOST_NAMES)
                self.entries = {entry.filename: entry for entry in found}
        except Refused as refusal:
            log.info("Clever's folder cannot be listed: %s", cause(refusal.__cause__))

    def state(self, name: str) -> State:
        """What Clever knows of a file, by the list of the folder if there is one, not cut off."""
        if name in self.entries or 0 < len(self.entries) < MOST_NAMES:
            return self.entries.get(name)
        # This is not exact: asked for Sections.csv, Clever may tell of Sections.csv.tmp.
        with self.asking(f"looking at {name}"):
            try:
                return self.stat(name)
            except FileNotFoundError:
                return None

    def read(self, name: str, state: paramiko.SFTPAttributes) -> bytes:
        """What a file holds, of the size in `state`. Raises Refused if that cannot be had whole.

        Clever's server stores a file again when it is closed, even if it was only read, which could
        undo an upload of another job. So it stays open until the connection is gone.
        """
        size = state.st_size or 0
        kind = stat.S_IFMT(state.st_mode or 0)  # 0 if the server does not tell
        with self.asking(f"reading {name}"):
            if kind not in (0, stat.S_IFREG) or size > MOST_BYTES:
                raise ValueError("it is no file, or too large for one")
            file = self.sftp_client.open(name, "rb")
            KEPT.append(file)
            file.prefetch(size)
            content = file.read(size)
            if len(content) != size:
                raise ValueError("it has not arrived whole")
            return content

    def store(self, name: str, content: bytes) -> None:
        """Store a file, and see that it has arrived. Raises Refused, too."""
        with suppress(Refused), self.asking(f"removing {TEMPORARY}"):  # a leftover, if any
            self.remove(TEMPORARY)
        before = self.state(name)
        with self.asking(f"opening {name}"):
            file = self.sftp_client.open(name, "wb")
        # Clever stores a file when it is closed, even half of one. So after an error it stays open:
        # the connection is dropped, and Clever drops what was open.
        KEPT.append(file)
        with self.asking(f"writing {name}"):
            # Sent without waiting for each answer. paramiko looks at these answers only when a
            # write waits for its own: so the last byte is sent by such a write.
            file.set_pipelined(True)
            file.write(content[:-1])
            file.set_pipelined(False)
            file.write(content[-1:])
        with self.asking(f"storing {name}"):
            file.close()
            # The answer to that would tell whether it is stored, but paramiko discards it.
            if not is_new(self.stat(name), before, content):
                raise OSError("it has not arrived whole")

    def rename_temporary(self) -> Failure | None:
        """Give the new file its name, over the old one; what Clever says if it does not."""
        try:
            with self.asking(f"renaming {TEMPORARY}"):
                self.rename(TEMPORARY, OUTPUT.name)
        except Refused as refusal:
            # Others do that by posix-rename only; over it, Clever's ends the session: no harm.
            with suppress(Failure), self.asking(f"renaming {TEMPORARY}"):
                self.sftp_client.posix_rename(TEMPORARY, OUTPUT.name)
                return None  # done
            return refusal
        except Failure as failure:
            return failure
        return None


def is_new(now: State, old: State, content: bytes) -> bool:
    """Whether a file has the size of `content`, and is not the one that was there before."""
    if now is None or now.st_size != len(content):
        return False
    return old is None or (now.st_size, now.st_mtime) != (old.st_size, old.st_mtime)


def clever_server() -> tuple[str, int]:
    """The host and port that CLEVER_SFTP_ADDRESS names. Raises Failure if it is not an address."""
    form = r"(?:\w+://)?(\[[\w.:]+\]|[\w.-]+)(?::(\d{1,5}))?/?"
    address = re.fullmatch(form, CLEVER_SFTP_ADDRESS)
    # A user name or password that was put into the wrong variable must not be shown.
    if not address or address[1] in (CLEVER_SFTP_USERNAME, CLEVER_SFTP_PASSWORD):
        line = "CLEVER_SFTP_ADDRESS is not an address. Set it to sftp.clever.com or to host:port"
        raise Failure(f"{line}, without a user name, a password or a folder", status=2)
    return address[1].strip("[]").lower(), int(address[2] or 22)


def only_the_known_key(host: str, port: int) -> pysftp.CnOpts:
    """pysftp's options: the server must have the key that known_hosts has; see sshd(8)."""
    with step("reading known_hosts", KEYS):
        known = paramiko.HostKeys(str(KNOWN_HOSTS))
        keys = known.lookup(f"[{host}]:{port}") or known.lookup(host)
        if not keys:
            raise LookupError(f"it has no key of {host}, port {port}")
        options = pysftp.CnOpts(str(KNOWN_HOSTS))  # without a file, it reads ~/.ssh/known_hosts
    # pysftp looks for the host's name without a port, and takes the first key.
    options.hostkeys = paramiko.HostKeys()
    options.hostkeys[host] = dict(keys)
    return options


# The district's other files in Clever's folder, written in upper or lower case: Clever refuses a
# section whose school or lead teacher is not in them.
ID_FILES = {"schools.csv": "School_id", "teachers.csv": "Teacher_id"}
Ids = dict[str, dict[str, str]]  # by column: the ids in these files, each with its School_name


class Found(NamedTuple):
    """What lies in Clever's folder."""

    state: State = None  # of its Sections.csv
    content: bytes | None = None  # of that; None if there is none, or it cannot be read
    why_unread: str = ""  # "" if it was read, or there is none
    ids: Ids = {}


def look(doing: str) -> Found:
    """Log in to Clever, and read what there is. Raises Failure."""
    log.info("looking at what Clever has")
    with Clever(doing) as clever:
        clever.list_folder()
        for name in clever.entries:
            if name != OUTPUT.name and name.lower() == OUTPUT.name.lower():
                log.info("Clever's folder also has %s, and Clever may read either", name)
        ids = {}
        for name, column in ID_FILES.items():
            try:
                ids[column] = ids_in(clever, name, column)
            except (Refused, ValueError) as error:
                why_not = error.__cause__ or error  # damaged: a warning, which cron mails
                level = logging.WARNING if isinstance(why_not, ValueError) else logging.INFO
                log.log(level, "ids are not compared with Clever's %s: %s", name, cause(why_not))
        state = clever.state(OUTPUT.name)
        try:
            content = clever.read(OUTPUT.name, state) if state else None
            return Found(state, content, "", ids)
        except Refused as refusal:
            return Found(state, None, cause(refusal.__cause__), ids)


def ids_in(clever: Clever, file_name: str, column: str) -> dict[str, str]:
    """The ids in a column of a file, with the schools' names. Raises Refused or ValueError."""
    names = [name for name in clever.entries if name.lower() == file_name]
    if not names:
        raise Refused("there is none in the list of the folder")
    return {
        clean(row[column]): clean(row.get("School_name"))
        for name in names
        for row in csv_rows(clever.read(name, clever.entries[name]), column)
    }


def csv_rows(content: bytes, *needed: str) -> Iterator[dict[str, str]]:
    """The rows of a file in any usual form of CSV, by columns that are written as in columns().

    Raises ValueError if it lacks a column that is needed, or has a quote that is never closed.
    """
    csv.field_size_limit(sys.maxsize)
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = io.TextIOWrapper(io.BytesIO(content), encoding, errors="replace")
    lines = (line.replace("\0", "") for line in text)  # which Python 3.10 does not read
    header = next(lines, "")
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    keys = [name.strip().capitalize().replace(" ", "_") for name in names]
    if not set(needed) <= set(keys):
        raise ValueError(f"it has no columns {', '.join(needed)}")
    rows = csv.reader(lines, delimiter=separator, strict=True)
    first_line = 2  # of the next row
    try:
        for row in rows:
            yield dict(zip_longest(keys, row, fillvalue=""))
            first_line = rows.line_num + 2
    except csv.Error:
        line = f"line {first_line} cannot be read: a quote in it is not closed as it should be"
        raise ValueError(line) from None


class Before(NamedTuple):
    """What the new sections are compared with."""

    source: str  # what that is; why there is nothing, if there are no sections
    sections: dict[str, Section] = {}  # by Section_id


def read_before(found: Found, last_file: bytes | None, district: District, force: bool) -> Before:
    """Clever's own sections; if they cannot be read, those of the last upload. Raises Failure."""
    copy = bytes_of(UPLOADED)
    is_ours = found.content in (copy, last_file)  # that, if no copy of the last upload was kept
    if copy is not None and not found.why_unread and not is_ours:
        what_happens = f"The next upload replaces it, and keeps it as {PREVIOUS.name}"
        log.warning(f"somebody else has changed Clever's {OUTPUT.name}. {what_happens}")
    if not found.state:
        return Before("first upload")
    why_not = found.why_unread
    if found.content is not None:
        day = datetime.fromtimestamp(found.state.st_mtime or 0)
        try:
            return read_sections(found.content, f"Clever's {OUTPUT.name} of {day:%b %d}", district)
        except ValueError as error:
            why_not = str(error)
    log.info("Clever's %s cannot be compared: %s", OUTPUT.name, why_not)
    before = last_upload(district)
    if not before.sections and not force:  # only that replaces anything unseen
        line = f"Clever's {OUTPUT.name} cannot be compared ({why_not}), nor a copy of an upload"
        what_to_do = "If the new file is right, run once with --force, which uploads it anyway"
        raise Failure(f"{line}. {what_to_do}")
    return before


def last_upload(district: District) -> Before:
    """The sections of the last upload; none, which is logged, if no copy of it can be read."""
    copy = bytes_of(UPLOADED)
    try:
        if copy is None:
            raise ValueError("there is none")
        return read_sections(copy, UPLOADED.name, district)
    except ValueError as error:
        log.info("nothing is compared: %s: %s", UPLOADED.name, error)
        return Before("not compared")


def read_sections(content: bytes, source: str, district: District) -> Before:
    """The sections in a file. Raises ValueError if it is no sections file."""
    sections: dict[str, Section] = {}
    lacking: set[str] = set()
    for row in csv_rows(content, "School_id", "Section_id", "Teacher_id"):
        section_id = clean(row["Section_id"])
        new = district.sections.get(section_id)
        if not sections:  # the first row tells for all
            lacking = set(columns()) - row.keys()
        if lacking and new:  # it gets the new values there, so that they do not count as changed
            row |= {c: value for c, value in zip(columns(), new.row(), strict=True) if c in lacking}
        school_id, section_id, *others = [clean(row.get(column)) for column in columns()]
        staff = tuple(teacher for teacher in others[:MAX_STAFF] if teacher)
        section = Section(school_id, section_id, staff, *others[MAX_STAFF:])
        if section_id:  # and no blank line; of two with one id, Clever takes the first
            # Most are as they were: of these, memory need not hold a second one.
            sections.setdefault(section_id, new if new == section else section)
    if not sections:
        return Before("first upload")
    log.info("comparing with %s, %s", source, count(len(sections), "section"))
    if lacking:
        log.info("it lacks these columns, which are not compared: %s", ", ".join(sorted(lacking)))
    return Before(source, sections)


class Change(NamedTuple):
    """A section that is added or removed, or one changed value: a row of Sections.changes.csv."""

    kind: str  # added, removed or changed
    school_id: str
    school_name: str
    section_id: str
    course: str
    period: str
    column: str = ""
    before: str = ""
    after: str = ""


def changes_between(before: Before, district: District) -> Iterator[Change]:
    """What an upload would change in Clever, if there is something to compare with."""
    all_sections = before.sections | district.sections if before.sections else {}
    for section_id, section in all_sections.items():
        old = before.sections.get(section_id)
        new = district.sections.get(section_id)
        if old == new:
            continue
        name = district.schools.get(section.school_id, "")
        about = (section.school_id, name, section_id, section.course_name, section.period)
        if not old or not new:
            yield Change("removed" if old else "added", *about)
            continue
        for column, was, becomes in zip(columns(), old.row(), new.row(), strict=True):
            if was != becomes:
                yield Change("changed", *about, column, was, becomes)


def summary(changes: list[Change]) -> str:
    """How much changes, such as "+12, -3, 41 changed: Period 38, Teacher_id 3"."""
    kinds = Counter(kind for kind, _ in {(change.kind, change.section_id) for change in changes})
    values = Counter(change.column for change in changes if change.column)
    counts = f"+{kinds['added']:,}, -{kinds['removed']:,}, {kinds['changed']:,} changed"
    per_column = ", ".join(f"{column} {number:,}" for column, number in values.most_common())
    return f"{counts}: {per_column}" if values else counts


def tell_changes(changes: list[Change], before: Before, district: District) -> None:
    """Write Sections.changes.csv, and log a line for each school that changes."""
    if not before.sections:
        return
    write(CHANGES, csv_bytes(Change._fields, changes))
    was = Counter(section.school_id for section in before.sections.values())
    is_now = Counter(section.school_id for section in district.sections.values())
    by_school: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        by_school[change.school_id].append(change)
    for number in sorted(was.keys() | is_now.keys()):
        if by_school[number] or was[number] != is_now[number]:  # a section may change its school
            name = clean(f"{number} {district.schools.get(number, '')}")
            counts = f"{was[number]:,} -> {count(is_now[number], 'section')}"
            log.info("%s: %s (%s)", name, counts, summary(by_school[number]))


# ==== 4 check: what Clever would lose or refuse ===================================================

# Why Clever would lose or refuse a section, and where to look for the reason.
NOT_THERE = "not in the new file (look at state_excludefromreporting, terms, sections)"
NO_STAFF = "without any of their staff (look at TEACHER_ID_COLUMN, sectionteacher, teachers)"
NO_COURSE = "without their course name (look in PowerSchool at courses)"
NO_SCHOOL = "school not in Clever's schools file (look at IGNORED_SCHOOLS, or the schools file)"
NO_TEACHER = "lead teacher not in Clever's teachers file (look at TEACHER_ID_COLUMN, or that file)"


def check(before: Before, district: District, ids: Ids, options: argparse.Namespace) -> None:
    """Raise Failure if Clever would lose or refuse too many sections, unless that is forced."""
    day = options.date
    old = [section for section in before.sections.values() if lasts(section.term_end, day)]
    new = [section for section in district.sections.values() if lasts(section.term_end, day)]
    losses: Findings = defaultdict(list)
    for section in old:
        losses[why_lost(section, district.sections.get(section.section_id))].append(section)
    refusals: Findings = defaultdict(list)
    for section in new:
        refusals[why_refused(section, ids)].append(section)
    for findings in (losses, refusals):
        findings.pop("", None)  # nothing is wrong with these
    log_findings(refusals)
    if not options.force:
        hold_back("lose", losses, len(old))
        hold_back("refuse", refusals, len(new))
    check_staff(old, new, options.force)
    schools = Counter(section.school_id for section in old)
    for number in sorted(schools.keys() - {section.school_id for section in new}):
        school = clean(f"{number} {district.schools.get(number, '')}")
        lost = count(schools[number], "section")
        what_to_do = f"look in PowerSchool at its terms and exclusion, and put {PREVIOUS.name} back"
        log.warning(f"Clever loses school {school} with its {lost}. If that is wrong, {what_to_do}")


@cache
def lasts(term_end: str, today: date) -> bool:
    """Whether a term has not ended, by its MM/DD/YYYY or YYYY-MM-DD; any other text never ends."""
    for form in ("%m/%d/%Y", "%Y-%m-%d"):
        with suppress(ValueError):
            return datetime.strptime(term_end, form).date() >= today
    return True


def why_lost(old: Section, new: Section | None) -> str:
    """Why Clever would lose one of its sections; "" if it would not."""
    if new is None:
        return NOT_THERE
    # One who stays is enough. If all are others, their ids may be from another column.
    if old.staff and not set(old.staff) & set(new.staff):
        return NO_STAFF
    return NO_COURSE if old.course_name and not new.course_name else ""


def why_refused(new: Section, ids: Ids) -> str:
    """Why Clever would refuse a section for its ids; "" if it would not."""
    if "School_id" in ids and new.school_id not in ids["School_id"]:
        return NO_SCHOOL
    # Those without staff are counted by check_staff().
    if "Teacher_id" in ids and new.staff and new.staff[0] not in ids["Teacher_id"]:
        return NO_TEACHER
    return ""


def hold_back(verb: str, findings: Findings, total: int) -> None:
    """Raise Failure if Clever would lose or refuse too many of the sections."""
    found = [section for sections in findings.values() for section in sections]
    if not are_too_many(found, total):
        return
    reasons = []
    for reason, sections in findings.items():
        schools = Counter(section.school_id for section in sections)
        counts = ", ".join(f"school {school}: {number:,}" for school, number in schools.items())
        reasons.append(f"{len(sections):,} {reason}, {counts}")
    what = f"{verb} {len(found):,} of {total:,} sections that have not ended: {'; '.join(reasons)}"
    file = CHANGES if verb == "lose" else OUTPUT
    what_to_do = f"See {file.name}; if all is right, run once with --force, which uploads it anyway"
    raise Failure(f"Clever would {what}. {what_to_do}")


def are_too_many(sections: Collection[Section], total: int) -> bool:
    """Whether these are more than MAX_LOST of a total, and more than two."""
    return len(sections) > max(2, MAX_LOST * total)


def check_staff(old: list[Section], new: list[Section], force: bool) -> None:
    """Say so if too many sections have no staff, and more than before. Raises Failure if all."""
    without = [section for section in new if not section.staff]
    if new and len(without) == len(new) and not force:
        what_to_do = "Look there at sectionteacher, teachers; --force uploads anyway"
        raise Failure(f"PowerSchool shows no staff for any section. {what_to_do}")
    # That some have none is no reason to stop: before a term, many have none yet.
    before = [section for section in old if not section.staff]
    if are_too_many(without, len(new)) and len(without) > len(before):
        total = count(len(new), "section")
        line = f"{len(without):,} of {total} have no staff, so Clever refuses them"
        log.warning(f"{line}; before, {len(before):,} had none")


def check_summer(before: Before, today: date) -> None:
    """Check that it is summer if no school is in session. Raises Failure."""
    lasting = [section for section in before.sections.values() if lasts(section.term_end, today)]
    if len(lasting) > 2:  # as everywhere, two may be lost
        what = f"no school is in session, yet {len(lasting):,} of Clever's sections have not ended"
        raise Failure(f"{what}. Look at this machine's date, and in PowerSchool at terms")
    log.info("no school is in session: nothing written, nothing uploaded")


def warn_of_big_change(changes: list[Change], before: Before) -> None:
    """Say so if so many sections change that apps hold the sync: more than three quarters."""
    values = Counter(change.column for change in changes if change.column)
    changed = len({change.section_id for change in changes if change.column})
    if changed > 0.75 * len(before.sections):
        [(column, _)] = values.most_common(1)
        total = count(len(before.sections), "section")
        line = f"{changed:,} of Clever's {total} change, most of all in {column}"
        log.warning(f"{line}: apps may hold the sync. Look at {CHANGES.name}, and at the settings")


# ==== 5 upload, 6 tell ============================================================================


def upload(doing: str, content: bytes, old: State) -> None:
    """Replace Clever's Sections.csv; `old` is what was known of it before. Raises Failure."""
    with Clever(doing) as clever:
        clever.store(TEMPORARY, content)
        problem = clever.rename_temporary()
    if not problem:
        return
    # Perhaps only the answer was lost. The list of Clever's folder tells.
    with Clever(doing) as another:
        another.list_folder()
        if is_new(another.entries.get(OUTPUT.name), old, content):
            return
        if not isinstance(problem, Refused):
            raise problem
        log.info("Clever cannot rename, so %s is written in place: %s", OUTPUT.name, problem)
        another.store(OUTPUT.name, content)


def keep_copies(content: bytes, old: bytes | None) -> None:
    """Keep what was uploaded and, if that is different, what Clever had before. Raises Failure."""
    try:
        old = old or bytes_of(UPLOADED)  # if it could not be read, the last upload
        if old not in (None, content):
            write(PREVIOUS, old)
        write(UPLOADED, content)
    except Failure as failure:
        raise Failure(f"uploaded, but {failure}") from failure


# ==== Starting ====================================================================================

# For each form that a setting can have: what to write.
FORMS = {
    str: 'a text without blanks, such as "expression"',
    bool: "True or False",
    int: "a whole number, such as 10",
    float: "a number, such as 20; a share is from 0 to 1, such as 0.1 for 10%",
    set[int]: "numbers in braces, such as {300, 310}; none is set()",
    set[str]: 'texts in braces, such as {"LUNCH", "DUTY"}; none is set()',
    list[str]: 'texts in brackets, such as ["Math", "Science"]',
    dict[str, str]: 'pairs of texts in braces, such as {"Mat": "Math"}; none is {}',
    dict[int, str]: 'numbers and texts in braces, such as {0: "Kindergarten"}; none is {}',
}
MAY_BE_EMPTY = {"TABLE_OWNER", "PRESCHOOL_GRADE"}
MAY_BE_0 = {"MAX_LOST", "RETRY_DELAY_SECONDS", "TERM_START_OFFSET_DAYS", "TERM_END_OFFSET_DAYS"}


def check_settings() -> None:
    """Raise Failure if what is written `NAME: form = value` at the top has another form."""
    for name, form in sys.modules[__name__].__annotations__.items():
        value = globals()[name]
        is_right = has_form(value, form)
        if is_right and form in (str, int, float):
            is_right = bool(value) or name in MAY_BE_0 | MAY_BE_EMPTY
        if is_right and form is str:
            is_right = re.fullmatch(r"(\w[\w.-]*)?", value) is not None
        if is_right and form in (int, float):
            is_right = 0 <= value <= (1 if name == "MAX_LOST" else 86_400)
        if not is_right:
            raise Failure(f"{name} has a wrong form. Write {FORMS[form]}", status=2)


def has_form(value: Any, form: Any) -> bool:
    """Whether a value has a form: {"Mat": "Math"} is a dict[str, str], and 5 an int or a float."""
    kinds = get_args(form)
    if not kinds:
        return type(value) is form or (form is float and type(value) is int)
    if type(value) is not get_origin(form):
        return False
    # A dict has items of two parts, a set or a list of one.
    items = value.items() if isinstance(value, dict) else [(item,) for item in value]
    return all(type(part) is kind for item in items for part, kind in zip(item, kinds, strict=True))


def check_variables(dry_run: bool) -> None:
    """Raise Failure if a variable of the environment is missing or cannot be right."""
    needed = ["POWERSCHOOL_READ_USER", "POWERSCHOOL_DB_PASSWORD", "POWERSCHOOL_PROD_DB"]
    clever = ["CLEVER_SFTP_USERNAME", "CLEVER_SFTP_PASSWORD", "CLEVER_SFTP_ADDRESS"]
    if not dry_run or any(globals()[name] for name in clever):
        needed += clever
    missing = [name for name in needed if not globals()[name]]
    if missing:
        raise Failure(f"missing or empty variables: {', '.join(missing)}", status=2)
    for name in needed:
        if any("\ud800" <= character <= "\udfff" for character in globals()[name]):
            raise Failure(f"{name} is not in UTF-8. Save the file that sets it as UTF-8", status=2)
    if CLEVER_SFTP_ADDRESS:
        clever_server()


def parse_arguments() -> argparse.Namespace:
    """What the command line says: dry_run, force, date and verbose."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    add = parser.add_argument
    add("--dry-run", action="store_true", help="upload nothing; needs no CLEVER_ variable")
    add("--force", action="store_true", help="upload even if Clever loses or refuses many sections")
    add("--date", type=date.fromisoformat, default=date.today(), help="run as if on YYYY-MM-DD")
    add("-v", "--verbose", action="store_true", help="show what a terminal shows, also without one")
    add("--version", action="version", version=f"clever_sections.py {VERSION}")
    return parser.parse_args()


def start_logging(verbose: bool) -> None:
    """Start the log, which has everything, and what goes to the screen. Raises Failure."""
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    # A terminal shows progress. Without one, cron mails what is shown: only warnings and errors.
    is_watched = verbose or (sys.stderr and sys.stderr.isatty())
    screen.setLevel(logging.INFO if is_watched else logging.WARNING)
    log.addHandler(screen)
    log.setLevel(logging.DEBUG)
    # Once they are open, a log or a screen that cannot be written must not stop the job.
    logging.raiseExceptions = False
    # paramiko raises what it logs, so it would be said twice.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    with step("opening the log", HERE):
        file = RotatingFileHandler(LOG, "a", 1_000_000, 9, "utf-8", errors="backslashreplace")
        LOG.chmod(0o600)
    form = "%(asctime)s %(levelname)s %(message)s"
    file.setFormatter(logging.Formatter(form, "%Y-%m-%d %H:%M:%S"))
    log.addHandler(file)
    log.debug("clever_sections.py %s, Python %s", VERSION, sys.version.split()[0])


def interrupted(number: int, frame: object) -> NoReturn:
    """Handle Ctrl-C, SIGTERM or a closed terminal: say so, and end before a library goes on."""
    log.error("interrupted: Clever has the old file or the whole new one")
    os._exit(128 + number)


def main() -> int:
    """Run the job for the command line, and return the exit status."""
    options = parse_arguments()
    # What is written holds ids of staff, and is compared with the next night: only for this user.
    os.umask(0o077)
    endings = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    for number in endings:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants SIGHUP to be
            signal.signal(number, interrupted)
    # Whoever started the job may have blocked them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, endings | {signal.SIGALRM})
    # A server that announces gigabytes must not fill this machine's memory.
    with suppress(ValueError, OSError):  # it may have a limit already
        resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000, resource.RLIM_INFINITY))
    # paramiko's threads would print what they raise; the job meets the same, and says it in a line.
    threading.excepthook = lambda args: None
    try:
        start_logging(options.verbose)
        run(options)
        return 0
    except Failure as failure:
        log.error("%s", failure)
        return failure.status
    except Exception as error:
        file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__} {cause(error)}, {Path(file).name}, line {line}"
        log.error("a bug in this script: %s. Please report this line", what)
        return 1


# ==== What to do about an error ===================================================================

LOG_IN_REFUSED = "Check CLEVER_SFTP_USERNAME and CLEVER_SFTP_PASSWORD, or ask Clever's support"
LOG_IN_IS_SLOW = "Check its address and the firewalls, or set CONNECT_TIMEOUT_SECONDS higher"
TRY_IS_SLOW = "If it is so every night, set TRY_TIMEOUT_MINUTES higher"

# What python-oracledb says of a connect string that it cannot read.
CONNECT_STRING_CODES = "DPY-(2049|2056|2059|3001|3029|4000|4017|4018|402[12678]|403[028])"

# What a library says, after the place and its class ("POWERSCHOOL_PROD_DB DatabaseError: ORA-..."),
# and what to do about it. The first pattern that fits counts. Oracle explains the codes that begin
# with ORA-, python-oracledb those with DPY-. First, where trying again cannot help.
FINAL_ADVICE = {
    f"^{KEYS}": "Fetch Clever's host key as the README says in step 4",
    "ORA-28000": "Have the account unlocked, and check POWERSCHOOL_DB_PASSWORD",
    "ORA-280(01|02|11)": "Have the password changed, and put it into POWERSCHOOL_DB_PASSWORD",
    # Any other refusal of an account, also by a trigger of the district's own.
    "ORA-01017|ORA-01005|ORA-01045|ORA-28[0-9]{3}|ORA-04088|ORA-20[0-9]{3}": (
        "Check POWERSCHOOL_READ_USER and POWERSCHOOL_DB_PASSWORD, or ask who runs the database"
    ),
    "ORA-00942|ORA-01031|ORA-41900": (
        "Have SELECT granted on the README's tables, and set TABLE_OWNER if it has no synonyms"
    ),
    "ORA-00904": "Check TEACHER_ID_COLUMN and PERIOD_COLUMN, and the rights to read all columns",
    "ORA-01435": "Check TABLE_OWNER",
    "ORA-12660|Native Network Encryption|DPY-5016": (
        "This job cannot do Oracle's own encryption. Ask for a TLS port (tcps://), or an SSH tunnel"
    ),
    "DPY-301[05]": "Ask for a newer database, or have the same password set once more",
    "^POWERSCHOOL.*(CERTIFICATE|certificate|DPY-6002|DPY-2018|DPY-4026.*wallet)": (
        "Put the server's certificate in a wallet, and ?wallet_location=/its/folder after {address}"
    ),
    CONNECT_STRING_CODES: "Check the form of {address}: host:1521/service",
    # The driver has met a value that Python cannot hold, such as a date in month 0.
    "^POWERSCHOOL.* UnicodeDecodeError": "Look there for a text that is none",
    "^POWERSCHOOL.* (Value|Overflow)Error|InvalidOperation": "Look there for a date that is none",
    "'idna' codec": "Check the host's name in {address}",
    "Bad host key": (
        "Ask Clever's support whether their host key is a new one; if so, replace it in "
        "known_hosts as the README says"
    ),
    "Incompatible (ssh|version)": (
        "There is no common algorithm. Fetch the host key as the README says, install a newer "
        "paramiko, or ask Clever's support for an algorithm that both have"
    ),
    "^CLEVER_SECTIONS.*(No space left|quota)": "Make room on this machine's disk",
    "^CLEVER_SECTIONS.*Read-only": "Set {address} to a folder that can be written",
    "^CLEVER_SECTIONS.*No such file": "Check {address}: the folder must be there",
    "^CLEVER_SECTIONS.*(Permission denied|not permitted)": (
        "Give it, and all that lies in its folder, to the user who runs the job, with chown"
    ),
}
ADVICE = {
    "DPY-6001|DPY-6003|ORA-12504|ORA-12505|ORA-12514": (
        "Check the service's name at the end of {address}; if it is right, the database may be down"
    ),
    "ORA-0103[345]|ORA-01089|ORA-01109|ORA-125[12][0-9]|DPY-6000|ORA-01555|ORA-01466": (
        "If it is so every night, run the job at another hour: this may be the time of the backup"
    ),
    "DPY-4024": "If it is so every night, set QUERY_TIMEOUT_SECONDS higher",
    "Errno -[0-9]|not known|name resolution": (
        "Check the host's name in {address}, and this machine's DNS"
    ),
    "Connection refused|ORA-12541": "Check host and port in {address}; the server may be down",
    "^CLEVER_SFTP.*no answer in time": "If it happens again, set CONNECT_TIMEOUT_SECONDS higher",
    "No route to host|Network is unreachable|no answer in time|timed out": (
        "Check {address}, and the firewalls between this machine and the server"
    ),
    "^CLEVER_SFTP.*(No space|[Qq]uota|disk full)": "Ask Clever's support to make room for the file",
    "^CLEVER_SFTP.*(Permission denied|not permitted|[Aa]ccess ?[Dd]enied)": (
        f"Ask Clever's support to let the account write {OUTPUT.name} and {TEMPORARY}"
    ),
    "^POWERSCHOOL": "If it happens again, show this line to whoever runs PowerSchool's database",
    "^CLEVER_SFTP": "If it happens again, show this line to Clever's support",
    "": "If it happens again, show this line to whoever runs this machine",
}


if __name__ == "__main__":
    exit_status = main()
    logging.shutdown()
    os._exit(exit_status)  # Python's own end would close what is KEPT.
