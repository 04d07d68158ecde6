"""Four nights of clever_sections.py, on a PowerSchool database and a Clever server of its own.

Everything is real but the servers, which run on this machine: the job is the unmodified script,
as its own process, started as cron would start it. Nothing leaves the machine.
"""

import csv
import sys
import tempfile
from pathlib import Path

import district
from clever import Clever
from job import Job
from powerschool import PowerSchool

# Each night: its day, what happens before it, the SQL for that, and the exit status to come.
NIGHTS = [
    ("2026-11-24", "The first upload.", "", 0),
    (
        "2026-11-25",
        "Ms. Lee left Algebra 1 and Mr. Roy has it now. Two sections meet in other periods, one is "
        "new and one is gone, and Ridge Academy has corrected its last day.",
        """
        UPDATE sectionteacher SET end_date = '2026-11-24 00:00:00' WHERE sectionid = 31;
        INSERT INTO sectionteacher VALUES (3101, 31, 4, 25, '2026-11-25 00:00:00', NULL);
        UPDATE sections SET expression = '2(A)' WHERE id IN (31, 33);
        INSERT INTO sections VALUES (36, 300, 3602, 'ART', '4', '5(A)', 11, NULL, 'P5(A)');
        INSERT INTO sectionteacher VALUES (3600, 36, 4, 25, NULL, NULL);
        DELETE FROM sections WHERE id = 22;
        UPDATE terms SET lastday = '2027-06-04 00:00:00' WHERE schoolid = 310;
        """,
        0,
    ),
    ("2026-11-26", "Nothing has changed since then.", "", 0),
    (
        "2026-11-27",
        "Somebody has emptied sectionteacher by mistake.",
        "DELETE FROM sectionteacher;",
        1,
    ),
]
WIDTHS = {  # of the columns in the preview
    "School_id": 6,
    "Section_id": 7,
    "Teacher_id": 7,
    "Teacher_2_id": 9,
    "Course_name": 18,
    "Period": 6,
    "Subject": 13,
    "Grade": 5,
}


def put_other_files(folder: Path) -> None:
    """The schools and teachers files that the district sends to Clever as well."""
    schools = [f"{number},{name}\n" for _, number, name, *_ in district.SCHOOLS]
    (folder / "schools.csv").write_text("School_id,School_name\n" + "".join(schools))
    # 506 is inactive, so he is not in it.
    teachers = {teacher for _, teacher, *_ in district.TEACHERS} - {506}
    rows = [f"100,{teacher}\n" for teacher in sorted(teachers)]
    (folder / "teachers.csv").write_text("School_id,Teacher_id\n" + "".join(rows))


def preview(path: Path) -> list[str]:
    """A sections file as lines of an aligned table, some columns only, cut to their width."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = [{name: name.removesuffix("_id") for name in WIDTHS}, *csv.DictReader(file)]
    return [
        " ".join(row[name][:width].ljust(width) for name, width in WIDTHS.items()) for row in rows
    ]


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="clever-demo-"))
    database = district.sample(folder / "powerschool.db")
    with PowerSchool(database) as powerschool, Clever(folder / "clever") as clever:
        put_other_files(clever.folder)
        print(f"PowerSchool's stand-in is {powerschool.dsn}, Clever's {clever.address}.")
        job = Job(folder / "job").connect(powerschool, clever)
        logged = 0
        before: set[str] = set()
        for number, (night, story, sql, status) in enumerate(NIGHTS, start=1):
            district.change(database, sql)
            ended = job.run("--date", night)
            print(f"\n=== Night {number}, {night}, as cron runs it. {story}")
            print(f"Exit status {ended.status}. What cron mails: {ended.stderr or 'nothing.'}")
            lines = [line[20:] for line in ended.log.splitlines()[logged:]]
            logged += len(lines)
            if number == 1:
                print("What the log says, here without the time of each line:")
            else:
                print("What the log says beside the lines of the night before:")
            print("\n".join(f"  {line}" for line in lines if line not in before))
            before = set(lines)
            if ended.status != status:
                print(f"That should have been {status}.")
                return 1
    uploaded = clever.folder / "Sections.csv"
    print(f"\nWhat Clever has now, as night 4 uploaded nothing, in short ({uploaded}):\n")
    print("\n".join(preview(uploaded)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
