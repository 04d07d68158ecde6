"""Runs the unmodified clever_sections.py as its own process, the way cron does."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clever import Clever
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
        self, powerschool: PowerSchool | None = None, clever: Clever | None = None
    ) -> "Job":
        """Set the variables, and known_hosts, for the stand-ins."""
        if powerschool:
            self.environment |= {
                "POWERSCHOOL_READ_USER": powerschool.user,
                "POWERSCHOOL_DB_PASSWORD": powerschool.password,
                "POWERSCHOOL_PROD_DB": powerschool.dsn,
            }
        if clever:
            self.environment |= {
                "CLEVER_SFTP_USERNAME": clever.username,
                "CLEVER_SFTP_PASSWORD": clever.password,
                "CLEVER_SFTP_ADDRESS": clever.address,
            }
            self.known_hosts.write_text(clever.known_hosts_line())
        return self

    def set(self, **settings: object) -> "Job":
        """Change constants at the top of the script."""
        text = self.script.read_text()
        for name, value in settings.items():
            text, count = re.subn(
                rf"(?m)^({name}\b[^=\n]*= ).*?(?=  #|$)", rf"\g<1>{value!r}", text
            )
            assert count == 1, f"{count} settings named {name}"
        self.script.write_text(text)
        return self

    def start(
        self, *options: str, before: Sequence[str] = (), **popen: object
    ) -> subprocess.Popen[str]:
        """Start the job as cron does: with its variables only, from another folder, without a
        terminal. `before` is a command that starts it."""
        command = [*before, sys.executable, str(self.script), *options]
        if self.date and "--date" not in options:
            command += ["--date", self.date]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, env=self.environment, cwd="/", text=True, **(pipes | popen)
        )

    def end(self, process: subprocess.Popen[str], timeout: float = 30) -> Ended:
        """Wait for the job's end; it must have come within `timeout` seconds."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        finally:
            process.kill()
        log = self.log.read_text() if self.log.exists() else ""
        own = {"clever_sections.py", "known_hosts"}
        files = {path.name for path in self.folder.iterdir()} - own
        return Ended(process.returncode, stdout, stderr, log, files)

    def run(self, *options: str, timeout: float = 30) -> Ended:
        return self.end(self.start(*options), timeout)
