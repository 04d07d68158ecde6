"""Period, Grade and Subject, case by case."""

import time
from contextlib import suppress

import pytest

import clever_sections


@pytest.mark.parametrize(
    ("expression", "period"),
    [
        ("3(A)", "3"),
        ("1-2(A)", "1-2"),
        ("1(A-B)", "1"),
        ("1(A) 3(B)", "1 3"),
        ("1(A),3(B)", "1 3"),
        ("1(A)3(B)", "1 3"),
        ("1(A), 3(B) 5-6(A,C)", "1 3 5-6"),
        ("HR(A-E)", "HR"),
        ("3(A", "3"),
        ("1(A) 3(B", "1 3"),
        ("3", "3"),
        ("  Block  2\n(A) ", "Block 2"),
        ("(A)", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_period(expression: str | None, period: str) -> None:
    assert clever_sections.period(expression) == period


ELEMENTARY, MIDDLE, HIGH, UNKNOWN = 5, 8, 12, 0


@pytest.mark.parametrize(
    ("level", "highest", "grade"),
    [
        (None, HIGH, ""),
        (0, HIGH, ""),
        (-1, ELEMENTARY, "Preschool"),
        (-3, HIGH, "Preschool"),
        (1, ELEMENTARY, "1"),
        (9, ELEMENTARY, "9"),
        (9, UNKNOWN, "9"),
        (10, HIGH, "10"),
        (12, HIGH, "12"),
        (11, 11, "11"),
        (12, 11, ""),
        (13, 12, ""),
        (13, 14, "13"),
        (14, 14, ""),
        (15, HIGH, ""),
        (19, HIGH, ""),
        (10, 10, "10"),
        (13, ELEMENTARY, "1-3"),
        (15, MIDDLE, "1-5"),
        (19, 9, "1-9"),
        (19, UNKNOWN, "1-9"),
        (23, HIGH, "2-3"),
        (10, ELEMENTARY, ""),
        (11, MIDDLE, ""),
        (12, ELEMENTARY, "1-2"),
        (13, HIGH, ""),
        (13, 13, "13"),
        (23, ELEMENTARY, "2-3"),
        (345, ELEMENTARY, "3-5"),
        (35, ELEMENTARY, "3-5"),
        (678, MIDDLE, "6-8"),
        (910, HIGH, "9-10"),
        (912, HIGH, "9-12"),
        (1011, HIGH, "10-11"),
        (1112, HIGH, "11-12"),
        (101112, HIGH, "10-12"),
        (112, ELEMENTARY, "1-12"),
        (123456789, MIDDLE, "1-9"),
        (123456789101112, HIGH, "1-12"),
        (21, ELEMENTARY, ""),
        (33, ELEMENTARY, ""),
        (100, HIGH, ""),
        (1210, HIGH, "1-10"),
        (1211, HIGH, "1-11"),
        (1312, HIGH, "1-12"),
        (1213, HIGH, ""),
        (99, HIGH, ""),
        (20, HIGH, ""),
    ],
)
def test_grade(level: int | None, highest: int, grade: str) -> None:
    assert clever_sections.grade(level, highest) == grade


@pytest.mark.parametrize(
    ("credit_type", "subject"),
    [
        ("Eng", "English/language arts"),
        ("MAT", "Math"),
        ("gls", "Social studies"),
        ("Gov", "Social studies"),
        ("Uhi", "Social studies"),
        ("Pe", "PE and health"),
        ("Sci", "Science"),
        ("hlt", "PE and health"),
        ("Social  Studies", "Social studies"),
        ("SocialStudies", "Social studies"),
        ("ARTS AND MUSIC", "Arts and music"),
        ("technology and engineering", "Technology and engineering"),
        ("Other", "other"),
        (" math\n", "Math"),
        ("Mus", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_subject(credit_type: str | None, subject: str) -> None:
    assert clever_sections.subject(credit_type) == subject


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (7, "7"),
        ("  a\tb \r\n c ", "a b c"),
        ("a\x00b\x1b\x7f\x9fc", "a b c"),
        ("one\x0bpage\x0ctwo", "one page two"),
        ("line\u2028next\u00a0word\x85end", "line next word end"),
        ("Español", "Español"),
    ],
)
def test_clean(value: object, text: str) -> None:
    assert clever_sections.clean(value) == text


def test_a_time_limit_comes_again_where_a_library_swallows_it() -> None:
    def swallow() -> None:
        with clever_sections.time_limit(0.2):
            with suppress(Exception):
                time.sleep(9)
            time.sleep(9)

    started = time.monotonic()
    with pytest.raises(clever_sections.TookTooLong):
        swallow()
    assert time.monotonic() - started < 5
