"""Districts as SQLite databases with PowerSchool's tables, for the stand-in to serve."""

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TABLES = {
    "schools": "id NUMBER, school_number NUMBER, name VARCHAR2, low_grade NUMBER,"
    " high_grade NUMBER, state_excludefromreporting NUMBER",
    "terms": "id NUMBER, schoolid NUMBER, yearid NUMBER, name VARCHAR2, abbreviation VARCHAR2,"
    " firstday DATE, lastday DATE, isyearrec NUMBER, portion NUMBER",
    "sections": "id NUMBER, schoolid NUMBER, termid NUMBER, course_number VARCHAR2,"
    " section_number VARCHAR2, expression VARCHAR2, grade_level NUMBER, teacher NUMBER,"
    " external_expression VARCHAR2",
    "courses": "course_number VARCHAR2, course_name VARCHAR2, credittype VARCHAR2",
    "sectionteacher": "id NUMBER, sectionid NUMBER, teacherid NUMBER, roleid NUMBER,"
    " start_date DATE, end_date DATE",
    "teachers": "id NUMBER, users_dcid NUMBER, teachernumber VARCHAR2, email_addr VARCHAR2,"
    " first_name VARCHAR2, last_name VARCHAR2, status NUMBER, schoolid NUMBER",
    "roledef": "id NUMBER, name VARCHAR2, rolekey VARCHAR2, sortorder NUMBER, islocked NUMBER",
    "cc": "id NUMBER, studentid NUMBER, sectionid NUMBER, termid NUMBER, schoolid NUMBER",
}
INDEXES = ("sections(schoolid, termid)", "sectionteacher(sectionid)", "cc(sectionid)")

# roleid: as in a district where a counselor's is lower than the lead teacher's.
COUNSELOR = 24
LEAD = 25
CO_TEACHER = 26
AIDE = 28
COTEACH = "com.pearson.powerschool.coteach"
ROLES = [
    (COUNSELOR, "Counselor", None, 1, 0),
    (LEAD, "Teacher", f"{COTEACH}.primary.teacher", 2, 1),
    (CO_TEACHER, "Co-teacher", f"{COTEACH}.co.teacher", 3, 1),
    (AIDE, "Classroom  Aide", None, 4, 0),
]

Row = tuple[object, ...]


def create(path: Path, tables: dict[str, Iterable[Row]]) -> Path:
    """Make a database at `path` of the rows of each table, in the order of TABLES' columns."""
    sqlite = sqlite3.connect(path)
    for name, columns in TABLES.items():
        sqlite.execute(f"CREATE TABLE {name} ({columns})")
        places = ", ".join("?" * len(columns.split(",")))
        sqlite.executemany(f"INSERT INTO {name} VALUES ({places})", tables.get(name, []))
    for number, columns in enumerate(INDEXES):
        sqlite.execute(f"CREATE INDEX index_{number} ON {columns}")
    sqlite.execute("CREATE INDEX teachers_id ON teachers(id)")
    sqlite.execute("CREATE INDEX courses_number ON courses(course_number)")
    sqlite.commit()
    sqlite.close()
    return path


def staff_id(school: int, teacher: int) -> int:
    """The id in `teachers` of a person at a school: PowerSchool has a row for each such pair."""
    return school * 100_000 + teacher


def sample(path: Path) -> Path:
    """The sample district, on 2026-11-24: what it must give is in sample.csv, written by hand."""
    sections: list[Row] = []
    sectionteacher: list[Row] = []
    cc: list[Row] = []
    for school, term, number, course, section, expression, grade, students, staff in SECTIONS:
        external = f"P{expression}" if expression else None
        sections.append((number, school, term, course, section, expression, grade, None, external))
        for place, (teacher, role, *dates) in enumerate(staff):
            # Later rows get lower ids, so that only the right order brings the lead teacher first.
            start, end = [moment(text) for text in dates or (None, None)]
            row = (number * 100 - place, number, staff_id(school, teacher), role, start, end)
            sectionteacher.append(row)
        cc += [(len(cc), student, number, term, school) for student in range(students)]
        cc.append((9999, 1, -number, term, school))  # a student who has dropped the section
        cc.append((9999, 2, number, 3500, school))  # one who was in it last year
    return create(
        path,
        {
            # PowerSchool may hold a row twice.
            "schools": [*SCHOOLS, SCHOOLS[2]],
            "terms": [*TERMS, TERMS[9]],
            "sections": [*sections, *[row for row in sections if row[0] in (31, 33)]],
            "courses": COURSES,
            "sectionteacher": sectionteacher,
            "teachers": sample_teachers(),
            "roledef": ROLES,
            "cc": cc,
        },
    )


