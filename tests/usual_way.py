"""The usual way to write this job, for bench.py to compare with: a query for each section.

Nothing is normalized or guarded here, and the driver's settings are its own: what is measured is
what so many small queries cost.
"""

import csv
import os
import sys
from pathlib import Path

import oracledb
from plain_put import put


def main() -> None:
    connection = oracledb.connect(
        user=os.environ["POWERSCHOOL_READ_USER"],
        password=os.environ["POWERSCHOOL_DB_PASSWORD"],
        dsn=os.environ["POWERSCHOOL_PROD_DB"],
    )
    cursor = connection.cursor()
    output = Path(sys.argv[1]) / "Sections.csv"
    with open(output, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        cursor.execute("SELECT school_number FROM schools ORDER BY school_number")
        for (school,) in cursor.fetchall():
            cursor.execute("SELECT id FROM terms WHERE schoolid = :s ORDER BY id", s=school)
            for (term,) in cursor.fetchall():
                cursor.execute(
                    "SELECT s.id, s.course_number, s.section_number, s.expression, s.grade_level,"
                    " c.course_name, c.credittype FROM sections s"
                    " LEFT JOIN courses c ON c.course_number = s.course_number"
                    " WHERE s.schoolid = :s AND s.termid = :t ORDER BY s.id",
                    s=school,
                    t=term,
                )
                for section in cursor.fetchall():
                    cursor.execute(
                        "SELECT t.users_dcid FROM sectionteacher st"
                        " JOIN teachers t ON t.id = st.teacherid"
                        " WHERE st.sectionid = :i ORDER BY st.roleid, st.id",
                        i=section[0],
                    )
                    staff = [teacher for (teacher,) in cursor.fetchall()]
                    staff = (staff + [""] * 10)[:10]
                    writer.writerow([school, *section, *staff])
    connection.close()
    put(str(output), sys.argv[2])


if __name__ == "__main__":
    main()
