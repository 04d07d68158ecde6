"""A stand-in for PowerSchool's database: Oracle Net for the real python-oracledb, over SQLite.

It speaks just enough of the protocol for the unpatched thin driver to log in, run queries with
binds and fetch rows: that of a 19c server, with every optional feature turned off. The driver's
own source (its source distribution on PyPI, `src/oracledb/impl/thin/`) is the reference.

    with PowerSchool(database) as powerschool:
        oracledb.connect(user=powerschool.user, password=powerschool.password, dsn=powerschool.dsn)
        powerschool.round_trips
"""

from __future__ import annotations

import re
import secrets
import socket
import socketserver
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache, lru_cache
from hashlib import pbkdf2_hmac, sha512
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Types of Oracle Net packets, of the messages inside data packets, of functions, and of columns.
CONNECT, ACCEPT, REFUSE, DATA, MARKER = 1, 2, 4, 6, 12
PROTOCOL, DATA_TYPES, FUNCTION, ERROR, ROW_HEADER, ROW_DATA, PARAMETER = 1, 2, 3, 4, 6, 7, 8
STATUS, DESCRIBE_INFO, PIGGYBACK = 9, 16, 17
FETCH, REEXECUTE_AND_FETCH, EXECUTE = 5, 78, 94
CLOSE_CURSORS, AUTH_PHASE_TWO, AUTH_PHASE_ONE = 105, 115, 118
BREAK, RESET = 1, 2
VARCHAR2, NUMBER, DATE = 1, 2, 12
SDU = 8192  # the size of a packet at most
END_OF_FILE_FLAG = 0x40  # in a data packet: the client says goodbye
DONE = bytes([STATUS, 0, 0])  # the answer that says no more than "done"

# What SQLite takes and Oracle refuses, so that a query that passes here passes there.
ORACLE_REFUSES = {
    r";\s*$": "ORA-00933: SQL command not properly ended",
    r"\b(?:FROM|JOIN)\s+\w+\s+AS\b": "ORA-00933: SQL command not properly ended",
    r"\bLIMIT\b": "ORA-00933: SQL command not properly ended",
    r"\b(?:TRUE|FALSE)\b": "ORA-00904: invalid identifier",
    r"\bIFNULL\b": 'ORA-00904: "IFNULL": invalid identifier',
    r"==": "ORA-00936: missing expression",
    r'"': "ORA-00904: invalid identifier",
    r":(?:date|number|level|year|day|month|order|start|end|user|session)\b": (
        "ORA-01745: invalid host/bind variable name"
    ),
}

# Called with "CONNECT", "LOG IN" or the text of a query, and how many such calls there have been.
# Answers with None, or with what goes wrong: see Session.misbehave.
Fault = Callable[[str, int], "str | None"]


class PowerSchool:
    """The server, on a free port of the loopback address, while its `with` block lasts.

    `database` is an SQLite file; its columns are declared NUMBER, VARCHAR2 or DATE, its dates are
    text in the form `2026-08-17 00:00:00`. `delay` is added to every round trip, in seconds.
    """

    user, password, service = "ps_read", "Raven-Oak-17", "PSPROD"

    def __init__(self, database: Path, delay: float = 0.0, fault: Fault | None = None) -> None:
        self.database = database
        self.delay = delay
        self.fault = fault
        self.steps = 0  # how often `fault` was asked
        self.round_trips = 0  # every request that waits for an answer, the log-in included
        self.queries: list[str] = []
        self.lock = threading.Lock()

    def __enter__(self) -> PowerSchool:
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads, powerschool = True, self

        self.server = Server(("127.0.0.1", 0), Session)
        self.port = self.server.server_address[1]
        self.dsn = f"127.0.0.1:{self.port}/{self.service}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.server.shutdown()
        self.server.server_close()


class Gone(Exception):
    """The client closed the connection, or a fault did."""