def sample_teachers() -> list[Row]:
    """A row for each person at each of the schools where he or she stands in a section."""
    places = {(row[0], teacher) for row in SECTIONS for teacher, *_ in row[-1]} | ALSO_AT
    return [
        (staff_id(school, teacher), *person, school)
        for teacher, *person in TEACHERS
        for school, who in sorted(places)
        if who == teacher
    ]


SCHOOLS = [
    (1, 300, "Roosevelt High", 9, 12, 0),
    (2, 100, "Lincoln Elementary", -1, 5, 0),
    (3, 200, "Carver  Middle", 6, 8, None),
    (4, 310, "Ridge Academy", 0, None, 0),
    (5, 400, "Summer School", 1, 12, 0),
    (6, 900, "District Office", 0, 12, 1),
    (7, 320, "Career Center", 11, 14, 0),
]


def moment(text: str | None) -> str | None:
    """A day, or a day with a time, as the database has it."""
    if text is None or ":" in text:
        return text
    return f"{text} 00:00:00"


def term(school: int, number: int, short: str | None, first: str, last: str) -> Row:
    year = number // 100
    is_year = int(number % 100 == 0)
    return (number, school, year, short, short, f"{first} 00:00:00", f"{last} 00:00:00", is_year, 1)


TERMS = [
    term(100, 3500, "25-26", "2025-08-18", "2026-06-05"),
    term(100, 3600, "26-27", "2026-08-17", "2027-06-04"),
    term(100, 3601, "T1", "2026-08-17", "2026-11-20"),
    term(100, 3602, "T2", "2026-11-23", "2027-03-05"),
    term(100, 3700, "27-28", "2027-08-16", "2028-06-02"),
    term(200, 3600, "26-27", "2026-08-19", "2027-06-04"),
    term(200, 3701, "EC", "2026-11-02", "2027-10-01"),  # a term that is there before its year
    term(300, 3602, "S2", "2027-01-19", "2027-06-04"),
    term(300, 3600, "26-27", "2026-08-17", "2027-06-04"),
    term(300, 3601, "S1", "2026-08-17", "2026-12-18"),
    term(310, 3600, "26-27", "2026-11-24", "2026-11-24"),
    term(320, 3600, "26-27", "2026-08-17", "2027-06-04"),
    term(400, 3500, "25-26", "2026-06-08", "2026-07-10"),
    term(400, 3600, "26-27", "2027-06-07", "2027-07-09"),
    term(900, 3600, "26-27", "2026-08-17", "2027-06-04"),
]

COURSES = [
    ("ELA3", "Reading,  Writing\r\nand Speaking", "eng"),
    ("MA3", 'Math "Stars"', "MATH"),
    ("HR", "Homeroom", "homeroom/Advisory"),
    ("PK", "Preschool", None),
    ("SPAN", "Español 1", "Language"),
    ("SOC6", "World  Cultures ", "SocialStudies"),
    ("BAND", "Band", "Mus"),
    ("ALG1", "Algebra 1", "Mat"),
    ("BIO", "Biology; Lab", "Sci"),
    ("GOV", "Government", "Gov"),
    ("PE", "Physical Education", " pe "),
    ("ART", "Art", "Arts and Music"),
]

# A number that the sections below name, users_dcid, teachernumber, email_addr, names, status (1 is
# active): 1 and 2 are one person.
TEACHERS: list[tuple[Any, ...]] = [
    (1, 501, "T-501", "ann.lee@example.org", "Ann", "Lee", 1),
    (2, 501, "T-501", "ann.lee@example.org", "Ann", "Lee", 1),
    (3, 503, "T-503", "bo.diaz@example.org", "Bo", "Diaz", 1),
    (4, 504, "T-504", "cy.roy@example.org", "Cy", "Roy", 1),
    (5, 505, "T-505", None, "Vacancy", "Teacher", 1),
    (6, 506, "T-506", "di.fox@example.org", "Di", "Fox", 2),
    (7, 507, "T-507", "ed.may@example.org", "Ed", "May", None),
    *(
        (
            number,
            500 + number,
            f"T-{500 + number}",
            f"aide{number}@example.org",
            "Aide",
            str(number),
            1,
        )
        for number in range(11, 23)
    ),
]

ALSO_AT = {(300, 4)}  # a school with nothing for him to teach, until demo.py gives him a section

FROM_OCTOBER = (3, LEAD, "2026-10-16", None)
TO_OCTOBER = (1, LEAD, None, "2026-10-15")
FROM_DECEMBER = (3, LEAD, "2026-12-19", "2027-06-04")
TO_DECEMBER = (1, LEAD, "2026-08-17", "2026-12-18")

