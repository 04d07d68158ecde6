"""Runs the unmodified clever_sections.py as its own process, the way cron does."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clever import Clever
from line import Line
from powerschool import PowerSchool

SCRIPT = Path(__file__).resolve().parent.parent / "clever_sections.py"
TODAY = "2026-11-24"


@dataclass
class Ended:
    """How a run ended. `files` are the names beside the script and its known_hosts."""

    status: int
    stdout: str
    stderr: str
    log: str
    files: set[str]
    seconds: float


@dataclass
class Job:
    """A copy of the script in a folder of its own, with known_hosts and environment variables.

    Settings are changed as an administrator would: in the constants at the top.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    date: str = TODAY  # "" for the real one

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.script = Path(shutil.copy(SCRIPT, self.folder))
        self.output = self.folder / "Sections.csv"
        self.uploaded = self.folder / "Sections.uploaded.csv"
        self.log = self.folder / "clever_sections.log"
        self.known_hosts = self.folder / "known_hosts"

    def connect(
        self,
        powerschool: PowerSchool | None = None,
        clever: Clever | None = None,
        line: Line | None = None,
    ) -> "Job":
        """Set the variables, and known_hosts, for the stand-ins; `line` is the one to Clever."""
        if powerschool:
            self.environment |= {
                "POWERSCHOOL_READ_USER": powerschool.user,
                "POWERSCHOOL_DB_PASSWORD": powerschool.password,
                "POWERSCHOOL_PROD_DB": powerschool.dsn,
            }
        if clever:
            port = line.port if line else clever.port
            self.environment |= {
                "CLEVER_SFTP_USERNAME": clever.username,
                "CLEVER_SFTP_PASSWORD": clever.password,
                "CLEVER_SFTP_ADDRESS": f"127.0.0.1:{port}",
            }
            self.known_hosts.write_text(clever.known_hosts_line(host=f"[127.0.0.1]:{port}"))
        return self

    def set(self, **settings: object) -> "Job":
        """Change constants at the top of the script; what is noted of their form stays."""
        text = self.script.read_text()
        for name, value in settings.items():
            # A value may take several lines, from an opening bracket to its closing one.
            setting = rf"(?ms)^({name}: [^=\n]*= )(?:[\[{{]\n.*?^[\]}}]|[^\n]*)$"
            parts = re.split(setting, text)
            assert len(parts) == 3, f"{len(parts) // 2} settings named {name}"
            text = "".join([*parts[:2], repr(value), parts[2]])
        self.script.write_text(text)
        return self

    def start(
        self, *options: str, before: Sequence[str] = (), stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Start the job as cron does: with its variables only, from another folder, without a
        terminal. `before` is a command that starts it."""
        self.started = time.monotonic()
        command = [*before, sys.executable, str(self.script), *options]
        if self.date and "--date" not in options:
            command += ["--date", self.date]
        return subprocess.Popen(
            command,
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], timeout: float = 120) -> Ended:
        """Wait for the job's end; it must have come within `timeout` seconds."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        finally:
            process.kill()
        log = self.log.read_text() if self.log.exists() else ""
        own = {"clever_sections.py", "known_hosts"}
        files = {path.name for path in self.folder.iterdir()} - own
        seconds = time.monotonic() - self.started
        return Ended(process.returncode, stdout, stderr, log, files, seconds)

    def run(self, *options: str, timeout: float = 120) -> Ended:
        return self.end(self.start(*options), timeout)
