"""A stand-in for Clever: an SFTP server on loopback with a password and host keys of its own.

with Clever(folder) as clever:
    clever.known_hosts_line, clever.address, clever.username, clever.password
    (clever.folder / "Sections.csv").read_bytes()
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

# Called with a step ("LOG IN", "WRITE", "RENAME", "REMOVE") and how often that step has come.
# Answers with None or with what goes wrong: "cut" the connection, "hang", be "slow", "lose" what
# was written and say that all is well, or the text of a refusal.
Fault = Callable[[str, int], "str | None"]


class Clever:
    """The server, on a free port, while its `with` block lasts. Uploads arrive in `folder`."""

    username, password = "district-0042", "Quartz-Lake-93"

    def __init__(
        self,
        folder: Path,
        fault: Fault | None = None,
        key_types: tuple[str, ...] = ("ssh-ed25519",),
    ) -> None:
        self.folder = folder
        self.fault = fault
        self.keys = [asyncssh.generate_private_key(kind) for kind in key_types]
        self.counts: dict[str, int] = {}
        self.passwords: list[str] = []  # every password that was sent here

    def __enter__(self) -> "Clever":
        self.folder.mkdir(exist_ok=True)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.server = asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result()
        self.port = self.server.get_port()
        self.address = f"127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def close(self) -> None:
        """End the server, and what hangs in it because a fault wants it so."""
        self.server.close()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: Login(self),
            server_host_keys=self.keys,
            sftp_factory=lambda channel: Files(channel, self),
        )

    def known_hosts_line(self, key: int = 0, host: str = "") -> str:
        """A line for known_hosts with one of the host keys."""
        public = self.keys[key].export_public_key().decode()
        return f"{host or f'[127.0.0.1]:{self.port}'} {public}"

    async def misbehave(self, step: str, connection: asyncssh.SSHServerConnection) -> bool:
        """Do what `fault` says at this step. True if it is to "lose" what was sent."""
        self.counts[step] = self.counts.get(step, 0) + 1
        wrong = self.fault and self.fault(step, self.counts[step])
        if wrong == "cut":
            connection.abort()
        if wrong in ("cut", "hang"):
            await asyncio.Event().wait()
        if wrong == "slow":
            await asyncio.sleep(0.7)
        elif wrong and wrong != "lose":
            raise asyncssh.SFTPFailure(wrong)
        return wrong == "lose"


class Login(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def __init__(self, clever: Clever) -> None:
        self.clever = clever

    def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
        self.connection = connection

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        self.clever.passwords.append(password)
        await self.clever.misbehave("LOG IN", self.connection)
        return (username, password) == (self.clever.username, self.clever.password)


class Files(asyncssh.SFTPServer):
    """The account's home directory, which is all that it can see."""

    def __init__(self, channel: Any, clever: Clever) -> None:
        super().__init__(channel, chroot=bytes(clever.folder))
        self.clever = clever

    async def write(self, file: Any, offset: int, data: bytes) -> int:  # type: ignore[override]
        if await self.clever.misbehave("WRITE", self.connection):
            return len(data)
        return super().write(file, offset, data)

    async def posix_rename(self, old: bytes, new: bytes) -> None:  # type: ignore[override]
        await self.clever.misbehave("RENAME", self.connection)
        super().posix_rename(old, new)

    async def remove(self, path: bytes) -> None:  # type: ignore[override]
        await self.clever.misbehave("REMOVE", self.connection)
        super().remove(path)