# school, term, section id, course, section number, expression, grade, students, and the staff: each
# a teacher with a role and, where they are set, the days from and to which he is assigned.
SECTIONS: list[tuple[Any, ...]] = [
    (100, 3500, 1, "MA3", "1", "1(A)", 3, 20, [(1, LEAD)]),  # last year's
    (100, 3600, 11, "ELA3", "1", "3(A)", 3, 21, [(3, CO_TEACHER), (1, LEAD), (4, AIDE)]),
    (100, 3600, 12, "MA3", "2", "1-2(A)", 345, 20, [(1, LEAD), (1, LEAD), (2, CO_TEACHER)]),
    (100, 3600, 13, "HR", "A,1", "HR(A-E)", 35, 20, [(99, LEAD), (3, CO_TEACHER)]),
    (100, 3600, 14, "PK", "1", "1(A) 3(B)", -1, 12, [(5, LEAD)]),
    (100, 3600, 15, "PE", "1", "1(A),3(B)", 12, 0, [(4, LEAD)]),
    # The former one left in mid-term: his row stays.
    (100, 3600, 101, "ELA3", "2", "4(A)", 3, 20, [FROM_OCTOBER, TO_OCTOBER]),
    # The next one comes in December.
    (100, 3600, 102, "ELA3", "3", "5(A)", 3, 20, [FROM_DECEMBER, TO_DECEMBER]),
    # An aide left yesterday.
    (
        *(100, 3600, 103, "MA3", "4", "6(A)", 4, 20),
        [(11, AIDE, "2026-08-17", "2026-11-23"), (4, LEAD)],
    ),
    # An inactive teacher alone, and beside another one.
    (100, 3600, 104, "MA3", "5", "7(A)", 4, 20, [(6, LEAD)]),
    (100, 3600, 105, "MA3", "6", "8(A)", 4, 20, [(6, LEAD), (4, CO_TEACHER)]),
    # The lead's role id is not the lowest; the counselor's status is empty.
    (100, 3600, 106, "HR", "B", "HR(A)", 5, 20, [(7, COUNSELOR), (3, LEAD)]),
    # Times of day do not matter.
    (
        *(100, 3600, 108, "MA3", "8", "9(A)", 4, 20),
        [
            (4, LEAD, "2026-11-24 08:30:00", None),
            (3, CO_TEACHER, None, "2026-11-24 07:00:00"),
            (1, LEAD, None, "2026-11-23 15:00:00"),
        ],
    ),
    # Nobody would be left.
    (
        *(100, 3600, 109, "PE", "2", "10(A)", 4, 20),
        [(1, LEAD, "2026-08-17", "2026-09-30"), (3, CO_TEACHER, "2026-08-17", "2026-10-30")],
    ),
    # In a term that has ended, those who ended it.
    (
        *(100, 3601, 107, "MA3", "7", "1(A)", 4, 20),
        [(3, LEAD, "2026-08-17", "2026-11-20"), (1, LEAD, "2026-08-17", "2026-09-30")],
    ),
    (100, 3601, 16, "MA3", "3", "1(A)3(B)", 10, 15, [(4, LEAD)]),
    (100, 3602, 17, "MA3", "3", "3(A", 23, 15, [(4, LEAD)]),
    (100, 3700, 18, "MA3", "9", "1(A)", 3, 20, [(1, LEAD)]),  # next year's
    (200, 3600, 21, "SPAN", "1", None, 0, 20, [(3, LEAD)]),
    (200, 3600, 22, "SOC6", "1", "2(A-B)", 6, 20, [(4, CO_TEACHER), (3, LEAD)]),
    (200, 3600, 23, "BAND", "1", "(A)4", 678, 20, [(4, LEAD)]),
    (200, 3600, 24, "BAND", "2", "5(B)", 100, 20, []),
    (200, 3600, 25, "GONE", "1", "6(A)", None, 20, [(99, LEAD)]),
    (200, 3600, 201, "BAND", "3", "7(A)", 13, 20, [(4, LEAD)]),
    (200, 3600, 202, "BAND", "4", "8(A)", 19, 20, [(4, LEAD)]),
    (300, 3600, 31, "ALG1", "1", "1(A)", 9, 25, [(1, LEAD)]),
    (300, 3600, 32, "BIO", "1", " 2 (A)  3(B) ", 10, 25, [(n, AIDE) for n in range(11, 22)]),
    (300, 3601, 33, "GOV", "1", "4(A)", 12, 25, [(5, LEAD), (3, CO_TEACHER)]),
    (300, 3602, 34, "GOV", "1", "4(A)", 1112, 25, [(3, LEAD)]),
    # In a coming term, those who begin it.
    (
        *(300, 3602, 301, "GOV", "2", "5(A)", 12, 20),
        [(1, LEAD, "2027-01-19", "2027-06-04"), (3, LEAD, "2026-08-17", "2026-12-18")],
    ),
    (300, 3602, 302, "ART", "1", "6(A)", 13, 20, [(1, LEAD)]),
    (300, 3602, 303, "ART", "2", "6(A)", 19, 20, [(1, LEAD)]),
    (320, 3600, 321, "ART", "1", "1(A)", 11, 20, [(1, LEAD)]),
    (320, 3600, 322, "ART", "2", "2(A)", 13, 20, [(1, LEAD)]),
    (320, 3600, 323, "ART", "3", "3(A)", 14, 20, [(1, LEAD)]),
    (300, 3602, 35, "PE", None, "7(A)", 912, 25, [(n, AIDE) for n in range(11, 21)]),
    (310, 3600, 41, "ALG1", "1", "1(A)", 10, 25, [(4, LEAD)]),
    (310, 3600, 42, "ART", "1", "2(A)", 101112, 0, [(4, LEAD)]),
    (310, 3600, 43, "ART", "2", "3(A)", 21, 25, [(4, LEAD)]),
    (400, 3500, 51, "PE", "1", "1(A)", 9, 25, [(4, LEAD)]),
    (900, 3600, 91, "PE", "1", "1(A)", 9, 25, [(4, LEAD)]),
]


