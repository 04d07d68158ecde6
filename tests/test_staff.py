"""Who is sent as a section's staff, and in which order: the lead teacher is Teacher_id."""

import csv
import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import district
import pytest
from job import Job
from powerschool import PowerSchool

import clever_sections
from clever_sections import Member, Term

YEAR = Term(3600, "Year 26-27", date(2026, 8, 17), date(2027, 6, 4), "", "")
FALL = Term(3601, "S1 26-27", date(2026, 8, 17), date(2026, 11, 20), "", "")
SPRING = Term(3602, "S2 26-27", date(2027, 1, 4), date(2027, 6, 4), "", "")
SNOW = Term(3602, "S2 26-27", date(2027, 1, 4), date(2027, 6, 11), "", "")  # moved


def lead(name: str, start: str = "", end: str = "", active: bool = True) -> Member:
    return member(name, start, end, active, is_lead=True)


def other(name: str, start: str = "", end: str = "", active: bool = True) -> Member:
    """A co-teacher or an aide."""
    return member(name, start, end, active, is_lead=False)


def member(name: str, start: str, end: str, active: bool, is_lead: bool) -> Member:
    first = date.fromisoformat(start) if start else date.min
    last = date.fromisoformat(end) if end else date.max
    return Member(teacher_id=name, is_lead=is_lead, is_active=active, start=first, end=last)


TO_OCTOBER = lead("Lee", "2026-08-17", "2026-10-15")
TO_NOVEMBER = lead("Diaz", "2026-10-16", "2026-11-20")
FROM_NOVEMBER_30 = lead("Roy", "2026-11-30")
AIDE = other("Aide")


@pytest.mark.parametrize(
    ("members", "staff"),
    [
        # The lead goes first, the others stay in their order, and each is there once.
        ([other("Co"), AIDE, lead("Lee")], ["Lee", "Co", "Aide"]),
        ([lead("Lee"), lead("Lee"), AIDE], ["Lee", "Aide"]),
        ([other("Lee"), AIDE, lead("Lee")], ["Lee", "Aide"]),
        ([], []),
        # The first and the last day count.
        ([lead("Lee", "2026-11-24", ""), AIDE], ["Lee", "Aide"]),
        ([lead("Lee", "", "2026-11-24"), AIDE], ["Lee", "Aide"]),
        # The new lead has come: the old one is not sent, whatever rows are left.
        ([TO_OCTOBER, lead("Diaz", "2026-10-16")], ["Diaz"]),
        ([lead("Diaz", "2026-10-16"), TO_OCTOBER, AIDE], ["Diaz", "Aide"]),
        # An aide who has left, and one who has not come.
        ([lead("Lee"), other("Old", "", "2026-11-23"), other("New", "2026-11-25")], ["Lee"]),
        # All have ended before their term: its latest lead, not who left in October.
        ([TO_OCTOBER, TO_NOVEMBER, other("Co", "", "2026-11-20")], ["Diaz"]),
        ([TO_NOVEMBER, TO_OCTOBER], ["Diaz"]),
        # The lead has ended, and the aide is assigned throughout: he is no lead for that.
        ([AIDE, TO_OCTOBER, TO_NOVEMBER], ["Diaz", "Aide"]),
        # So does a lead who is yet to come: no end is the latest of all.
        ([AIDE, TO_NOVEMBER, FROM_NOVEMBER_30], ["Roy", "Aide"]),
        ([AIDE, TO_NOVEMBER, lead("Roy", "2026-11-30", "2027-06-04")], ["Roy", "Aide"]),
        ([FROM_NOVEMBER_30], ["Roy"]),
        # Who shares the last end, stays.
        ([TO_OCTOBER, TO_NOVEMBER, lead("Fox", "", "2026-11-20"), AIDE], ["Diaz", "Fox", "Aide"]),
        # One who was lead and is now a co-teacher is sent once.
        ([lead("Lee", "", "2026-10-15"), other("Lee", "2026-10-16"), AIDE], ["Lee", "Aide"]),
        # Inactive staff do not count, whatever their dates; even a lead gives way to others.
        ([lead("Gone", active=False), lead("Lee")], ["Lee"]),
        ([lead("Gone", active=False), AIDE], ["Aide"]),
        ([lead("Gone", active=False), TO_OCTOBER, AIDE], ["Lee", "Aide"]),
        ([lead("Lee"), other("Gone", active=False)], ["Lee"]),
        # Nobody is current and no lead is active: those who were assigned last, and not all.
        ([other("Co", "", "2026-10-15"), other("Aide", "", "2026-11-20")], ["Aide"]),
        ([other("Co", "", "2026-11-20"), other("Aide", "", "2026-11-20")], ["Co", "Aide"]),
        ([lead("Gone", active=False)], ["Gone"]),
        ([other("Co", "", "2026-10-15"), lead("Gone", "", "2026-11-20", active=False)], ["Gone"]),
        ([lead("Gone", "", "2026-10-15", active=False), other("Co", "", "2026-11-20")], ["Co"]),
    ],
)
def test_on_november_24(members: list[Member], staff: list[str]) -> None:
    assert clever_sections.staff_to_send(members, YEAR, date(2026, 11, 24)) == staff