class Session(socketserver.BaseRequestHandler):
    """One client's connection: its packets, and an answer for each of its messages."""

    server: socketserver.ThreadingTCPServer

    def setup(self) -> None:
        self.powerschool: PowerSchool = self.server.powerschool  # type: ignore[attr-defined]
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.request.makefile("rb")
        self.header = ">HxxBxxx"  # a packet's length and type; the length has four bytes later
        self.sqlite = sqlite3.connect(self.powerschool.database, check_same_thread=False)
        self.column_types = declared_types(self.sqlite)
        self.cursors: dict[int, OpenCursor] = {}

    def handle(self) -> None:
        try:
            self.accept()
            while True:
                self.answer(self.message())
        except (Gone, ConnectionError):
            pass

    def finish(self) -> None:
        self.stream.close()
        self.sqlite.close()

    # --- packets ---------------------------------------------------------------------------------

    def packet(self) -> tuple[int, bytes]:
        """The next packet as (type, content without the header). Raises Gone at the end."""
        header = self.stream.read(8)
        if len(header) < 8:
            raise Gone
        length, kind = struct.unpack(self.header, header)
        return kind, self.stream.read(length - 8)

    def send_packet(self, kind: int, content: bytes) -> None:
        self.request.sendall(struct.pack(self.header, len(content) + 8, kind) + content)

    def send(self, message: bytes, cut: bool = False) -> None:
        """Send a message in as many packets as it takes; with `cut`, half of it and no more."""
        time.sleep(self.powerschool.delay)
        if cut:
            message = message[: len(message) // 2]
        for start in range(0, len(message), SDU - 10):
            self.send_packet(DATA, b"\0\0" + message[start : start + SDU - 10])
        if cut:
            raise Gone

    def message(self) -> Reader:
        """The next data packet, to be read. Answers a break that comes instead of one."""
        kind, content = self.packet()
        while kind == MARKER:
            if content[2] == RESET:
                self.send_packet(MARKER, bytes([1, 0, RESET]))
                self.send(error("ORA-01013: user requested cancel of current operation"))
            else:
                self.send_packet(MARKER, bytes([1, 0, BREAK]))
            kind, content = self.packet()
        if kind != DATA or content[1] & END_OF_FILE_FLAG:
            raise Gone
        return Reader(content[2:])

    def misbehave(self, step: str) -> str | None:
        """Do what `fault` says at this step: "drop" the connection, "hang" deaf and mute until the
        client leaves, stay "busy" until it breaks the call, send an error ("ORA-00942: ...").
        What needs the answer first ("cut" it in half) is returned."""
        with self.powerschool.lock:
            self.powerschool.steps += 1
            number = self.powerschool.steps
        fault = self.powerschool.fault and self.powerschool.fault(step, number)
        if fault == "drop":
            raise Gone
        if fault == "hang":
            while self.packet():
                pass
        if fault == "busy":
            self.answer(self.message())
        return fault

    # --- logging in ------------------------------------------------------------------------------

    def accept(self) -> None:
        """CONNECT: is this a service that we have?"""
        _, content = self.packet()
        length, offset = struct.unpack_from(">HH", content, 16)
        wanted = content[offset - 8 :] or self.packet()[1][2:]  # a long one comes on its own
        self.powerschool.round_trips += 1
        self.misbehave("CONNECT")
        service = re.search(rb"SERVICE_NAME=([^)]*)", wanted[-length:])
        if not service or service[1].decode().upper() != self.powerschool.service:
            reason = b"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR=12514)(ERROR_STACK=(ERROR=(CODE=12514))))"
            self.send_packet(REFUSE, b"\0\0" + struct.pack(">H", len(reason)) + reason)
            raise Gone
        # Version 319, no options, flags 0: no out-of-band breaks, no fast log-in, no end marker.
        self.send_packet(ACCEPT, struct.pack(">HH20xI5xI", 319, 0, SDU, 0))
        self.header = ">IBxxx"

    def log_in_one(self, reader: Reader) -> bytes:
        """AUTH, phase one: our half of the session key, which only the password opens."""
        self.user = auth_user(reader)[0]
        self.half = secrets.token_bytes(32)
        salt, self.session_salt = secrets.token_bytes(16), secrets.token_bytes(16)
        self.password_key = password_key(self.powerschool.password, salt)
        return parameters(
            AUTH_SESSKEY=cbc(self.password_key).encryptor().update(self.half).hex().upper(),
            AUTH_VFR_DATA=salt.hex().upper(),
            AUTH_PBKDF2_CSK_SALT=self.session_salt.hex().upper(),
            AUTH_PBKDF2_VGEN_COUNT="4096",
            AUTH_PBKDF2_SDER_COUNT="3",
        )

    def log_in_two(self, reader: Reader) -> bytes:
        """AUTH, phase two: the client's half, and the password under the key that both make."""
        pairs = auth_user(reader)[1]
        theirs = cbc(self.password_key).decryptor().update(bytes.fromhex(pairs["AUTH_SESSKEY"]))
        both = (theirs + self.half).hex().upper().encode()
        key = pbkdf2_hmac("sha512", both, self.session_salt, 3, 32)
        sent = cbc(key).decryptor().update(bytes.fromhex(pairs["AUTH_PASSWORD"]))
        password = sent[16 : -sent[-1]]
        same_user = self.user.upper() == self.powerschool.user.upper()
        if not same_user or password != self.powerschool.password.encode():
            return error("ORA-01017: invalid username/password; logon denied")
        proof = secrets.token_bytes(16) + b"SERVER_TO_CLIENT"
        return parameters(
            AUTH_SESSION_ID="1",
            AUTH_SERIAL_NUM="1",
            AUTH_VERSION_NO=str(19 << 24),
            AUTH_SC_SERVICE_NAME=self.powerschool.service,
            AUTH_MAX_OPEN_CURSORS="300",
            AUTH_SVR_RESPONSE=cbc(key).encryptor().update(proof).hex().upper(),
        )

    # --- answering -------------------------------------------------------------------------------

    def answer(self, reader: Reader) -> None:
        """Read one message, with the piggybacks before it, and send its answer."""
        self.powerschool.round_trips += 1
        kind = reader.byte()
        if kind == PROTOCOL:
            return self.send(protocol())
        if kind == DATA_TYPES:
            return self.send(bytes([DATA_TYPES, 0, 0]))
        while kind == PIGGYBACK:
            function, _ = reader.byte(), reader.byte()
            assert function == CLOSE_CURSORS, f"a piggyback that is not known here: {function}"
            reader.byte()
            for _ in range(reader.integer()):
                self.cursors.pop(reader.integer(), None)
            kind = reader.byte()
        assert kind == FUNCTION, f"a message that is not known here: {kind}"
        function, _ = reader.byte(), reader.byte()
        if function == AUTH_PHASE_ONE:
            self.misbehave("LOG IN")
            return self.send(self.log_in_one(reader))
        if function == AUTH_PHASE_TWO:
            return self.send(self.log_in_two(reader))
        if function == EXECUTE:
            return self.query(*self.read_execute(reader))
        if function == REEXECUTE_AND_FETCH:
            cursor_id, rows, _, _ = (reader.integer() for _ in range(4))
            binds = self.read_binds(reader, self.cursors[cursor_id].bind_types)
            return self.query(cursor_id, rows, binds, first=False)
        if function == FETCH:
            cursor_id, rows = reader.integer(), reader.integer()
            fault = self.misbehave(self.cursors[cursor_id].sql)
            if fault and fault.startswith("ORA-"):
                return self.send(error(fault))
            return self.send(self.rows(cursor_id, rows), cut=fault == "cut")
        return self.send(DONE)  # ping, commit, rollback, log-off

    def read_execute(self, reader: Reader) -> tuple[int, int, list[object]]:
        """EXECUTE as (cursor id, rows wanted, binds); a new statement gets a new cursor."""
        _, cursor_id, has_sql, _ = (
            reader.integer(),
            reader.integer(),
            reader.byte(),
            reader.integer(),
        )
        reader.skip("bibb")  # the array of options; pointers
        _, rows, _ = reader.integer(), reader.integer(), reader.integer()
        _, bind_count = reader.byte(), reader.integer()
        reader.skip("bbbbb" + "bi" + "ibbbibii" + "bib" + "bibib" + "bi")
        sql = reader.data().decode() if has_sql else self.cursors[cursor_id].sql
        reader.skip("i" * 13)  # the options
        if has_sql:
            cursor_id = max(self.cursors, default=0) + 1
        types = []
        for _ in range(bind_count):
            types.append(reader.byte())
            reader.skip("bbb" + "iiiii" + "ibii")
        self.cursors[cursor_id] = OpenCursor(sql, types)
        return cursor_id, rows, self.read_binds(reader, types)

    def read_binds(self, reader: Reader, types: list[int]) -> list[object]:
        """A named bind comes once for each place that it has in the statement, in that order."""
        if types:
            reader.byte()  # ROW_DATA
        return [reader.value(kind) for kind in types]

    def query(self, cursor_id: int, rows: int, binds: list[object], first: bool = True) -> None:
        """Run a statement and send its first rows, the first time with a description of them."""
        cursor = self.cursors[cursor_id]
        self.powerschool.queries.append(cursor.sql)
        fault = self.misbehave(cursor.sql)
        complaint = refusal(cursor.sql)
        if fault and fault.startswith("ORA-"):
            complaint = fault
        if complaint:
            return self.send(error(complaint))
        try:
            found = self.sqlite.execute(re.sub(r":\w+", "?", cursor.sql), binds)
        except sqlite3.OperationalError as problem:
            code = 942 if "no such table" in str(problem) else 904
            return self.send(error(f"ORA-{code:05}: {problem}"))
        cursor.found = found
        names = [column[0].lower() for column in found.description]
        cursor.types = [self.column_types[name] for name in names]
        answer = describe(names, cursor.types) if first else b""
        self.send(answer + self.rows(cursor_id, rows), cut=fault == "cut")

    def rows(self, cursor_id: int, count: int) -> bytes:
        """The next `count` rows of a cursor, and whether there are more."""
        cursor = self.cursors[cursor_id]
        batch = cursor.found.fetchmany(count)
        encoders = [ENCODERS[kind] for kind in cursor.types]
        sent = bytearray([ROW_HEADER, 0, 0, 0, 0, 0, 0, 0])
        for row in batch:
            sent.append(ROW_DATA)
            for encode, value in zip(encoders, row, strict=True):
                sent += b"\0" if value is None or value == "" else encode(value)
        cursor.sent += len(batch)
        ending = "" if len(batch) == count else "ORA-01403: no data found"
        return bytes(sent) + error(ending, cursor_id, cursor.sent)


class OpenCursor:
    """A statement that the client has executed, and where it stands in its rows."""

    def __init__(self, sql: str, bind_types: list[int]) -> None:
        self.sql, self.bind_types = sql, bind_types
        self.found: sqlite3.Cursor
        self.types: list[int] = []
        self.sent = 0


# --- the log-in's cryptography: the 12c verifier ---


def cbc(key: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(bytes(16)))


@cache
def password_key(password: str, salt: bytes) -> bytes:
    key = pbkdf2_hmac("sha512", password.encode(), salt + b"AUTH_PBKDF2_SPEEDY_KEY", 4096, 64)
    return sha512(key + salt).digest()[:32]


def auth_user(reader: Reader) -> tuple[str, dict[str, str]]:
    """An AUTH message as (user, its keys and values)."""
    reader.skip("biib")
    pairs = {}
    count = reader.integer()
    reader.skip("bb")
    user = reader.data().decode()
    for _ in range(count):
        key, value = reader.counted().decode(), reader.counted().decode()
        pairs[key] = value
        reader.integer()
    return user, pairs


# --- reading and writing the formats ---


class Reader:
    """Takes a message apart, from front to back."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def raw(self, length: int) -> bytes:
        self.position += length
        return self.content[self.position - length : self.position]

    def byte(self) -> int:
        return self.raw(1)[0]

    def integer(self) -> int:
        """A length in one byte, then that many bytes."""
        return int.from_bytes(self.raw(self.byte()), "big")

    def data(self) -> bytes:
        """Bytes after their length, or in pieces (each with its length) after 254."""
        length = self.byte()
        if length != 254:
            return self.raw(length)
        return b"".join(self.raw(size) for size in iter(self.integer, 0))

    def counted(self) -> bytes:
        """Bytes after their length twice, as an integer and as `data` has it."""
        return self.data() if self.integer() else b""

    def skip(self, layout: str) -> None:
        """Pass over fields: b a byte, i an integer."""
        for kind in layout:
            self.byte() if kind == "b" else self.integer()

    def value(self, kind: int) -> object:
        """A bind: NUMBER as an int, DATE as SQLite's text, VARCHAR2 as a str."""
        content = self.data()
        if not content:
            return None
        if kind == NUMBER:
            pairs = [byte - 1 for byte in content[1:]]
            return int(sum(pair * 100 ** (content[0] - 193 - n) for n, pair in enumerate(pairs)))
        if kind == DATE:
            century, year, month, day, hour, minute, second = content
            date = f"{century - 100:02}{year - 100:02}-{month:02}-{day:02}"
            return f"{date} {hour - 1:02}:{minute - 1:02}:{second - 1:02}"
        return content.decode()


def integer(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def data(value: bytes) -> bytes:
    if len(value) <= 252:
        return bytes([len(value)]) + value
    return b"\xfe" + integer(len(value)) + value + b"\0"


def counted(value: str) -> bytes:
    return integer(len(value.encode())) + (data(value.encode()) if value else b"")


@lru_cache(maxsize=1 << 18)
def encode_number(value: int | float) -> bytes:
    """Oracle's NUMBER: an exponent of 100, then the digits in base 100; inverted when negative."""
    sign, digits, exponent = Decimal(str(value)).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)) + "0" * (exponent % 2)
    text = text.zfill(len(text) + len(text) % 2)
    pairs = [int(text[n : n + 2]) for n in range(0, len(text), 2)]
    power = 193 + len(pairs) - 1 + exponent // 2
    while pairs and pairs[-1] == 0:
        pairs.pop()
    if not pairs:
        return b"\x01\x80"
    if sign:
        return data(bytes([255 - power, *(101 - pair for pair in pairs), 102]))
    return data(bytes([power, *(pair + 1 for pair in pairs)]))


