#!/usr/bin/env python3
"""Send PowerSchool's class sections to Clever: read, write Sections.csv, upload.

environment variables:
  POWERSCHOOL_READ_USER, POWERSCHOOL_DB_PASSWORD, POWERSCHOOL_PROD_DB
  CLEVER_SFTP_USERNAME, CLEVER_SFTP_PASSWORD, CLEVER_SFTP_ADDRESS
files beside this script:
  known_hosts            Clever's host key: the password goes to no other server
  Sections.csv           what the last run read from PowerSchool
  Sections.uploaded.csv  what Clever has: a copy of the last upload
  clever_sections.log    what every run did
exit status:
  0 all is well, also in summer; 1 the run failed: the last line says why;
  2 an option or variable is wrong; 130 Ctrl-C; 143 SIGTERM
"""

import argparse
import csv
import fcntl
import logging
import os
import re
import signal
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from itertools import groupby
from logging.handlers import RotatingFileHandler
from pathlib import Path
from urllib.parse import urlsplit

try:
    import oracledb
    import paramiko

    paramiko.DSSKey = None  # pysftp imports it, for keys not used here; paramiko 4.0 dropped it
    import pysftp
except ImportError as error:
    sys.exit(f"ERROR {error}: run python3 -m pip install -r requirements.txt")

# --- Settings: what a district changes --------------------------------------------------------
OUTPUT_FILE_NAME = "Sections.csv"  # here and in Clever; only if Clever asks for another name
VALID_SUBJECTS = [  # as Clever spells them; when Clever changes them
    "English/language arts", "Math", "Science", "Social studies", "Language",
    "Homeroom/advisory", "Interventions/online learning", "Technology and engineering",
    "PE and health", "Arts and music", "other",
]  # fmt: skip
SUBJECT_MAP = {  # credit type in PowerSchool: subject in Clever; add your own credit types
    "Eng": "English/language arts", "Mat": "Math", "Sci": "Science",
    "Gls": "Social studies", "Gov": "Social studies", "Uhi": "Social studies",
    "Social Studies": "Social studies", "Socialstudies": "Social studies",
    "Pe": "PE and health", "Hlt": "PE and health",
}  # fmt: skip
STRIP_TRACK_INFO = True  # 3(A) becomes 3; False if people need to see the track
PRESCHOOL_GRADE = "Preschool"  # for grades below 0; if yours are not all preschool
ZERO_GRADE = ""  # for grade 0; "Kindergarten" if nobody leaves a grade at 0 by oversight
HIGH_SCHOOL_IDS: set[int] = set()  # {300, 310}: teach 10 to 12 though high_grade does not say so
MAX_STAFF = 10  # staff columns of a section; when Clever takes more
TEACHER_ID_COLUMN = "users_dcid"  # Teacher_id of your teachers file; for some "teachernumber"
TERM_START_OFFSET_DAYS = 0  # to send a school year this many days before it starts
IGNORE_ZERO_ENROLLMENT_SECTIONS = False  # True to leave out sections without students
IGNORE_TEACHERS_WITHOUT_EMAILS = False  # True if your placeholder staff have no e-mail address
IGNORE_SECTIONS_WITH_NO_TEACHERS = False  # True to spare Clever the rows that it refuses
MAX_REMOVED = 0.25  # share of the current sections that may vanish; less if yours are stable
CONNECT_TIMEOUT_SECONDS = 20  # to log in to a server, or for a stalled upload; on a slow line
QUERY_TIMEOUT_SECONDS = 300  # for the database to answer; if yours is slow at night
CONNECT_ATTEMPTS = 3  # to connect or upload; more if your line is often down
RETRY_DELAY_SECONDS = 10  # between two attempts; more if your line is down for longer

