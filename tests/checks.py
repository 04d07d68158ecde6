"""What the fault suite checks after every run, and settings so short that it need not wait."""

import os
import time
from collections.abc import Callable

from clever import Clever
from job import Ended, Job

OLD = b"School_id,Section_id,Teacher_id\n100,1,5001\n"  # yesterday's file, here and in Clever
QUICK = {"CONNECT_TIMEOUT_SECONDS": 2, "QUERY_TIMEOUT_SECONDS": 1, "RETRY_DELAY_SECONDS": 0}
NEW_FILES = {
    "Sections.csv",
    "Sections.uploaded.csv",
    "clever_sections.lock",
    "clever_sections.log",
}
NOISE = ("Traceback", "Exception ignored", "Warning:", "Error in", 'File "', "Help: http", ": . ")


def check_clean(job: Job, ended: Ended) -> None:
    """No noise, no secrets, no leftovers."""
    for text in (ended.stdout, ended.stderr, ended.log):
        for noise in NOISE:
            assert noise not in text
        for name, secret in job.environment.items():
            assert "PASSWORD" not in name or len(secret) < 3 or secret not in text
    assert "Sections.csv.tmp" not in ended.files


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


def check_remote(clever: Clever, content: bytes, *others: str) -> None:
    """Clever has this in Sections.csv, byte for byte, and beside it these files only."""
    assert (clever.folder / "Sections.csv").read_bytes() == content
    assert sorted(os.listdir(clever.folder)) == sorted(["Sections.csv", *others])


def check_uploaded(job: Job, ended: Ended, clever: Clever, sections: int = 20) -> None:
    """All is well: the new file is whole, here and in Clever, and nobody is mailed."""
    assert (ended.status, ended.stderr) == (0, "")
    content = job.output.read_bytes()
    assert content.count(b"\n") == sections + 1
    assert job.uploaded.read_bytes() == content
    assert ended.files - {"Sections.previous.csv"} == NEW_FILES
    check_remote(clever, content)
    check_clean(job, ended)


def new_file(job: Job, sections: int = 20) -> bytes:
    """What a run has written whose upload failed: the whole new file, to be looked at."""
    content = job.output.read_bytes()
    assert content.count(b"\n") == sections + 1
    return content


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is true, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