def made(path: Path, schools: int = 2, sections: int = 20) -> Path:
    """A made district with as many sections in all, in four terms a school, without oddities."""
    numbers = [100 + school for school in range(schools)]
    terms = [
        (3600, "26-27", "2026-08-17", "2027-06-04"),
        (3601, "S1", "2026-08-17", "2026-12-18"),
        (3602, "S2", "2027-01-04", "2027-06-04"),
        (3603, "Q2", "2026-10-19", "2026-12-18"),
    ]
    kinds = ["Mat", "Sci", "Eng", "Gov", "Pe"]
    places = [(number, numbers[number % schools]) for number in range(1, sections + 1)]
    teachers = max(EVERYWHERE, sections // 10)
    staff = [
        (n, school, extra, (n + extra) % teachers)
        for n, school in places
        for extra in range(1 + n % 2)
    ]
    return create(
        path,
        {
            "schools": [(n, n, f"School {n}", 9, 12, 0) for n in numbers],
            "terms": [term(n, *one) for n in numbers for one in terms],
            "courses": [(f"C{n}", f"Course {n}", kinds[n % 5]) for n in range(200)],
            "teachers": made_teachers(numbers, {(school, who) for _, school, _, who in staff}),
            "roledef": ROLES,
            "sections": [
                (
                    *(n, school, 3600 + n // schools % 4, f"C{n % 200}", str(n)),
                    *(f"{n % 8}(A)", 9, None, f"P{n % 8}(A)"),
                )
                for n, school in places
            ],
            "sectionteacher": [
                (n * 10 + extra, n, staff_id(school, who), LEAD + extra, None, None)
                for n, school, extra, who in staff
            ],
            "cc": [(n, n, n, 3600 + n // schools % 4, school) for n, school in places],
        },
    )


EVERYWHERE = 40  # as many of a made district's teachers are at all schools


def made_teachers(schools: Iterable[int], teaching: set[tuple[int, int]]) -> list[Row]:
    """A row for each (school, teacher) of those who teach there, and of the first few at each."""
    first = {(school, number) for school in schools for number in range(EVERYWHERE)}
    return [
        (staff_id(school, n), 5000 + n, f"T{n}", f"t{n}@example.org", "T", str(n), 1, school)
        for school, n in sorted(teaching | first)
    ]


def put_other_files(folder: Path, schools: int = 2, sections: int = 20) -> None:
    """The schools and teachers files that a made district sends to Clever as well."""
    rows = "".join(f"{100 + number},School\n" for number in range(schools))
    (folder / "schools.csv").write_text(f"School_id,School_name\n{rows}")
    teachers = max(EVERYWHERE, sections // 10)
    rows = "".join(f"100,{5000 + number}\n" for number in range(teachers))
    (folder / "teachers.csv").write_text(f"School_id,Teacher_id\n{rows}")


def change(path: Path, sql: str) -> None:
    """Run statements on a database, also while it is served."""
    sqlite = sqlite3.connect(path)
    sqlite.executescript(sql)
    sqlite.close()