HERE = Path(__file__).resolve().parent  # from here on nothing that a district changes
OUTPUT = HERE / OUTPUT_FILE_NAME
TEMPORARY = HERE / f"{OUTPUT_FILE_NAME}.tmp"
UPLOADED = OUTPUT.with_suffix(".uploaded.csv")
KNOWN_HOSTS = HERE / "known_hosts"
DATABASE = ["POWERSCHOOL_READ_USER", "POWERSCHOOL_DB_PASSWORD", "POWERSCHOOL_PROD_DB"]
CLEVER = ["CLEVER_SFTP_USERNAME", "CLEVER_SFTP_PASSWORD", "CLEVER_SFTP_ADDRESS"]
SUBJECTS = {known.casefold(): name for known, name in SUBJECT_MAP.items()}
SUBJECTS |= {name.casefold(): name for name in VALID_SUBJECTS}
COLUMNS = ["School_id", "Section_id", "Teacher_id"]
COLUMNS += [f"Teacher_{number}_id" for number in range(2, MAX_STAFF + 1)]
COLUMNS += "Course_name Course_number Section_number Period Subject Grade".split()
COLUMNS += "Term_start Term_end Term_name".split()

SCHOOLS_SQL = """SELECT school_number, name, high_grade FROM schools
    WHERE COALESCE(state_excludefromreporting, 0) = 0 ORDER BY school_number"""
TERMS_SQL = """SELECT id, abbreviation, firstday, lastday, isyearrec FROM terms
    WHERE schoolid = :school AND yearid = (
        SELECT MAX(yearid) FROM terms WHERE schoolid = :school AND isyearrec = 1
        AND firstday < :starts_before AND lastday >= :today) ORDER BY id"""
HAS_EMAIL = "t.email_addr IS NOT NULL" if IGNORE_TEACHERS_WITHOUT_EMAILS else "1 = 1"
HAS_STUDENTS = "EXISTS (SELECT 1 FROM cc WHERE cc.sectionid = s.id AND cc.termid = s.termid)"
SECTIONS_SQL = f"""SELECT s.id, s.course_number, s.section_number, s.expression, s.grade_level,
        c.course_number, c.course_name, c.credittype, t.{TEACHER_ID_COLUMN}
    FROM sections s LEFT JOIN courses c ON c.course_number = s.course_number
    LEFT JOIN sectionteacher st ON st.sectionid = s.id
    LEFT JOIN teachers t ON t.id = st.teacherid AND {HAS_EMAIL}
    WHERE s.schoolid = :school AND s.termid = :term
    AND {HAS_STUDENTS if IGNORE_ZERO_ENROLLMENT_SECTIONS else "1 = 1"}
    ORDER BY s.id, st.roleid, st.id"""
log = logging.getLogger("clever_sections")


def stop(number: int, _: object) -> None:
    """Handle a signal: SIGALRM is a time limit, SIGINT and SIGTERM end the run in 5 seconds."""
    if number == signal.SIGALRM:
        signal.alarm(CONNECT_TIMEOUT_SECONDS)  # for tidying up, which may get no answer either
        raise RuntimeError("no answer in time")  # oracledb and paramiko intercept a TimeoutError
    log.error("interrupted: Clever has the old file or the whole new one")
    signal.signal(signal.SIGALRM, lambda *_: (TEMPORARY.unlink(True), os._exit(128 + number)))
    signal.alarm(5)
    raise KeyboardInterrupt(128 + number)


def cause(error: BaseException) -> str:
    """What a library says of its error: on one line, and without the passwords."""
    if isinstance(error, pysftp.ConnectionException) and error.__context__:
        error = error.__context__  # pysftp's own error has no words
    words = str(error)
    for secret in filter(None, map(os.environ.get, (DATABASE[1], CLEVER[1]))):
        words = words.replace(secret, "*****")
    return clean(words).rstrip(".") or type(error).__name__


@contextmanager
def step(doing: str, advice: str, seconds: int = 0) -> Iterator[None]:
    """End the run if the block fails or takes longer than so many seconds: what, why, what now."""
    signal.alarm(seconds)
    try:
        yield
    except Exception as error:
        sys.exit(f"{doing}: {cause(error)}. {advice}")
    finally:
        signal.alarm(0)


def clean(value: object) -> str:
    """Any value as text on one line, each run of white space a single space; "" for None."""
    return "" if value is None else " ".join(str(value).split())


def period(expression: str | None) -> str:
    """The Period for an expression: with STRIP_TRACK_INFO, "1(A),3(B)" gives "1 3"."""
    meetings = re.sub(r"\([^)]*\)*|,", " ", expression or "")
    return clean(meetings if STRIP_TRACK_INFO else expression)


