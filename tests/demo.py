"""Four nights of clever_sections.py, on a PowerSchool database and a Clever server of its own.

Everything is real but the servers, which run on this machine: the job is the unmodified script,
as its own process, started as cron would start it. Nothing leaves the machine, or is left there.
"""

import csv
import re
import sys
import tempfile
import textwrap
from pathlib import Path

import district
from clever import Clever
from job import Ended, Job
from powerschool import PowerSchool

LEE = district.staff_id(300, 1)
ROY = district.staff_id(300, 4)
# Each night: its day, what happens before it, the SQL for that, and the exit status to come.
NIGHTS = [
    ("2026-11-25", "The first upload.", "", 0),
    ("2026-11-26", "A quiet night: nothing has changed.", "", 0),
    (
        "2026-11-27",
        "Ms. Lee has left Algebra 1, and Mr. Roy has it now. Two sections meet in other periods, "
        "one is new and one is gone, and Ridge Academy has corrected its last day.",
        f"""
        UPDATE sectionteacher SET end_date = '2026-11-26 00:00:00'
        WHERE sectionid = 31 AND teacherid = {LEE};
        INSERT INTO sectionteacher
        VALUES (3101, 31, {ROY}, {district.LEAD}, '2026-11-27 00:00:00', NULL);
        UPDATE sections SET expression = '2(A)' WHERE id IN (31, 33);
        INSERT INTO sections VALUES (36, 300, 3602, 'ART', '4', '5(A)', 11, NULL, 'P5(A)');
        INSERT INTO sectionteacher VALUES (3600, 36, {ROY}, {district.LEAD}, NULL, NULL);
        DELETE FROM sections WHERE id = 22;
        UPDATE terms SET lastday = '2027-06-04 00:00:00' WHERE schoolid = 310;
        """,
        0,
    ),
    (
        "2026-11-28",
        "Somebody has emptied sectionteacher by mistake.",
        "DELETE FROM sectionteacher;",
        1,
    ),
]
WITH_CHANGES = 3  # the night whose table is shown
SHOWN = ["kind", "school_id", "section_id", "course", "column", "before", "after"]
WIDTH = 100

# The six steps, and how the first line of the log begins that belongs to one.
STEPS = {
    "1 read": "reading PowerSchool",
    "2 write": "",
    "3 look": "looking at",
    "4 check": "lead teacher not in|school not in|Clever (would|loses)",
    "5 upload": "uploading",
    "6 tell": r"[\d,]+ sections in",
}
# What a step has done that has no line in the log.
WITHOUT_A_LINE = {"2 write": "(Sections.csv is written)", "4 check": "(nothing is to be said)"}


def put_other_files(folder: Path) -> None:
    """The schools and teachers files that the district sends to Clever as well."""
    schools = [f"{number},{name}\n" for _, number, name, *_ in district.SCHOOLS]
    (folder / "schools.csv").write_text("School_id,School_name\n" + "".join(schools))
    # 506 is inactive, so he is not in it.
    teachers = {teacher for _, teacher, *_ in district.TEACHERS} - {506}
    rows = [f"100,{teacher}\n" for teacher in sorted(teachers)]
    (folder / "teachers.csv").write_text("School_id,Teacher_id\n" + "".join(rows))


def by_steps(lines: list[str]) -> dict[str, list[str]]:
    """The lines of a night's log by their steps; "" is before the first one."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in lines:
        for step, beginning in STEPS.items():
            if beginning and re.match(beginning, line.split(maxsplit=1)[1]):
                current = step
        found.setdefault(current, []).append(line)
    return {
        step: found.get(step, [WITHOUT_A_LINE.get(step, "")])
        for step in ("", *STEPS)
        if step <= current
    }


def say(text: str, margin: str = "", indent: int = 0) -> None:
    """Print a paragraph for a terminal of usual width, with something in its margin."""
    hanging = " " * (indent + 2 if indent else 0)
    print(textwrap.fill(margin.ljust(indent) + text, WIDTH, subsequent_indent=hanging))


def print_log(lines: list[str], before: set[str]) -> None:
    """Print a night's log by its steps, without the lines of the night before."""
    for step, of_step in by_steps(lines).items():
        new = [line for line in of_step if line not in before]
        if step and not new:
            new = ["(as the night before)"]
        for position, line in enumerate(new):
            say(line, "" if position else step, indent=9)


def print_changes(path: Path) -> None:
    """Print Sections.changes.csv as an aligned table, some of its columns only."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [SHOWN, *([row[name] for name in SHOWN] for row in csv.DictReader(file))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def print_night(number: int, ended: Ended, lines: list[str], before: set[str]) -> None:
    night, story, _, _ = NIGHTS[number - 1]
    print()
    say(f"=== Night {number}, {night}. {story}")
    mail = ended.stderr.strip()
    if mail == lines[-1]:
        mail = "the last line."
    say(f"Exit status {ended.status}. What cron mails: {mail or 'nothing.'}")
    print_log(lines, before)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="clever-demo-") as name:
        return show(Path(name))


def show(folder: Path) -> int:
    """Show all nights. Returns the exit status."""
    database = district.sample(folder / "powerschool.db")
    with PowerSchool(database) as powerschool, Clever(folder / "clever") as clever:
        put_other_files(clever.folder)
        say(
            f"PowerSchool's stand-in is {powerschool.dsn}, Clever's {clever.address}. Each night "
            "shows the log by its steps, without the time of each line; from the second night on, "
            "without the lines that were there the night before, too."
        )
        job = Job(folder / "job").connect(powerschool, clever)
        logged = 0
        before: set[str] = set()
        for number, (night, _, sql, status) in enumerate(NIGHTS, start=1):
            district.change(database, sql)
            ended = job.run("--date", night)
            lines = [line[20:] for line in ended.log.splitlines()[logged:]]
            print_night(number, ended, lines, before)
            logged += len(lines)
            before = set(lines)
            if ended.status != status:
                print(f"That should have been {status}.")
                return 1
            if number == WITH_CHANGES:
                print("\nSections.changes.csv, some of its columns:\n")
                print_changes(folder / "job/Sections.changes.csv")
        kept = (clever.folder / "Sections.csv").read_bytes() == job.uploaded.read_bytes()
        print(f"\nClever {'still has' if kept else 'does not have'} the file of night 3.")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
