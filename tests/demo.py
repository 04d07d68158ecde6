"""Two nights of clever_sections.py, on a PowerSchool database and a Clever server of its own.

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

NIGHTS = {
    "2026-11-24": "",
    "2026-11-25": """
        INSERT INTO sections VALUES (36, 300, 3602, 'ART', '4', '5(A)', 11, NULL);
        INSERT INTO sectionteacher VALUES (3600, 36, 4, 41, NULL, NULL);
        UPDATE sections SET expression = '2(A)' WHERE id IN (31, 33);
        DELETE FROM sections WHERE id = 22;
        UPDATE terms SET lastday = '2027-06-04 00:00:00' WHERE schoolid = 310;
    """,
}
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
        print(f"PowerSchool's stand-in is {powerschool.dsn}, Clever's {clever.address}.")
        job = Job(folder / "job").connect(powerschool, clever)
        logged = 0
        for night, changes in NIGHTS.items():
            district.change(database, changes)
            ended = job.run("--date", night)
            print(f"\nThe night of {night}, as cron runs it: exit status {ended.status}.")
            print("What cron would mail:")
            print(ended.stderr)
            print("What the log says, here without the time of each line:")
            lines = ended.log.splitlines()
            print("\n".join(line[20:] for line in lines[logged:]))
            logged = len(lines)
            if ended.status != 0:
                return 1
    uploaded = clever.folder / "Sections.csv"
    print(f"\nWhat Clever has now, {uploaded}, in short:\n")
    print("\n".join(preview(uploaded)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