def grade(level: int | None, highest: int) -> str:
    """The Grade for a grade_level (345 gives "3-5"; 12 is one grade up to `highest`), or ""."""
    if level is None or 1 <= level <= 9 or 10 <= level <= min(highest, 12):
        return clean(level)
    if level <= 0:
        return PRESCHOOL_GRADE if level < 0 else ZERO_GRADE
    # Each grade at most once and in order, so that what matches is strictly ascending.
    match = re.fullmatch("".join(f"({number})?" for number in range(1, 13)), str(level))
    grades = [part for part in match.groups() if part] if match else []
    return f"{grades[0]}-{grades[-1]}" if len(grades) > 1 else ""


def subject(credit_type: str | None) -> str:
    """The Subject for a course's credit type; "" if there is none, and Clever guesses."""
    return SUBJECTS.get(clean(credit_type).casefold(), "")


def query(db: oracledb.Connection, what: str, sql: str, **binds: object) -> Iterator[tuple]:
    """The rows of a query as they arrive; what is read, for the message if that fails."""
    with step(f"reading the {what}", "Run the job again"):
        cursor = db.cursor()
        cursor.prefetchrows = cursor.arraysize = 5000  # rows that come in one round trip
        yield from cursor.execute(sql, binds)


def section_row(school: int, highest: int, rows: list[tuple], remarks: dict) -> list[str]:
    """A section's row up to Grade ([]: leave it out) from a row for each staff; fills `remarks`."""
    section, number, section_number, expression, level, course, name, credit, *_ = rows[0]
    label = f"{school} {clean(number)}.{clean(section_number)}"
    staff = list(dict.fromkeys(clean(teacher) for *_, teacher in rows if clean(teacher)))
    if not staff and IGNORE_SECTIONS_WITH_NO_TEACHERS:
        return []
    if not staff:
        remarks["no staff, Clever refuses it"].append(label)
    if len(staff) > MAX_STAFF:
        log.error("more than %d staff: section %s, %s %s", MAX_STAFF, section, label, clean(name))
    if course is None:
        remarks["no such course in PowerSchool"].append(label)
    if clean(credit) and not subject(credit):
        remarks[f"no subject for credit type {clean(credit)}"].append(label)
    if (level or 0) > 0 and not grade(level, highest):
        remarks[f"grade {level} cannot be read"].append(label)
    values = [clean(name), clean(number), clean(section_number)]
    values += [period(expression), subject(credit), grade(level, highest)]
    return [str(school), str(section), *(staff + [""] * MAX_STAFF)[:MAX_STAFF], *values]


def read_sections(db: oracledb.Connection, today: date, totals: Counter) -> Iterator[list]:
    """Walk schools, terms and sections: rows for COLUMNS, each school's number in `totals`."""
    days = {"today": datetime(today.year, today.month, today.day)}
    days["starts_before"] = days["today"] + timedelta(days=TERM_START_OFFSET_DAYS + 1)
    remarks, closed = defaultdict(list), []
    for school, school_name, high_grade in query(db, "schools", SCHOOLS_SQL):
        terms = list(query(db, f"terms of school {school}", TERMS_SQL, school=school, **days))
        if not terms:
            closed.append(f"{school} {clean(school_name)}")
            continue
        totals[school] = 0
        highest = 12 if school in HIGH_SCHOOL_IDS else high_grade or 0
        year = next(clean(name) for _, name, *_, is_year in terms if is_year == 1)
        for term, name, *ends, is_year in terms:
            term_columns = [f"{day:%m/%d/%Y}" if day else "" for day in ends]
            term_columns.append(clean(f"{'Year' if is_year == 1 else name or ''} {year}"))
            what = f"sections of school {school}, term {term}"
            rows = query(db, what, SECTIONS_SQL, school=school, term=term)
            for _, section in groupby(rows, key=lambda row: row[0]):
                if row := section_row(school, highest, list(section), remarks):
                    totals[school] += 1
                    yield row + term_columns
        counts = f"terms {len(terms)}, sections {totals[school]:,}"
        log.info("%s %s: year %s, %s", school, clean(school_name), year, counts)
    if closed:
        log.warning("no current school year: %s", ", ".join(closed))
    if not totals.total() and (totals or not closed):
        sys.exit(f"PowerSchool shows no {'section' if totals else 'school'}. Check the account")
    for what, labels in sorted(remarks.items()):
        names = ", ".join(labels[:3] + ["..."] * (len(labels) > 3))
        log.info("%s: %d section%s (%s)", what, len(labels), "s" * (len(labels) > 1), names)


