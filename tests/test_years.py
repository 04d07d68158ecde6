"""Which school years are sent, day by day: a district of calendars that are no textbook's.

All that must come out was written by hand, from the rules in the README.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import district
import pytest
from clever import Clever
from job import Ended, Job
from powerschool import PowerSchool

import clever_sections

SCHOOLS = {
    100: "Regular High",
    110: "Early Elementary",  # its year ends a week before the high school's
    120: "Summer School",
    130: "Year-Round",  # with 12 days between two years
    140: "Overlap",
    150: "Shared Day",
    160: "Snow Days",  # its last term was moved beyond the end of the year's record
    170: "Summer Term",  # in the same year, after the end of the year's record
    180: "Record Only",
    190: "No Record",
    200: "No Dates",  # of two terms
    210: "Never",  # a year without any date
    220: "Typed 2207",
    230: "Typed 2025",
}

# school, term (its first two digits are the yearid: 36 is 2026 and 2027), short name, first and
# last day. A term whose number ends in 00 is the record of the year.
TERMS = [
    (100, 3500, "25-26", "2025-08-18", "2026-06-04"),
    (100, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (100, 3601, "S1", "2026-08-17", "2026-12-18"),
    (100, 3602, "S2", "2027-01-04", "2027-06-04"),
    (100, 3700, "27-28", "2027-08-16", "2028-06-02"),
    (110, 3600, "26-27", "2026-08-17", "2027-05-28"),
    (110, 3700, "27-28", "2027-08-16", "2028-05-26"),
    (120, 3500, "25-26", "2026-06-08", "2026-07-10"),
    (120, 3600, "26-27", "2027-06-07", "2027-07-09"),
    (130, 3500, "25-26", "2025-07-14", "2026-06-30"),
    (130, 3600, "26-27", "2026-07-13", "2027-06-30"),
    (130, 3700, "27-28", "2027-07-12", "2028-06-30"),
    (140, 3600, "26-27", "2026-08-17", "2027-06-18"),
    (140, 3700, "27-28", "2027-06-14", "2028-06-02"),
    (150, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (150, 3700, "27-28", "2027-06-04", "2028-06-02"),
    (160, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (160, 3602, "S2", "2027-01-04", "2027-06-11"),
    (170, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (170, 3605, "SU", "2027-06-07", "2027-07-16"),
    (180, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (190, 3601, "S1", "2026-08-17", "2026-12-18"),
    (190, 3602, "S2", "2027-01-04", "2027-06-04"),
    (200, 3600, "26/27", "2026-08-17", "2027-06-04"),
    (200, 3601, "Q1", None, None),
    (200, 3602, "Q2", None, None),
    (210, 3600, "26-27", None, None),
    (210, 3601, "S1", None, None),
    (220, 3600, "26-27", "2026-08-17", "2207-06-04"),
    (220, 3602, "S2", "2027-01-04", "2027-06-04"),
    (230, 3600, "26-27", "2026-08-17", "2027-06-04"),
    (230, 3601, "S1", "2025-08-17", "2026-12-18"),
]

# What Clever gets of a school's year: each term has one section, but summer school's has five.
SENT = {
    (100, 35): ["Year 25-26"],
    (100, 36): ["Year 26-27", "S1 26-27", "S2 26-27"],
    (100, 37): ["Year 27-28"],
    (110, 36): ["Year 26-27"],
    (110, 37): ["Year 27-28"],
    (120, 35): ["Year 25-26"] * 5,
    (120, 36): ["Year 26-27"] * 5,
    (130, 35): ["Year 25-26"],
    (130, 36): ["Year 26-27"],
    (130, 37): ["Year 27-28"],
    (140, 36): ["Year 26-27"],
    (140, 37): ["Year 27-28"],
    (150, 36): ["Year 26-27"],
    (150, 37): ["Year 27-28"],
    (160, 36): ["Year 26-27", "S2 26-27"],
    (170, 36): ["Year 26-27", "SU 26-27"],
    (180, 36): ["Year 26-27"],
    (190, 36): ["S1 26-27", "S2 26-27"],
    (200, 36): ["Year 26/27", "Q1 26/27", "Q2 26/27"],
    (220, 36): ["Year 26-27", "S2 26-27"],
    (230, 36): ["Year 26-27", "S1 26-27"],
}

FIRST_DAY, LAST_DAY = date(2026, 8, 10), date(2027, 10, 31)
ALWAYS = "2026-08-10"  # from the first day that is looked at

# By TERM_START_OFFSET_DAYS and TERM_END_OFFSET_DAYS, for each school: the years that are sent, from
# each of these days to the one before the next.
Calendar = dict[int, dict[str, list[int]]]
UNTIL_SEPTEMBER = {ALWAYS: [], "2026-08-17": [36], "2027-09-03": []}
AS_IT_COMES: Calendar = {
    100: {ALWAYS: [35], "2026-08-17": [36], "2027-08-16": [37]},
    110: {ALWAYS: [], "2026-08-17": [36], "2027-08-16": [37]},
    120: {ALWAYS: [35], "2026-10-09": [], "2027-06-07": [36], "2027-10-08": []},
    130: {ALWAYS: [36], "2027-07-12": [37]},
    140: {ALWAYS: [], "2026-08-17": [36], "2027-06-14": [36, 37], "2027-06-19": [37]},
    150: {ALWAYS: [], "2026-08-17": [36], "2027-06-04": [36, 37], "2027-06-05": [37]},
    160: {ALWAYS: [], "2026-08-17": [36], "2027-09-10": []},
    170: {ALWAYS: [], "2026-08-17": [36], "2027-10-15": []},
    180: UNTIL_SEPTEMBER,
    190: UNTIL_SEPTEMBER,
    200: UNTIL_SEPTEMBER,
    210: {ALWAYS: []},
    220: UNTIL_SEPTEMBER,
    230: UNTIL_SEPTEMBER,
}
EARLY_UNTIL_SEPTEMBER = {ALWAYS: [36], "2027-09-03": []}
THREE_WEEKS_EARLY: Calendar = {
    100: {ALWAYS: [36], "2027-07-26": [37]},
    110: {ALWAYS: [36], "2027-07-26": [37]},
    120: {ALWAYS: [35], "2026-10-09": [], "2027-05-17": [36], "2027-10-08": []},
    130: {ALWAYS: [36], "2027-06-21": [36, 37], "2027-07-01": [37]},
    140: {ALWAYS: [36], "2027-05-24": [36, 37], "2027-06-19": [37]},
    150: {ALWAYS: [36], "2027-05-14": [36, 37], "2027-06-05": [37]},
    160: {ALWAYS: [36], "2027-09-10": []},
    170: {ALWAYS: [36], "2027-10-15": []},
    180: EARLY_UNTIL_SEPTEMBER,
    190: EARLY_UNTIL_SEPTEMBER,
    200: EARLY_UNTIL_SEPTEMBER,
    210: {ALWAYS: []},
    220: EARLY_UNTIL_SEPTEMBER,
    230: EARLY_UNTIL_SEPTEMBER,
}
UNTIL_JUNE = {ALWAYS: [], "2026-08-17": [36], "2027-06-05": []}
TO_THE_DAY: Calendar = {
    100: {ALWAYS: [], "2026-08-17": [36], "2027-06-05": [], "2027-08-16": [37]},
    110: {ALWAYS: [], "2026-08-17": [36], "2027-05-29": [], "2027-08-16": [37]},
    120: {ALWAYS: [], "2027-06-07": [36], "2027-07-10": []},
    130: {ALWAYS: [36], "2027-07-01": [], "2027-07-12": [37]},
    140: {ALWAYS: [], "2026-08-17": [36], "2027-06-14": [36, 37], "2027-06-19": [37]},
    150: {ALWAYS: [], "2026-08-17": [36], "2027-06-04": [36, 37], "2027-06-05": [37]},
    160: {ALWAYS: [], "2026-08-17": [36], "2027-06-12": []},
    170: {ALWAYS: [], "2026-08-17": [36], "2027-07-17": []},
    180: UNTIL_JUNE,
    190: UNTIL_JUNE,
    200: UNTIL_JUNE,
    210: {ALWAYS: []},
    220: UNTIL_JUNE,
    230: UNTIL_JUNE,
}
CALENDARS = {(0, 90): AS_IT_COMES, (21, 90): THREE_WEEKS_EARLY, (0, 0): TO_THE_DAY}


def sent(calendar: Calendar, day: str, *schools: int) -> dict[str, list[str]]:
    """For each school of which something is sent on a day, the names of its sections' terms."""
    names = {}
    for school in schools or SCHOOLS:
        start = max(start for start in calendar[school] if start <= day)
        if years := calendar[school][start]:
            names[str(school)] = [name for year in years for name in SENT[school, year]]
    return names


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def in_file(path: Path) -> dict[str, list[str]]:
    """For each school in a sections file, the names of its sections' terms."""
    found = defaultdict(list)
    for row in rows(path.read_bytes()):
        found[row["School_id"]].append(row["Term_name"])
    return dict(found)


