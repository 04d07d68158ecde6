"""A stand-in for Clever: an SFTP server on loopback, as strict as the one that Clever publishes.

    with Clever(folder) as clever:
        clever.known_hosts_line(), clever.address, clever.username, clever.password
        (clever.folder / "Sections.csv").read_bytes()
        clever.stored                        # each file that was stored: its name and content

It follows github.com/Clever/sftp (server.go, s3driver.go), which keeps files as objects in S3:
- it names no extensions, and an extended request ends the session;
- a file is stored whole, when its handle is closed, and dropped if the connection goes before that;
  a failure to store it is the answer to the close; a file that was only read is stored again;
- a plain rename replaces an existing file; removing what is not there succeeds;
- a look at a name finds the first file whose name begins with it;
- each request is answered before the next one is read.
The format of the packets is that of SFTP version 3 (draft-ietf-secsh-filexfer-02).
"""

import asyncio
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from background import Background
from faults import DEAF, DROP, ENDLESS, HALF, HANG, HUGE, LOSE, LOST, SLOW, TRICKLE, Fault
from line import narrow_listener

logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
OPENDIR, READDIR, REMOVE, REALPATH, STAT, RENAME = 11, 12, 13, 16, 17, 18
STATUS, HANDLE, FILE_DATA, NAME, ATTRS, EXTENDED = 101, 102, 103, 104, 105, 200
OK, END_OF_FILE, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8
FOR_WRITING = 0x02  # flags of OPEN
CREATE_AND_TRUNCATE = 0x08 | 0x10
SIZE, MODE, TIMES = 0x01, 0x04, 0x08  # flags of ATTRS
CODES = {
    "end of file": END_OF_FILE,
    "No such file": NO_SUCH_FILE,
    "Permission denied": PERMISSION_DENIED,
    "Operation unsupported": UNSUPPORTED,
}
POSIX_RENAME = "posix-rename@openssh.com"
NAMES_IN_A_PACKET = 100  # of a folder; OpenSSH's sftp-server has this number, too
MOST = 2**32 - 1  # what fits into a count, or a length
IN_THE_ANSWER = (HALF, LOSE, LOST, TRICKLE, ENDLESS, HUGE)  # faults that whoever answers sees to


class Refused(Exception):
    """What the server answers instead of doing what was asked; the text is the answer's."""


class Ended(Exception):
    """The server ends the session, without an answer."""