def write_sections(today: date) -> Counter:
    """Write Sections.csv, if a school is in session. Returns how many sections each of them has."""
    user, password, dsn = map(os.environ.get, DATABASE)
    retries = {"retry_count": CONNECT_ATTEMPTS - 1, "retry_delay": RETRY_DELAY_SECONDS}
    retries["tcp_connect_timeout"] = CONNECT_TIMEOUT_SECONDS
    # The driver bounds and repeats only the start of a log-in; this limit is for all of it.
    limit = CONNECT_ATTEMPTS * (CONNECT_TIMEOUT_SECONDS + RETRY_DELAY_SECONDS)
    totals = Counter()
    try:
        with open(TEMPORARY, "w", encoding="utf-8", newline="") as file:
            with step("connecting to PowerSchool", "Check the POWERSCHOOL_ variables", limit):
                db = oracledb.connect(user=user, password=password, dsn=dsn, **retries)
            db.call_timeout = QUERY_TIMEOUT_SECONDS * 1000
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            with db:
                writer.writerows(read_sections(db, today, totals))
        if totals:
            TEMPORARY.replace(OUTPUT)
    except OSError as error:
        sys.exit(f"writing {OUTPUT.name}: {cause(error)}. Check the disk's space and rights")
    finally:
        TEMPORARY.unlink(missing_ok=True)
    return totals


def compare(today: date, force: bool) -> str:
    """What an upload changes, such as "+12, -3, 41 changed"; ends the run if too much vanishes."""

    def rows_of(path: Path) -> Iterator[dict[str, str]]:
        """The rows of a sections file, by column. Raises ValueError if it is none."""
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != COLUMNS:
                raise ValueError("it has other columns")
            yield from rows

    name = "school {School_id}, {Course_name}, period {Period}, id {Section_id}".format_map
    new = {row["Section_id"]: hash(str(row)) for row in rows_of(OUTPUT)}
    removed, vanishing, current, changed = [], Counter(), 0, 0
    try:
        for row in rows_of(UPLOADED):
            goes_on = datetime.strptime(row["Term_end"], "%m/%d/%Y").date() >= today
            current += goes_on
            if row["Section_id"] not in new:
                removed.append(name(row))
                vanishing[row["School_id"]] += goes_on
            elif new.pop(row["Section_id"]) != hash(str(row)):
                changed += 1
    except (OSError, ValueError, TypeError, csv.Error) as error:
        log.warning("%s is broken, so nothing is compared: %s", UPLOADED.name, cause(error))
        return "not compared"
    added = [name(row) for row in rows_of(OUTPUT) if row["Section_id"] in new]
    for what, names in (("added", added), ("removed", removed)):
        for name in names[:20] + [f"and {len(names) - 20:,} more"] * (len(names) > 20):
            log.debug("%s: %s", what, name)
    if (gone := vanishing.total()) > MAX_REMOVED * current and not force:
        schools = ", ".join(f"school {school}: {count}" for school, count in vanishing.items())
        advice = f"Look at {OUTPUT.name}; if it is right, run once with --force"
        sys.exit(f"{gone:,} of {current:,} current sections would vanish ({schools}). {advice}")
    return f"+{len(added):,}, -{len(removed):,}, {changed:,} changed"


def send(connection: pysftp.Connection) -> None:
    """Replace Clever's Sections.csv once the new one has arrived. Raises paramiko's errors."""

    def put(name: str) -> None:
        """Write the file there. Unlike paramiko's put, stop at the first write that fails."""
        with open(OUTPUT, "rb") as source, connection.open(name, "wb") as target:
            while piece := source.read(32768):
                signal.alarm(CONNECT_TIMEOUT_SECONDS)
                target.write(piece)
        if connection.stat(name).st_size != OUTPUT.stat().st_size:
            raise OSError("the file has not arrived whole")

    # Each write waits for its answer; without this, TCP would have it wait 40 ms longer.
    connection.sftp_client.sock.transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        put(TEMPORARY.name)
        try:
            connection.sftp_client.posix_rename(TEMPORARY.name, OUTPUT.name)
        except OSError as error:
            connection.remove(TEMPORARY.name)  # fails if it is the connection that failed
            log.warning("Clever refuses to rename, so it is written directly: %s", cause(error))
            put(OUTPUT.name)
    finally:
        with suppress(Exception):  # all went well, or it is the connection that failed
            connection.remove(TEMPORARY.name)