@lru_cache(maxsize=1 << 16)
def encode_text(value: object) -> bytes:
    return data(str(value).encode())


@lru_cache(maxsize=1 << 12)
def encode_date(value: str) -> bytes:
    """Oracle's DATE from text such as 2026-08-17 00:00:00."""
    year, month, day, hour, minute, second = (int(part) for part in re.split("[- :]", value))
    fields = [year // 100 + 100, year % 100 + 100, month, day, hour + 1, minute + 1, second + 1]
    return data(bytes(fields))


ENCODERS: dict[int, Callable[..., bytes]] = {
    NUMBER: encode_number,
    VARCHAR2: encode_text,
    DATE: encode_date,
}


def protocol() -> bytes:
    """PROTOCOL: character set AL32UTF8; the capabilities are those of a 19c server."""
    compile_time, run_time = bytearray(55), bytearray(13)
    compile_time[7], run_time[6] = 12, 4
    sets = struct.pack("<HBH", 873, 0, 0) + struct.pack(">H9xH", 11, 2000)
    banner = b"Oracle Net stand-in\0"
    capabilities = data(bytes(compile_time)) + data(bytes(run_time))
    return bytes([PROTOCOL, 6, 0]) + banner + sets + capabilities


def parameters(**pairs: str) -> bytes:
    """The keys and values of an answer to AUTH. The verifier's type stands where flags would."""
    message = bytes([PARAMETER]) + integer(len(pairs))
    for key, value in pairs.items():
        flags = 0x4815 if key == "AUTH_VFR_DATA" else 0
        message += counted(key) + counted(value) + integer(flags)
    return message + DONE


def describe(names: list[str], types: list[int]) -> bytes:
    """DESCRIBE_INFO: the columns of a query."""
    message = bytes([DESCRIBE_INFO, 0]) + integer(0) + integer(len(names)) + b"\0"
    for name, kind in zip(names, types, strict=True):
        size, scale = {NUMBER: (22, 0x81), DATE: (7, 0), VARCHAR2: (4000, 0)}[kind]
        is_text = kind == VARCHAR2
        message += bytes([kind, 0, 0, scale]) + integer(size) + bytes(4)
        message += (
            integer(873 if is_text else 0) + bytes([is_text]) + integer(size if is_text else 0)
        )
        message += bytes([0, 1, 0]) + counted(name.upper()) + bytes(4)
    return message + bytes(6)


def error(text: str, cursor_id: int = 0, rows: int = 0) -> bytes:
    """ERROR: how a call ended. Its number is the one in "ORA-00942: ..."; 0 for no text."""
    number = int(text[4:9]) if text else 0
    message = bytes([ERROR, 0, 0, 0]) + integer(number) + bytes(2) + integer(cursor_id)
    message += bytes(7 + 5 + 5 + 4)  # position, flags; row id; more flags; batch errors
    return message + integer(number) + integer(rows) + (data(text.encode()) if text else b"")


# --- the queries ---


def refusal(sql: str) -> str | None:
    """Oracle's complaint about a statement that only SQLite would run."""
    matches: Iterator[str] = (
        complaint
        for pattern, complaint in ORACLE_REFUSES.items()
        if re.search(pattern, sql, re.IGNORECASE)
    )
    return next(matches, None)


def declared_types(sqlite: sqlite3.Connection) -> dict[str, int]:
    """The type of every column by its name, over all tables."""
    tables = [
        row[0] for row in sqlite.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    ]
    kinds = {"NUMBER": NUMBER, "VARCHAR2": VARCHAR2, "DATE": DATE}
    columns = [row for table in tables for row in sqlite.execute(f"PRAGMA table_info({table})")]
    return {column[1]: kinds[column[2]] for column in columns}