class Clever(Background):
    """The server, on a free port, while its `with` block lasts. The account's home is `folder`.

    `fault` is asked at the steps CONNECT, LOG IN, SESSION, and at each packet: its kind and the
    name that it is about, such as "WRITE Sections.csv.tmp", "OPEN teachers.csv to read" or
    "EXTENDED posix-rename@openssh.com".
    With `extensions` the server names posix-rename, knows it, and refuses other extended requests.
    With `shuffles` it answers writes out of order; without `passwords` it takes keys only.
    `log_in` is what happens at the log-in, after the step LOG IN:
    - "hang up": a wrong password ends the connection, as OpenSSH's MaxAuthTries 1 has it;
    - "keyboard-interactive": the password is asked for in this way only;
    - "change password": the right password has expired;
    - "two methods": after the right password a key is asked for;
    - "breaks": the connection is cut instead of an answer to the password;
    - "session closed": the session ends as soon as it has begun, as OpenSSH has it for an expired
      password.
    `algorithms` are what asyncssh.listen takes, such as {"encryption_algs": ["3des-cbc"]}.
    With `sha1_only` an RSA host key signs in the old way, which clients have come to refuse.
    """

    username = "district-0042"
    password = "Quartz-Lake-93"

    def __init__(
        self,
        folder: Path,
        fault: Fault | None = None,
        key_types: tuple[str, ...] = ("ssh-ed25519",),
        extensions: bool = False,
        shuffles: bool = False,
        passwords: bool = True,
        log_in: str = "",
        algorithms: dict[str, list[str]] | None = None,
        sha1_only: bool = False,
    ) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.fault = fault
        self.keys = [asyncssh.generate_private_key(kind) for kind in key_types]
        self.extensions = extensions
        self.shuffles = shuffles
        self.takes_passwords = passwords
        self.log_in = log_in
        self.algorithms = algorithms or {}
        self.sha1_only = sha1_only
        self.sizes: dict[str, int | None] = {}  # told of these files instead; None: no size at all
        self.modes: dict[str, int] = {}  # told of these files instead of 0o777
        self.extra_names = 0  # so many made-up files are in the folder as well
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.steps: list[str] = []  # every step that was reached, in order
        self.stored: list[tuple[str, bytes]] = []  # every file that was stored, in order
        self.passwords: list[str] = []  # every password that was sent here

    async def start(self) -> None:
        listener = narrow_listener()  # whoever goes on sending to a DEAF server must notice it
        pairs = asyncssh.load_keypairs(self.keys)
        if self.sha1_only:
            for pair in pairs:
                pair.host_key_algorithms = (b"ssh-rsa",)
        self.server = await asyncssh.listen(
            sock=listener,
            server_factory=lambda: Login(self),
            server_host_keys=pairs,
            encoding=None,
            **self.algorithms,
        )
        self.port: int = listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.never = asyncio.Event()

    async def stop(self) -> None:
        self.server.close()
        for connection in list(self.connections):
            connection.abort()

    def known_hosts_line(self, key: int = 0, host: str = "") -> str:
        """A line for known_hosts with one of the host keys."""
        public = self.keys[key].export_public_key().decode()
        return f"{host or f'[127.0.0.1]:{self.port}'} {public}"

    def files(self) -> list[Path]:
        """What is stored, in the order of the names."""
        return sorted(self.folder.iterdir())

    def store(self, name: str, content: bytes) -> None:
        self.stored.append((name, content))
        (self.folder / name).write_bytes(content)

    def listing(self, folder: "Handle") -> Iterator[list[tuple[str, bytes]]]:
        """The names in the folder, each with its attributes: all of them at once, then made-up ones
        packet by packet. With the fault ENDLESS these have no end.
        """
        named = [(path.name, self.attributes(path.name, path)) for path in self.files()]
        yield [*named, *((name, self.attributes(name)) for name in (".", ".."))]
        told = 0
        while folder.wrong == ENDLESS or told < self.extra_names:
            left = NAMES_IN_A_PACKET if folder.wrong == ENDLESS else self.extra_names - told
            numbers = range(told + 1, told + 1 + min(left, NAMES_IN_A_PACKET))
            names = [f"file-{number:07}.csv" for number in numbers]
            yield [(name, self.attributes(name)) for name in names]
            told += len(names)

    def attributes(self, name: str, path: Path | None = None) -> bytes:
        """ATTRS of a name, with or without a file: flags, size, mode, last access and change."""
        size = self.sizes.get(name, path.stat().st_size if path else 0)
        mode = self.modes.get(name, 0o777)
        changed = int(path.stat().st_mtime if path else time.time())
        if size is None:
            return struct.pack(">IIII", MODE | TIMES, mode, changed, changed)
        return struct.pack(">IQIII", SIZE | MODE | TIMES, size, mode, changed, changed)

    def wrong_at(self, step: str) -> str | None:
        """Note the step, and ask the fault what goes wrong at it."""
        self.steps.append(step)
        return self.fault(step) if self.fault else None

    async def misbehave(self, step: str, connection: asyncssh.SSHServerConnection) -> str | None:
        """Do what goes wrong at this step. Returns one of IN_THE_ANSWER, or None if all is well.

        Raises Refused for a text that is no fault's word.
        """
        wrong = self.wrong_at(step)
        if wrong == DROP:
            connection.abort()
        if wrong == DEAF:
            stop_reading(connection)
        if wrong in (DROP, HANG, DEAF):
            await self.never.wait()
        if wrong == SLOW:
            await asyncio.sleep(0.7)
            return None
        if wrong is None or wrong in IN_THE_ANSWER:
            return wrong
        raise Refused(wrong)

    async def misbehave_below(self, step: str, connection: asyncssh.SSHServerConnection) -> None:
        """The same at a step below SFTP, where an answer of an odd length is none at all."""
        if await self.misbehave(step, connection) in (TRICKLE, ENDLESS, HUGE):
            await self.never.wait()


def stop_reading(connection: asyncssh.SSHServerConnection) -> None:
    """Leave what the client sends in its socket. asyncssh has no call for this."""
    if connection._transport:
        connection._transport.pause_reading()


