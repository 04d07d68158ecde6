"""Period, Grade and Subject, case by case; and the time limit."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

import clever_sections


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings can be changed, and what was remembered before or meanwhile does not count."""
    remembering = (clever_sections.period, clever_sections.subject)
    for function in remembering:
        function.cache_clear()
    yield monkeypatch
    for function in remembering:
        function.cache_clear()


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
        # A period that stands twice is written once, where it stood first.
        ("9-10(A-B,D) 12(C) 9-10(E)", "9-10 12"),
        ("1(A) 1(B)", "1"),
        ("1(A),2(B),1(C),2(D),3(E)", "1 2 3"),
        ("2(A)1(B) 2 (C)", "2 1"),
        ("1(A) 11(B) 1-11(C)", "1 11 1-11"),
        # Days of the cycle are no part of it: these two classes look alike.
        ("1(A) 2(B)", "1 2"),
        ("1(B) 2(A)", "1 2"),
        ("Block 2(A) block 2(B) Block  2(C)", "Block 2 block 2"),
        ("1((A))2(B)", "1 2"),
        (",1(A),,2(B),", "1 2"),
    ],
)
def test_period(expression: str | None, period: str) -> None:
    assert clever_sections.period(expression) == period


@pytest.mark.parametrize(
    ("expression", "period"),
    [
        ("1(A) 2(B)", "1(A) 2(B)"),
        (" 9-10(A-B,D)  12(C)\n9-10(E) ", "9-10(A-B,D) 12(C) 9-10(E)"),
        (None, ""),
    ],
)
def test_period_with_the_days_of_the_cycle(
    settings: pytest.MonkeyPatch, expression: str | None, period: str
) -> None:
    settings.setattr(clever_sections, "STRIP_TRACK_INFO", False)
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
    assert clever_sections.subject("ART1", credit_type) == subject


@pytest.mark.parametrize(
    ("course_number", "credit_type", "subject"),
    [
        ("ROBO1", "Mat", "Technology and engineering"),
        (" robo1\n", "Mat", "Technology and engineering"),
        ("Choir  A", None, "Arts and music"),
        ("ROBO10", "Mat", "Math"),
        ("ROBO", "Mus", ""),
        (None, "Mat", "Math"),
    ],
)
def test_the_subject_of_a_single_course(
    settings: pytest.MonkeyPatch,
    course_number: str | None,
    credit_type: str | None,
    subject: str,
) -> None:
    courses = {"Robo1 ": "Technology and engineering", "CHOIR A": "Arts and music"}
    settings.setattr(clever_sections, "COURSE_SUBJECTS", courses)
    assert clever_sections.subject(course_number, credit_type) == subject


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


@pytest.mark.parametrize(
    ("error", "is_answer"),
    [
        (OSError("Failure"), True),
        (PermissionError(13, "Permission denied"), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
        (OSError("Socket is closed"), False),
        (EOFError(), False),
        (TimeoutError(), False),
        (ConnectionResetError(104, "Connection reset by peer"), False),
    ],
)
def test_only_an_answer_of_the_server_is_a_refusal(error: Exception, is_answer: bool) -> None:
    with (
        pytest.raises(clever_sections.Failure) as caught,
        clever_sections.step("renaming", clever_sections.CLEVER),
    ):
        raise error
    assert isinstance(caught.value, clever_sections.Refused) == is_answer


def test_a_time_limit_comes_again_where_a_library_swallows_it() -> None:
    def swallow() -> None:
        with clever_sections.time_limit(0.2, "doing this", "Do that"):
            with suppress(Exception):
                time.sleep(60)
            time.sleep(60)

    with pytest.raises(clever_sections.Failure, match="^doing this: no end within 0.2 seconds. Do"):
        swallow()


def test_a_time_limit_goes_on_around_another_one() -> None:
    def nested() -> None:
        with clever_sections.time_limit(0.3, "the whole", "Do that"):
            with clever_sections.time_limit(60, "a part", "Do that"):
                time.sleep(0.1)
            time.sleep(60)

    with pytest.raises(clever_sections.Failure, match="^the whole: no end within 0.3 seconds"):
        nested()