def year_district(path: Path, *schools: int) -> Path:
    """The district, or some of its schools. Section 1003601 is the first in school 100, term 3601;
    the others there are 100360101 and so on."""
    terms: list[district.Row] = []
    sections: list[tuple[Any, ...]] = []
    for school, number, short, first, last in TERMS:
        if school not in (schools or SCHOOLS):
            continue
        days = [f"{day} 00:00:00" if day else None for day in (first, last)]
        is_year = int(number % 100 == 0)
        terms.append((number, school, number // 100, short, short, *days, is_year, 1))
        first_id = school * 10_000 + number
        ids = [first_id, *range(first_id * 100 + 1, first_id * 100 + 5)]
        for place, one in enumerate(ids if school == 120 else ids[:1], start=1):
            row = (one, school, number, "ART", str(place), f"{place}(A)", 9, None, None)
            sections.append(row)
    return district.create(
        path,
        {
            "schools": [(n, n, SCHOOLS[n], 9, 12, 0) for n in schools or SCHOOLS],
            "terms": terms,
            "courses": [("ART", "Art", "Arts and Music")],
            "teachers": [
                (district.staff_id(n, 1), 501, "T1", "a@example.org", "Ann", "Lee", 1, n)
                for n in schools or SCHOOLS
            ],
            "roledef": district.ROLES,
            "sections": sections,
            "sectionteacher": [
                (section, section, district.staff_id(school, 1), district.LEAD, None, None)
                for section, school, *_ in sections
            ],
        },
    )


Start = Callable[..., PowerSchool]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a PowerSchool with these schools."""
    started = []

    def start(*schools: int) -> PowerSchool:
        powerschool = PowerSchool(year_district(tmp_path / "years.db", *schools))
        started.append(powerschool)
        return powerschool.__enter__()

    yield start
    for powerschool in started:
        powerschool.__exit__(None, None, None)


# --- Every day of more than a year ---


@pytest.mark.parametrize("school", SCHOOLS)
@pytest.mark.parametrize("offsets", CALENDARS)
def test_each_day_of_a_year(
    monkeypatch: pytest.MonkeyPatch, school: int, offsets: tuple[int, int]
) -> None:
    """Without a database: one query is answered from TERMS, as its WHERE and ORDER BY have it."""

    def query(db: object, what: str, sql: str, **binds: int) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                id=number,
                yearid=number // 100,
                abbreviation=short,
                isyearrec=int(number % 100 == 0),
                firstday=date_and_time(first),
                lastday=date_and_time(last),
            )
            for other, number, short, first, last in TERMS
            if other == binds["school"] and number // 100 >= binds["first_year"]
        ]

    monkeypatch.setattr(clever_sections.PowerSchool, "__init__", lambda self: None)
    monkeypatch.setattr(clever_sections.PowerSchool, "query", query)
    powerschool = clever_sections.PowerSchool()
    monkeypatch.setattr(clever_sections, "TERM_START_OFFSET_DAYS", offsets[0])
    monkeypatch.setattr(clever_sections, "TERM_END_OFFSET_DAYS", offsets[1])
    row = SimpleNamespace(school_number=school)
    day = FIRST_DAY
    while day <= LAST_DAY:
        terms = powerschool.terms_to_send(row, day)
        names = sent(CALENDARS[offsets], str(day), school).get(str(school), [])
        assert (day, [term.name for term in terms]) == (day, list(dict.fromkeys(names)))
        day += timedelta(days=1)


def test_of_two_years_that_are_over_the_later_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def query(db: object, what: str, sql: str, **binds: int) -> list[SimpleNamespace]:
        """Two years, as the query has them."""
        return [
            SimpleNamespace(
                id=100 * (year - 1990),
                yearid=year - 1990,
                abbreviation=f"{year}",
                isyearrec=1,
                firstday=datetime(year, 8, 17),
                lastday=datetime(year + 1, 6, 4),
            )
            for year in (2025, 2026)
        ]

    monkeypatch.setattr(clever_sections.PowerSchool, "__init__", lambda self: None)
    monkeypatch.setattr(clever_sections.PowerSchool, "query", query)
    monkeypatch.setattr(clever_sections, "TERM_END_OFFSET_DAYS", 400)
    school = SimpleNamespace(school_number=100)
    terms = clever_sections.PowerSchool().terms_to_send(school, date(2027, 7, 1))
    assert [term.name for term in terms] == ["Year 2026"]


def date_and_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


# --- Some of these days through the whole job; further ones are nights below ---


@pytest.mark.parametrize(
    ("offsets", "day"),
    [
        ((0, 90), "2026-08-16"),  # the day before school starts
        ((0, 90), "2026-10-08"),  # last year's summer school is 90 days over
        ((0, 90), "2027-06-18"),  # of two years that overlap
        ((0, 90), "2027-07-11"),  # between two years of the year-round school
        ((21, 90), "2027-06-21"),  # the year-round school's next year comes, and this one stays
        ((0, 0), "2027-06-11"),  # the last day of the term that was moved for snow
    ],
)
def test_a_day(start: Start, job: Job, offsets: tuple[int, int], day: str) -> None:
    job.connect(start()).set(TERM_START_OFFSET_DAYS=offsets[0], TERM_END_OFFSET_DAYS=offsets[1])
    ended = job.run("--dry-run", "--date", day)
    assert (ended.status, ended.stderr) == (0, "")
    assert in_file(job.output) == sent(CALENDARS[offsets], day)


def test_the_terms_in_november(start: Start, job: Job) -> None:
    ended = job.connect(start()).run("--dry-run", "--date", "2026-11-24")
    assert (ended.status, ended.stderr) == (0, "")
    columns = ("Section_id", "Term_start", "Term_end", "Term_name")
    assert [tuple(row[column] for column in columns) for row in rows(job.output.read_bytes())] == [
        ("1003600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("1003601", "08/17/2026", "12/18/2026", "S1 26-27"),
        ("1003602", "01/04/2027", "06/04/2027", "S2 26-27"),
        ("1103600", "08/17/2026", "05/28/2027", "Year 26-27"),
        ("1303600", "07/13/2026", "06/30/2027", "Year 26-27"),
        ("1403600", "08/17/2026", "06/18/2027", "Year 26-27"),
        ("1503600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("1603600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("1603602", "01/04/2027", "06/11/2027", "S2 26-27"),
        ("1703600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("1703605", "06/07/2027", "07/16/2027", "SU 26-27"),
        ("1803600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("1903601", "08/17/2026", "12/18/2026", "S1 26-27"),
        ("1903602", "01/04/2027", "06/04/2027", "S2 26-27"),
        # The name of a year is its record's, and a term without dates has those of the year.
        ("2003600", "08/17/2026", "06/04/2027", "Year 26/27"),
        ("2003601", "08/17/2026", "06/04/2027", "Q1 26/27"),
        ("2003602", "08/17/2026", "06/04/2027", "Q2 26/27"),
        # A typing error counts as no date.
        ("2203600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("2203602", "01/04/2027", "06/04/2027", "S2 26-27"),
        ("2303600", "08/17/2026", "06/04/2027", "Year 26-27"),
        ("2303601", "08/17/2026", "12/18/2026", "S1 26-27"),
    ]
    assert "school 210, yearid 36: no date" in ended.log
    assert "school 220, term 3600: 06/04/2207 is not in its year" in ended.log
    assert "school 230, term 3601: 08/17/2025 is not in its year" in ended.log
    assert ended.log.count("is not in its year") == 2
    assert ": 120 Summer School, 0 terms, 0 sections\n" in ended.log
    assert ": 210 Never, 0 terms, 0 sections\n" in ended.log


# --- Night after night ---


def night(job: Job, clever: Clever, day: str, **settings: object) -> Ended:
    """A night that must go well, and mail nobody."""
    ended = job.set(**settings).run("--date", day)
    assert (ended.status, ended.stderr) == (0, "")
    assert (clever.folder / "Sections.csv").read_bytes() == job.uploaded.read_bytes()
    return ended


@pytest.mark.takes_long
def test_the_nights_of_a_summer(start: Start, clever: Clever, job: Job) -> None:
    """What is in Clever, and nobody is mailed; nor does the guard mind that years end."""
    job.connect(start(), clever)
    for day in [
        "2027-05-29",  # the elementary school's year has ended
        "2027-06-04",
        "2027-06-05",  # most years have ended
        "2027-06-07",  # summer school starts
        "2027-07-12",  # the year-round school goes on
        "2027-08-16",  # the next year
        "2027-09-03",  # what ended in June and has no next year is over
    ]:
        night(job, clever, day)
        assert in_file(clever.folder / "Sections.csv") == sent(AS_IT_COMES, day)


def test_what_has_ended_goes_at_once_without_an_offset(
    start: Start, clever: Clever, job: Job
) -> None:
    job.connect(start(), clever).set(TERM_END_OFFSET_DAYS=0)
    for day in ["2027-06-04", "2027-06-05", "2027-07-01"]:
        night(job, clever, day)
        assert in_file(clever.folder / "Sections.csv") == sent(TO_THE_DAY, day)


def test_classes_of_a_year_round_school_stay_beside_those_that_come(
    start: Start, clever: Clever, job: Job
) -> None:
    job.connect(start(130), clever).set(TERM_START_OFFSET_DAYS=21)
    for day in ["2027-06-20", "2027-06-21", "2027-06-30", "2027-07-01"]:
        night(job, clever, day)
        assert in_file(clever.folder / "Sections.csv") == sent(THREE_WEEKS_EARLY, day, 130)


def test_a_term_is_moved_for_snow(start: Start, clever: Clever, job: Job) -> None:
    powerschool = start(100)
    job.connect(powerschool, clever)
    night(job, clever, "2027-06-03")
    change = "UPDATE terms SET lastday = '2027-06-11 00:00:00' WHERE id = 3602"
    district.change(powerschool.database, change)
    ended = night(job, clever, "2027-06-04")
    assert "1 changed: Term_end 1" in ended.log
    before = (clever.folder / "Sections.csv").read_bytes()
    night(job, clever, "2027-06-11", TERM_END_OFFSET_DAYS=0)
    assert (clever.folder / "Sections.csv").read_bytes() == before
    ended = night_without_school(job, "2027-06-12")
    assert (clever.folder / "Sections.csv").read_bytes() == before


def night_without_school(job: Job, day: str) -> Ended:
    """A night in summer: nothing is uploaded, and nobody is mailed."""
    ended = job.run("--date", day)
    assert (ended.status, ended.stderr) == (0, "")
    assert "no school is in session: nothing written, nothing uploaded" in ended.log
    return ended


def test_no_school_is_in_session_though_sections_have_not_ended(
    start: Start, clever: Clever, job: Job
) -> None:
    powerschool = start(120)
    job.connect(powerschool, clever)
    night(job, clever, "2027-06-21")
    before = (clever.folder / "Sections.csv").read_bytes()
    district.change(powerschool.database, "DELETE FROM terms WHERE id = 3600")
    job.set(TERM_END_OFFSET_DAYS=0)
    ended = job.run("--date", "2027-06-22")
    assert ended.status == 1
    assert "no school is in session, yet 5 of Clever's sections have not ended" in ended.stderr
    assert (clever.folder / "Sections.csv").read_bytes() == before


# --- The guard in summer ---


def test_sections_of_a_summer_school_are_cancelled(start: Start, clever: Clever, job: Job) -> None:
    """Only these five have not ended: two are more than a tenth, but only two."""
    powerschool = start(100, 120)
    job.connect(powerschool, clever)
    night(job, clever, "2027-06-21")
    three = "id IN (120360001, 120360002, 120360003)"
    district.change(powerschool.database, f"UPDATE sections SET termid = 0 WHERE {three}")
    ended = job.run("--date", "2027-06-22")
    assert ended.status == 1
    assert "Clever would lose 3 of 5 sections that have not ended" in ended.stderr
    assert len(in_file(clever.folder / "Sections.csv")["120"]) == 5
    one = "UPDATE sections SET termid = 3600 WHERE id = 120360003"
    district.change(powerschool.database, one)
    night(job, clever, "2027-06-22")
    assert len(in_file(clever.folder / "Sections.csv")["120"]) == 3