@pytest.mark.parametrize(
    ("day", "staff"),
    [
        ("2026-10-15", ["Lee", "Aide"]),
        ("2026-10-16", ["Diaz", "Aide"]),
        ("2026-11-20", ["Diaz", "Aide"]),
        ("2026-11-21", ["Roy", "Aide"]),
        ("2026-11-29", ["Roy", "Aide"]),
        ("2026-11-30", ["Roy", "Aide"]),
        ("2027-06-04", ["Roy", "Aide"]),
    ],
)
def test_a_class_is_renamed_once_for_each_new_lead(day: str, staff: list[str]) -> None:
    members = [AIDE, TO_OCTOBER, TO_NOVEMBER, FROM_NOVEMBER_30]
    assert clever_sections.staff_to_send(members, YEAR, date.fromisoformat(day)) == staff


@pytest.mark.parametrize(
    ("term", "day", "members", "staff"),
    [
        # Of a term that is over, those who ended it; one who came later is none of them.
        (FALL, "2026-11-24", [TO_OCTOBER, TO_NOVEMBER, other("Co", "2026-11-21")], ["Diaz"]),
        # Of a coming one, those who begin it.
        (
            *(SPRING, "2026-11-24"),
            [lead("Lee", "", "2026-12-18"), lead("Diaz", "2027-01-04"), other("Co", "2027-01-05")],
            ["Diaz"],
        ),
        # A term is moved for snow, and the dates of its staff are not.
        (SNOW, "2027-06-04", [AIDE, lead("Lee", "2027-01-04", "2027-06-04")], ["Lee", "Aide"]),
        (SNOW, "2027-06-08", [AIDE, lead("Lee", "2027-01-04", "2027-06-04")], ["Lee", "Aide"]),
        (
            *(SNOW, "2027-06-30"),
            [TO_OCTOBER, lead("Lee", "", "2027-06-04"), other("Co", "", "2027-06-04")],
            ["Lee"],
        ),
    ],
)
def test_the_day_that_counts(term: Term, day: str, members: list[Member], staff: list[str]) -> None:
    assert clever_sections.staff_to_send(members, term, date.fromisoformat(day)) == staff


def test_former_staff_are_sent_if_a_district_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clever_sections, "IGNORE_FORMER_STAFF", False)
    members = [other("Gone", active=False), TO_OCTOBER, FROM_NOVEMBER_30, AIDE]
    staff = clever_sections.staff_to_send(members, YEAR, date(2026, 11, 24))
    assert staff == ["Lee", "Roy", "Gone", "Aide"]


# --- Through the whole job: who is meant by an id, and who is active ---

SCHOOLS = (100, 200, 300)

# id, users_dcid, e-mail, status (1 is active), schoolid
TEACHERS = [
    # 7 stands for two people at two schools, and nobody at the third has this id.
    (7, 701, "ann@example.org", 1, 100),
    (7, 702, "bo@example.org", 1, 200),
    # 8 as well, but the one of school 100 has no e-mail address.
    (8, 801, None, 1, 100),
    (8, 802, "cy@example.org", 1, 200),
    # Inactive at school 100, and active at another one, under another id.
    (10, 901, "di@example.org", 2, 100),
    (20, 901, "di@example.org", 1, 200),
    # Inactive everywhere.
    (11, 902, "ed@example.org", 2, 100),
    (21, 902, "ed@example.org", 2, 200),
    (12, 903, "flo@example.org", 1, 100),
    (13, 904, "gus@example.org", 1, 100),
    (14, 905, " ", 1, 100),  # blanks are no address
    (15, None, "nobody@example.org", 1, 100),
]
LEAD, CO, AIDE_ROLE = district.LEAD, district.CO_TEACHER, district.AIDE

