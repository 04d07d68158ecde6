"""The stand-ins and the job, for every test that asks for them."""

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import district
import pytest
from checks import OLD, QUICK, check_uploaded
from clever import Clever
from hosts import LIBRARY, Hosts
from job import Job
from powerschool import PowerSchool

import clever_sections

# A shell that starts the tests in the background has these ignored, and the job would inherit that.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "takes_long: it waits, or does a lot, so it starts early")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put a test that takes long at each eighth place from the first on.

    So they are spread over all processes, and none of them has to be waited for at the end.
    """
    long = [item for item in items if item.get_closest_marker("takes_long")]
    items[:] = [item for item in items if item not in long]
    for number, item in enumerate(long):
        items.insert(8 * number, item)


@pytest.fixture
def powerschool(tmp_path: Path) -> Iterator[PowerSchool]:
    """The sample district."""
    with PowerSchool(district.sample(tmp_path / "sample.db")) as server:
        yield server


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[PowerSchool]:
    """A made district: 20 sections in two schools, and nothing to remark."""
    with PowerSchool(district.made(tmp_path / "made.db")) as server:
        yield server


@pytest.fixture
def clever(tmp_path: Path) -> Iterator[Clever]:
    with Clever(tmp_path / "clever") as server:
        yield server


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """The job, not yet connected to any server."""
    return Job(tmp_path / "job")


@pytest.fixture
def ready(quiet: PowerSchool, clever: Clever, job: Job) -> Job:
    """A connected job, with yesterday's file here and in Clever."""
    (clever.folder / "Sections.csv").write_bytes(OLD)
    job.output.write_bytes(OLD)
    return job.connect(quiet, clever).set(**QUICK)


Inside = Callable[[Job], None]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Connects clever_sections in this process as a job is, for tests that call its functions.

    The drivers and the stand-ins are the same; what starting a process costs is saved.
    """

    def connect(job: Job) -> None:
        for name, value in job.environment.items():
            monkeypatch.setattr(clever_sections, name, value)
        monkeypatch.setattr(clever_sections, "KNOWN_HOSTS", job.known_hosts)
        monkeypatch.setattr(clever_sections, "UPLOADED", job.uploaded)
        monkeypatch.setattr(clever_sections, "KEPT", [])  # nothing outlives the test

    return connect


@pytest.fixture(scope="session")
def first_upload(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the job uploads of a made district: 20 sections, of which 10 end on 2026-12-18."""
    folder = tmp_path_factory.mktemp("first")
    database = district.made(folder / "made.db")
    with PowerSchool(database) as powerschool, Clever(folder / "clever") as clever:
        job = Job(folder / "job").connect(powerschool, clever)
        check_uploaded(job, job.run(), clever)
    return job.output.read_bytes()


@pytest.fixture
def guarded(ready: Job, clever: Clever, first_upload: bytes) -> Job:
    """A connected job as it is after its first upload of the made district."""
    for path in (clever.folder / "Sections.csv", ready.output, ready.uploaded):
        path.write_bytes(first_upload)
    return ready


@pytest.fixture
def large(tmp_path: Path, ready: Job) -> Iterator[Job]:
    """The job with a file that takes five writes to upload."""
    with PowerSchool(district.made(tmp_path / "large.db", 2, 1500)) as powerschool:
        yield ready.connect(powerschool)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and is nobody else's while the test runs."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # without listening
        yield reserved.getsockname()[1]


@pytest.fixture
def hosts(tmp_path: Path, ready: Job) -> Hosts:
    """Host names for the job of the test."""
    if LIBRARY is None:
        pytest.skip("libnss_wrapper.so is missing: install libnss-wrapper")
    hosts = Hosts(tmp_path / "hosts")
    ready.environment |= hosts.environment
    return hosts
