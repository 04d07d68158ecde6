"""What the fault suite checks after every run, and settings so short that it need not wait."""

import os
import time
from collections.abc import Callable, Iterable

from clever import Clever
from job import Ended, Job

# Yesterday's file, here and in Clever: its only section has ended, so it may go without a word.
OLD = b"School_id,Section_id,Teacher_id,Term_end\n100,9000001,5001,06/05/2026\n"
QUICK = {"CONNECT_TIMEOUT_SECONDS": 2, "QUERY_TIMEOUT_SECONDS": 1, "RETRY_DELAY_SECONDS": 0}
NEW_FILES = {
    "Sections.csv",
    "Sections.uploaded.csv",
    "clever_sections.lock",
    "clever_sections.log",
}
AFTER_COMPARING = {"Sections.changes.csv", "Sections.previous.csv"}  # beside NEW_FILES
NOISE = ("Traceback", "Exception ignored", "Warning:", "Error in", 'File "', "Help: http", ": . ")


def check_clean(job: Job, ended: Ended) -> None:
    """No noise, no secrets, no leftovers, and nothing that others can read."""
    for text in (ended.stdout, ended.stderr, ended.log):
        for noise in NOISE:
            assert noise not in text
        for name, secret in job.environment.items():
            assert "PASSWORD" not in name or len(secret) < 3 or secret not in text
    assert not [name for name in ended.files if name.endswith(".tmp")]
    check_private(job)


def check_private(job: Job) -> None:
    """What the last run wrote, which is newer than its lock, is for its own user only."""
    lock = job.folder / "clever_sections.lock"
    if lock.exists():
        for path in [job.log, *job.folder.glob("Sections*.csv")]:
            if path.is_file() and path.stat().st_mtime_ns > lock.stat().st_mtime_ns:
                assert path.stat().st_mode & 0o077 == 0, path.name


def check_failed(
    job: Job, ended: Ended, *words: str, local: bytes | None = OLD, status: int = 1
) -> None:
    """It failed with one line that holds these words, and the file here is `local`."""
    assert ended.status == status
    assert ended.stderr.startswith("ERROR ")
    assert ended.stderr.count("\n") == 1
    for word in words:
        assert word in ended.stderr
    assert ended.log.split("\n")[-2][20:] == ended.stderr.rstrip("\n")
    if local is not None:
        assert job.output.read_bytes() == local
    assert not job.uploaded.exists()
    check_clean(job, ended)


def check_held(job: Job, ended: Ended, clever: Clever, before: bytes, *words: str) -> None:
    """The upload was held back, with one line that holds these words.

    Clever has what it had before, and so has the copy of the last upload, if there is one.
    """
    assert ended.status == 1
    assert ended.stderr.startswith("ERROR ")
    assert ended.stderr.count("\n") == 1
    for word in words:
        assert word in ended.stderr
    assert ended.stderr.removeprefix("ERROR ") in ended.log
    assert not job.uploaded.exists() or job.uploaded.read_bytes() == before
    assert "Sections.previous.csv" not in ended.files
    check_remote(clever, before, *other_files(clever))
    check_clean(job, ended)


def check_remote(clever: Clever, content: bytes, *others: str) -> None:
    """Clever has this in Sections.csv, byte for byte, and beside it these files only."""
    assert (clever.folder / "Sections.csv").read_bytes() == content
    assert sorted(os.listdir(clever.folder)) == sorted(["Sections.csv", *others])


def other_files(clever: Clever) -> list[str]:
    """What is in Clever's folder beside Sections.csv, and what it is written under."""
    own = ("Sections.csv", "Sections.csv.tmp")
    return [path.name for path in clever.files() if path.name not in own]


def check_uploaded(
    job: Job, ended: Ended, clever: Clever, sections: int = 20, mailed: str = ""
) -> None:
    """All is well: the new file is whole, here and in Clever, and nobody is mailed.

    With `mailed` one line is that holds these words. Clever's other files are not stored again.
    """
    assert ended.status == 0
    if mailed:
        assert ended.stderr.startswith("WARNING ")
        assert ended.stderr.count("\n") == 1
    assert mailed in ended.stderr if mailed else ended.stderr == ""
    content = job.output.read_bytes()
    assert content.count(b"\n") == sections + 1
    assert job.uploaded.read_bytes() == content
    assert ended.files - AFTER_COMPARING == NEW_FILES
    check_remote(clever, content, *other_files(clever))
    assert {name for name, _ in clever.stored} <= {"Sections.csv", "Sections.csv.tmp"}
    check_clean(job, ended)


def check_attempts(ended: Ended, doing: str, words: Iterable[str]) -> None:
    """The log has a line for each attempt that failed: it begins like that, and says these words.

    The last one is no such line if the run failed.
    """
    lines = [line for line in ended.log.splitlines() if " INFO attempt " in line]
    for line, said in zip(lines, words, strict=True):
        assert f": {doing}" in line
        assert said in line


def new_file(job: Job, sections: int = 20) -> bytes:
    """What a run has written whose upload failed: the whole new file, to be looked at."""
    content = job.output.read_bytes()
    assert content.count(b"\n") == sections + 1
    return content


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is true, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