class Login(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def __init__(self, clever: Clever) -> None:
        self.clever = clever
        self.wants_key = False  # as the password was right, and is not enough

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self.clever.connections.add(conn)
        wrong = self.clever.wrong_at("CONNECT")
        if wrong == DROP:
            conn.abort()
        if wrong in (HANG, DEAF, TRICKLE, ENDLESS, HUGE):
            stop_reading(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clever.connections.discard(self.connection)

    def begin_auth(self, username: str) -> bool:
        if self.clever.log_in == "keyboard-interactive":
            # paramiko asks for this service again before it tries another way to log in. OpenSSH
            # allows that, asyncssh does not.
            self.connection._next_service = b"ssh-userauth"
        return True

    def password_auth_supported(self) -> bool:
        asks = self.clever.log_in == "keyboard-interactive"
        return self.clever.takes_passwords and not asks and not self.wants_key

    def kbdint_auth_supported(self) -> bool:
        return self.clever.log_in == "keyboard-interactive"

    def public_key_auth_supported(self) -> bool:
        return self.clever.log_in != "two methods" or self.wants_key

    async def validate_password(self, username: str, password: str) -> bool:
        self.clever.passwords.append(password)
        await self.clever.misbehave_below("LOG IN", self.connection)
        is_right = (username, password) == (self.clever.username, self.clever.password)
        log_in = self.clever.log_in
        if log_in == "breaks":
            self.connection.abort()
        elif log_in == "hang up" and not is_right:
            self.connection.disconnect(
                asyncssh.DISC_PROTOCOL_ERROR, "Too many authentication failures"
            )
        elif log_in == "change password" and is_right:
            raise asyncssh.PasswordChangeRequired("Your password has expired")
        elif log_in == "two methods" and is_right:
            self.wants_key = True
            self.connection.send_userauth_failure(True)  # partial success; asyncssh adds no other
            return False
        return is_right

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> tuple[str, str, str, list[tuple[str, bool]]]:
        return "", "", "en", [("Password: ", False)]

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool:
        return await self.validate_password(username, responses[0])

    async def session_requested(self) -> "Session":
        await self.clever.misbehave_below("SESSION", self.connection)
        return Session(self.clever, self.connection)


@dataclass
class Handle:
    """An open file with its `content`, or an open folder with its `names`."""

    name: str
    content: bytearray = field(default_factory=bytearray)
    names: Iterator[list[tuple[str, bytes]]] | None = None
    wrong: str | None = None  # ENDLESS or HUGE, from the step on at which the fault has said it


class Session(asyncssh.SSHServerSession[bytes]):
    """One SFTP session: a packet at a time, each answered before the next one is read."""

    def __init__(self, clever: Clever, connection: asyncssh.SSHServerConnection) -> None:
        self.clever = clever
        self.connection = connection
        self.handles: dict[str, Handle] = {}
        self.received = bytearray()
        self.packets: asyncio.Queue[bytes] = asyncio.Queue()
        self.held_back: bytes | None = None  # an answer that comes after the next one

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        self.worker = asyncio.create_task(self.work())

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.cancel()  # what was open is dropped, not stored

    def eof_received(self) -> bool:
        self.channel.exit(0)
        return False

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Collect whole packets: a length of four bytes, then as many bytes."""
        self.received += data
        while len(self.received) >= 4:
            [length] = struct.unpack_from(">I", self.received)
            if len(self.received) < 4 + length:
                return
            self.packets.put_nowait(bytes(self.received[4 : 4 + length]))
            del self.received[: 4 + length]

    async def work(self) -> None:
        try:
            while True:
                await self.answer(Reader(await self.packets.get()))
        except Ended:
            self.channel.close()

    async def answer(self, packet: "Reader") -> None:
        """Answer one packet, or do what the fault at this step wants."""
        kind = packet.byte()
        number = packet.raw(4)
        if kind == INIT and self.clever.log_in == "session closed":
            self.channel.write_stderr(b"Password change required but no TTY available.\n")
            self.channel.exit(1)
            raise Ended
        if kind == INIT:
            wrong = await self.clever.misbehave("INIT", self.connection)
            extensions = text(POSIX_RENAME) + text("1") if self.clever.extensions else b""
            await self.give(bytes([VERSION]) + struct.pack(">I", 3) + extensions, wrong)
            return
        name, respond = ANSWERS[kind]
        # Of every packet: a file's name, which may be absolute, a handle, or an extension's name.
        subject = packet.text().lstrip("/")
        about = self.handles[subject].name if subject in self.handles else subject
        if kind == OPEN and not packet.peek_integer() & FOR_WRITING:
            about += " to read"
        wrong = None
        try:
            wrong = await self.clever.misbehave(f"{name} {about}", self.connection)
            answer = respond(self, subject, packet, wrong)
        except Refused as refusal:
            answer = status(str(refusal))
        answer = answer[:1] + number + answer[1:]
        if name in ("LIST", "READ") and wrong in (ENDLESS, HUGE):
            wrong = None  # the answer has it in itself
        if wrong is None and kind == WRITE and self.clever.shuffles:
            self.send_out_of_order(answer)
        else:
            await self.give(answer, wrong)

    async def give(self, answer: bytes, wrong: str | None) -> None:
        """Send an answer, or what the fault makes of it."""
        if wrong in (TRICKLE, ENDLESS):
            # The packet is so long that it takes hours, and no longer than a client believes.
            rest = bytes(100_000)
            for byte in struct.pack(">I", len(answer + rest)) + answer + rest:
                self.channel.write(bytes([byte]))
                await asyncio.sleep(0.3)
        elif wrong == HUGE:
            self.channel.write(struct.pack(">I", MOST))
            await self.clever.never.wait()
        else:
            self.send(answer, half=wrong == HALF)

    def send(self, answer: bytes, half: bool = False) -> None:
        """Send an answer; with `half`, half of it, and then nothing more."""
        packet = struct.pack(">I", len(answer)) + answer
        if half:
            self.channel.write(packet[: len(packet) // 2])
            asyncio.get_running_loop().call_soon(self.connection.abort)
        else:
            self.channel.write(packet)

    def send_out_of_order(self, answer: bytes) -> None:
        """Hold every second answer back until the next one is sent, for 0.1 seconds at most."""
        if self.held_back is None:
            self.held_back = answer
            asyncio.get_running_loop().call_later(0.1, self.send_held_back)
        else:
            self.send(answer)
            self.send_held_back()

    def send_held_back(self) -> None:
        if self.held_back is not None:
            self.send(self.held_back)
            self.held_back = None

    # --- An answer for each kind of packet, without the request's number in it. Raises Refused. ---

    def open(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        flags = packet.integer()
        if flags & CREATE_AND_TRUNCATE == CREATE_AND_TRUNCATE:
            return self.new_handle(Handle(name))
        content = self.existing(name).read_bytes()
        return self.new_handle(Handle(name, bytearray(content)))

    def close(self, handle: str, packet: "Reader", wrong: str | None) -> bytes:
        """Now the file is stored, even if it was only read."""
        closed = self.handles.pop(handle)
        if closed.names is None and wrong != LOSE:
            self.clever.store(closed.name, bytes(closed.content))
        return status("")

    def write(self, handle: str, packet: "Reader", wrong: str | None) -> bytes:
        offset = packet.long()
        data = packet.data()
        if wrong != LOSE:
            content = self.handles[handle].content
            content.extend(bytes(max(0, offset - len(content))))  # a gap is filled with zeros
            content[offset : offset + len(data)] = data
        return status("")

    def read(self, handle: str, packet: "Reader", wrong: str | None) -> bytes:
        offset = packet.long()
        size = min(packet.integer(), 32768)
        file = self.handles[handle]
        file.wrong = wrong if wrong in (ENDLESS, HUGE) else file.wrong
        endless = b"x" * size if file.wrong == ENDLESS else b""
        data = endless or file.content[offset : offset + size]
        if not data and file.wrong != HUGE:
            raise Refused("end of file")
        length = MOST if file.wrong == HUGE else len(data)
        return bytes([FILE_DATA]) + struct.pack(">I", length) + data

    def stat(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        """What is known of the first file that begins with this name; 0 bytes for an open one."""
        found = [path for path in self.clever.files() if path.name.startswith(name)]
        if found:
            return bytes([ATTRS]) + self.clever.attributes(found[0].name, found[0])
        if any(handle.name == name for handle in self.handles.values()):
            return bytes([ATTRS]) + self.clever.attributes(name)
        raise Refused("No such file")

    def fstat(self, handle: str, packet: "Reader", wrong: str | None) -> bytes:
        return self.stat(self.handles[handle].name, packet, wrong)

    def opendir(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        folder = Handle(name, wrong=wrong)
        folder.names = self.clever.listing(folder)
        return self.new_handle(folder)

    def readdir(self, handle: str, packet: "Reader", wrong: str | None) -> bytes:
        """All the names at once, then made-up ones; at last, that there are no more."""
        folder = self.handles[handle]
        folder.wrong = wrong if wrong in (ENDLESS, HUGE) else folder.wrong
        entries = next(folder.names, None) if folder.names else None
        if entries is None:
            raise Refused("end of file")
        count = MOST if folder.wrong == HUGE else len(entries)
        listing = b"".join(text(name) + text(name) + known for name, known in entries)
        return bytes([NAME]) + struct.pack(">I", count) + listing

    def remove(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        if wrong != LOSE:
            (self.clever.folder / name).unlink(missing_ok=True)
        return status("")

    def realpath(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        path = text(f"/{name.strip('./')}")
        return bytes([NAME]) + struct.pack(">I", 1) + path + path + struct.pack(">I", 0)

    def rename(self, old: str, packet: "Reader", wrong: str | None) -> bytes:
        """Copy, then remove: an existing file is replaced."""
        source = self.existing(old)
        if wrong == LOST:
            source.unlink()
            raise Refused("Failure")
        if wrong != LOSE:
            source.replace(self.clever.folder / packet.text().lstrip("/"))
        return status("")

    def extended(self, name: str, packet: "Reader", wrong: str | None) -> bytes:
        if not self.clever.extensions:
            raise Ended
        if name != POSIX_RENAME:
            raise Refused("Operation unsupported")
        return self.rename(packet.text().lstrip("/"), packet, wrong)

    def existing(self, name: str) -> Path:
        path = self.clever.folder / name
        if not path.is_file():
            raise Refused("NoSuchKey: The specified key does not exist")
        return path

    def new_handle(self, handle: Handle) -> bytes:
        name = f"handle-{len(self.clever.steps)}"
        self.handles[name] = handle
        return bytes([HANDLE]) + text(name)


ANSWERS: dict[int, tuple[str, Callable[[Session, str, "Reader", str | None], bytes]]] = {
    OPEN: ("OPEN", Session.open),
    CLOSE: ("CLOSE", Session.close),
    READ: ("READ", Session.read),
    WRITE: ("WRITE", Session.write),
    LSTAT: ("STAT", Session.stat),
    STAT: ("STAT", Session.stat),
    FSTAT: ("STAT", Session.fstat),
    OPENDIR: ("LIST", Session.opendir),
    READDIR: ("LIST", Session.readdir),
    REMOVE: ("REMOVE", Session.remove),
    REALPATH: ("REALPATH", Session.realpath),
    RENAME: ("RENAME", Session.rename),
    EXTENDED: ("EXTENDED", Session.extended),
}


class Reader:
    """Takes a packet apart, from front to back."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0

    def raw(self, length: int) -> bytes:
        self.position += length
        return self.content[self.position - length : self.position]

    def byte(self) -> int:
        return self.raw(1)[0]

    def integer(self) -> int:
        return int.from_bytes(self.raw(4), "big")

    def peek_integer(self) -> int:
        """The next integer, which stays the next one."""
        return int.from_bytes(self.content[self.position : self.position + 4], "big")

    def long(self) -> int:
        return int.from_bytes(self.raw(8), "big")

    def data(self) -> bytes:
        """Bytes after their length."""
        return self.raw(self.integer())

    def text(self) -> str:
        return self.data().decode()


def text(value: str) -> bytes:
    content = os.fsencode(value)  # a name in the folder need not be UTF-8
    return struct.pack(">I", len(content)) + content


def status(words: str) -> bytes:
    """STATUS: "" is that all went well; any other text is why not."""
    codes = [code for beginning, code in CODES.items() if words.startswith(beginning)]
    code = (codes or [FAILURE])[0] if words else OK
    return bytes([STATUS]) + struct.pack(">I", code) + text(words) + text("")