# Section id, its school, and its staff: id, role and, where they are set, first and last day.
SECTIONS: list[tuple[int, int, list[tuple[Any, ...]]]] = [
    (1, 100, [(7, LEAD)]),
    (2, 200, [(7, LEAD)]),
    (3, 300, [(7, LEAD)]),
    (4, 100, [(8, LEAD), (12, CO)]),
    (5, 100, [(12, CO), (10, LEAD)]),
    (6, 100, [(11, LEAD), (12, CO)]),
    (7, 100, [(11, LEAD)]),
    (8, 100, [(12, AIDE_ROLE), (13, LEAD, None, "2026-11-20"), (10, LEAD, None, "2026-10-15")]),
    (9, 100, [(12, CO, None, "2026-10-15"), (13, CO, None, "2026-11-20"), (10, LEAD)]),
    (10, 100, [(14, LEAD), (12, CO)]),
    (11, 100, [(15, LEAD), (12, CO)]),
    (12, 100, [(99, LEAD), (12, 77)]),  # there is nobody with this id, and no such role
    (13, 100, [(12, district.COUNSELOR), (13, LEAD)]),
    (14, 100, []),
]


@pytest.fixture
def powerschool(tmp_path: Path) -> Iterator[PowerSchool]:
    staff = [(section, *one) for section, _, members in SECTIONS for one in members]
    database = district.create(
        tmp_path / "staff.db",
        {
            "schools": [(n, n, f"School {n}", 9, 12, 0) for n in SCHOOLS],
            "terms": [district.term(n, 3600, "26-27", "2026-08-17", "2027-06-04") for n in SCHOOLS],
            "courses": [("ART", "Art", "Arts and Music")],
            "roledef": district.ROLES,
            "teachers": [
                (number, dcid, f"T{dcid}", email, "First", "Last", status, school)
                for number, dcid, email, status, school in TEACHERS
            ],
            "sections": [
                (number, school, 3600, "ART", "1", "1(A)", 9, None, None)
                for number, school, _ in SECTIONS
            ],
            "sectionteacher": [
                (place, section, teacher, role, *map(district.moment, dates or (None, None)))
                for place, (section, teacher, role, *dates) in enumerate(staff)
            ],
        },
    )
    with PowerSchool(database) as server:
        yield server


AS_THEY_ARE = {
    "1": ["701"],
    "2": ["702"],
    "3": ["701", "702"],  # only where the school has nobody with this id, the others
    "4": ["801", "903"],
    "5": ["901", "903"],  # active at another school
    "6": ["903"],
    "7": ["902"],  # nobody else is there
    "8": ["904", "903"],
    "9": ["901"],
    "10": ["905", "903"],
    "11": ["903"],
    "12": ["903"],
    "13": ["904", "903"],
    "14": [],
}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {}),
        # No stranger for one who is left out, and no other lead for a lead who is left out.
        (
            {"IGNORE_TEACHERS_WITHOUT_EMAILS": True},
            {"4": ["903"], "10": ["903"]},
        ),
        # A role that is ignored is ignored even if nobody is left.
        (
            {"IGNORED_ROLES": {" TEACHER", "classroom aide"}},
            {
                **{"1": [], "2": [], "3": [], "4": ["903"], "5": ["903"], "7": [], "8": []},
                **{"9": ["904"], "10": ["903"], "13": ["903"]},
            },
        ),
        (
            {"IGNORE_FORMER_STAFF": False},
            {
                **{"6": ["902", "903"], "8": ["904", "901", "903"]},
                "9": ["901", "903", "904"],
            },
        ),
    ],
)
def test_the_staff_of_each_section(
    powerschool: PowerSchool,
    job: Job,
    settings: dict[str, object],
    changes: dict[str, list[str]],
) -> None:
    ended = job.connect(powerschool).set(**settings).run("--dry-run")
    assert ended.status == 0
    found = {}
    for row in csv.DictReader(io.StringIO(job.output.read_text())):
        columns = [value for name, value in row.items() if name.startswith("Teacher_")]
        found[row["Section_id"]] = [value for value in columns if value]
    assert found == AS_THEY_ARE | changes