def upload() -> None:
    """Upload Sections.csv to Clever, or end the run."""
    user, password, address = map(os.environ.get, CLEVER)
    advice = "Check known_hosts as the README says, and the CLEVER_ variables"
    with step("CLEVER_SFTP_ADDRESS", "It is sftp.clever.com, or host:port"):
        url = urlsplit(address if "://" in address else f"//{address}")
        host, port = url.hostname or "", url.port or 22
    with step("reading known_hosts", advice):
        KNOWN_HOSTS.open().close()  # pysftp only warns if it cannot
        options = pysftp.CnOpts(knownhosts=KNOWN_HOSTS)
    keys = options.hostkeys.lookup(f"[{host}]:{port}") or options.hostkeys.lookup(host)
    if not keys:
        sys.exit(f"known_hosts has no key of {host}. {advice}")
    options.get_hostkey = lambda _: next(iter(keys.values()))  # pysftp knows no [host]:port
    for attempt in range(1, CONNECT_ATTEMPTS + 1):
        try:
            with step(f"uploading to {host}", advice, CONNECT_TIMEOUT_SECONDS):
                with pysftp.Connection(host, user, None, password, port, cnopts=options) as clever:
                    return send(clever)
        except SystemExit as failure:
            final = re.search(r"host key|Authentication failed\.", str(failure))
            if final or attempt == CONNECT_ATTEMPTS:
                raise
            log.info("attempt %d: %s", attempt, failure)
        time.sleep(RETRY_DELAY_SECONDS)


def main(argv: list[str] | None = None) -> int:
    """Run the job for a command line and return the exit status."""
    started, form = time.monotonic(), argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    flag = parser.add_argument
    flag("--dry-run", action="store_true", help="upload nothing; needs no CLEVER_ variable")
    flag("--force", action="store_true", help="upload even if many sections vanish from Clever")
    flag("--date", type=date.fromisoformat, default=date.today(), help="run as if on YYYY-MM-DD")
    flag("-v", "--verbose", action="store_true", help="show progress and all changes")
    options = parser.parse_args(argv)
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    screen = logging.StreamHandler()
    screen.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    screen.setLevel("DEBUG" if options.verbose else "INFO" if sys.stderr.isatty() else "WARNING")
    logging.getLogger("paramiko").setLevel("CRITICAL")  # what it logs it raises, too
    logging.raiseExceptions = False  # a disk too full for the log is too full for Sections.csv
    try:
        with step("opening the log", "Check the rights of the folder and the file"):
            file = RotatingFileHandler(HERE / "clever_sections.log", "a", 10**6, 9, "utf-8")
        file.setFormatter(logging.Formatter("%(asctime).19s %(levelname)s %(message)s"))
        logging.basicConfig(level="DEBUG", handlers=[screen, file])
        needed = DATABASE if options.dry_run else DATABASE + CLEVER
        if missing := [name for name in needed if not os.environ.get(name)]:
            log.error("missing or empty variables: %s", ", ".join(missing))
            return 2
        with step("another run is at work", "Wait for its end"):
            lock = open(__file__)  # the system lets go of it, however this run ends
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        totals = write_sections(options.date)
        if not totals:
            log.warning("no school is in session: nothing written, nothing uploaded")
            return 0
        changes = compare(options.date, options.force) if UPLOADED.exists() else "first upload"
        if not options.dry_run:
            upload()
            with step(f"uploaded, but not copied to {UPLOADED.name}", "Check the disk's space"):
                UPLOADED.write_bytes(OUTPUT.read_bytes())
        done = "dry run, not uploaded" if options.dry_run else "uploaded"
        summary = f"{totals.total():,} sections in {len(totals)} schools ({changes}), {done}"
        log.info("%s, %.1f s", summary, time.monotonic() - started)
        return 0
    except SystemExit as failure:
        log.error("%s", failure)
    except KeyboardInterrupt as interruption:
        return interruption.args[0]
    except Exception as error:
        log.error("a fault of this script: %s %s", type(error).__name__, cause(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
