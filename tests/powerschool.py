"""A stand-in for PowerSchool's database: a server for the real python-oracledb, over SQLite.

The unpatched thin driver logs in, runs queries with binds and fetches rows, as from a 19c server.
So does node-oracledb's, which test_oracle_drivers.py compares with it.
What goes over the line is in oracle_net.py; here is what the server does, and what it does wrong.

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
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import oracle_net as net
from faults import BUSY, DEAF, DROP, ENDLESS, HALF, HANG, HUGE, SLOW, TRICKLE, Fault
from oracle_net import Function, Marker, Message, Packet, Reader, Type, Unexpected

# What a server can demand that the thin driver cannot do: PowerSchool.demands.
ENCRYPTION = "encryption"  # of the line, Oracle's own: DPY-3001
OLD_RELEASE = "old release"  # of the database, 11g: DPY-3010
OLD_VERIFIER = "old verifier"  # of the password, 10g: DPY-3015
DEMANDS = (ENCRYPTION, OLD_RELEASE, OLD_VERIFIER)

SLOW_SECONDS = 0.7
TRICKLE_SECONDS = 0.3  # from byte to byte
RECEIVE_BUFFER = 16 * 1024  # small, so that a client that sends to a deaf server soon blocks
CANCELLED = "ORA-01013: user requested cancel of current operation"
NO_MORE_ROWS = "ORA-01403: no data found"
NO_TABLE = "ORA-00942: table or view does not exist"
NO_SCHEMA = "ORA-01435: user does not exist"
WRONG_PASSWORD = "ORA-01017: invalid username/password; logon denied"


class PowerSchool:
    """The server, on a free port of the loopback address, while its `with` block lasts.

    `database` is an SQLite file; its columns are declared NUMBER, VARCHAR2, NVARCHAR2 or DATE, its
    dates are text in the form `2026-08-17 00:00:00`, those before Christ with a minus before it.
    What is stored as a BLOB is sent as it is. `delay` is added to every round trip, in seconds.

    `fault` is asked at each step what goes wrong: at "CONNECT", "LOG IN" (the user is known),
    "PASSWORD", the text of a query, "FETCH " and this text when more of its rows are wanted, and
    "LOG OFF". It answers as faults.py has it; a refusal is a text such as "ORA-01555: ...".

    A query's rows are what is ENDLESS, and the first value of a row is what is HUGE. What else has
    no rows: there ENDLESS is TRICKLE, and HUGE an error's text, or at "CONNECT" the size of packets
    (the driver then takes 4 GB of memory for one).
    """

    user = "ps_read"
    password = "Raven-Oak-17"
    service = "PSPROD"

    def __init__(self, database: Path, delay: float = 0.0, fault: Fault | None = None) -> None:
        self.database = database
        self.delay = delay
        self.fault = fault
        self.warning = ""  # comes with a successful log-in, such as "ORA-28002: ..."
        self.demands = ""  # one of DEMANDS
        self.owner = "PS"  # of the tables: the only schema there is
        self.synonyms = True  # a session in another schema finds the tables by their bare names
        self.schema = ""  # what the newest session has set; "" is the user's own
        self.log_ins: list[str] = []  # the passwords that came; a wrong one cannot be read here
        self.steps: list[str] = []  # all that were reached
        self.queries: list[str] = []  # the texts of all statements
        self.round_trips = 0  # every request that waits for an answer, the log-in included
        self.lock = threading.Lock()
        self.ended = threading.Event()  # the `with` block is over

    def __enter__(self) -> PowerSchool:
        with closing(sqlite3.connect(self.database)) as sqlite:
            # So that a session can go on reading an old state while the file is changed.
            sqlite.execute("PRAGMA journal_mode=WAL")
        self.server = Server(self)
        self.port = self.server.server_address[1]
        self.dsn = f"127.0.0.1:{self.port}/{self.service}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def reach(self, step: str) -> str | None:
        """Note a step, and ask what goes wrong there."""
        with self.lock:  # for sessions at the same time, and for faults that count
            self.steps.append(step)
            return self.fault(step) if self.fault else None


class Server(socketserver.ThreadingTCPServer):
    """Listens, and starts a Session in a thread of its own for each client."""

    daemon_threads = True

    def __init__(self, powerschool: PowerSchool) -> None:
        self.powerschool = powerschool
        super().__init__(("127.0.0.1", 0), Session)

    def server_bind(self) -> None:
        """Called before it listens; the connections that it gets then have this, too."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        super().server_bind()


Rows = list[tuple[object, ...]]


class Gone(Exception):
    """The client closed the connection, or a fault did."""


class Refused(Exception):
    """The server's answer is this error: "ORA-nnnnn: ..."."""


@dataclass
class Cursor:
    """A statement that the client has executed, and its rows that are not sent yet."""

    sql: str
    bind_types: list[int]
    names: list[str] = field(default_factory=list)
    types: list[Type] = field(default_factory=list)
    rows: Iterator[tuple[object, ...]] = field(default_factory=lambda: iter(()))
    sent: int = 0
    endless: bool = False


class Session(socketserver.BaseRequestHandler):
    """One client's connection: its packets, and an answer for each of its messages."""

    server: Server

    def setup(self) -> None:
        """Called first, by socketserver."""
        self.powerschool = self.server.powerschool
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.request.makefile("rb")
        self.header = net.packet_header(large=False)
        self.wrong = ""  # HALF, ENDLESS or HUGE: the next answer is
        self.schema = self.powerschool.schema = ""  # the user's own
        self.data = Data(self.powerschool.database, self.powerschool.owner)
        self.cursors: dict[int, Cursor] = {}

    def handle(self) -> None:
        """Answer until the client goes, or a fault ends it."""
        try:
            self.accept()
            while True:
                try:
                    self.answer(self.message())
                except Refused as refused:
                    self.send(net.error(str(refused)))
        except (Gone, ConnectionError):
            pass

    def finish(self) -> None:
        """Called last, however `handle` ended."""
        self.stream.close()
        self.data.close()

    # --- packets ---

    def packet(self) -> tuple[int, bytes]:
        """The next packet as (type, content). Raises Gone if there is none."""
        header = self.stream.read(self.header.size)
        if len(header) < self.header.size:
            raise Gone
        length, kind = self.header.unpack(header)
        return kind, self.stream.read(length - self.header.size)

    def built(self, kind: Packet, content: bytes) -> bytes:
        """A packet with its header."""
        return self.header.pack(self.header.size + len(content), kind) + content

    def send_packets(self, packets: bytes) -> None:
        """Send an answer, late if the line is slow."""
        time.sleep(self.powerschool.delay)
        if self.wrong == HALF:
            self.request.sendall(packets[: len(packets) // 2])
            raise Gone
        self.request.sendall(packets)

    def send(self, message: bytes) -> None:
        """Send a message, in as many packets as it takes."""
        if self.wrong == HUGE:
            self.start_huge(net.huge_error())
        if self.wrong == ENDLESS:
            self.trickle()
        flags = bytes(2)
        room = net.SDU - self.header.size - len(flags)
        starts = range(0, len(message), room)
        pieces = [flags + message[start : start + room] for start in starts]
        self.send_packets(b"".join(self.built(Packet.DATA, piece) for piece in pieces))

    def data_packet(self) -> bytes:
        """The content of the next packet of a message."""
        kind, content = self.packet()
        if kind == Packet.MARKER:
            self.break_off(content)
        if kind != Packet.DATA:
            raise Unexpected(f"a packet of type {kind}")
        flags = int.from_bytes(content[:2], "big")
        if flags & net.DATA_FLAGS_EOF:
            raise Gone
        return content[2:]

    def message(self) -> Reader:
        """The next message, to be read."""
        return Reader(self.data_packet(), more=self.data_packet)

    def break_off(self, marker: bytes) -> None:
        """Answer the client's marker, and all that follow up to its RESET; then refuse the call."""
        kind = marker[2]
        while kind != Marker.RESET:
            self.request.sendall(self.built(Packet.MARKER, net.marker(Marker.BREAK)))
            kind = self.next_marker()[2]
        self.request.sendall(self.built(Packet.MARKER, net.marker(Marker.RESET)))
        raise Refused(CANCELLED)

    def next_marker(self) -> bytes:
        """The content of the next packet, which can only be a marker: the client awaits us."""
        kind, content = self.packet()
        if kind != Packet.MARKER:
            raise Gone  # it gives up the connection
        return content

    # --- faults ---

    def reach(self, step: str) -> None:
        """Do what goes wrong at this step, if anything does."""
        wrong = self.powerschool.reach(step)
        if wrong == DROP:
            raise Gone
        if wrong == HANG:
            while True:
                self.packet()
        if wrong == DEAF:
            self.powerschool.ended.wait()
            raise Gone
        if wrong == TRICKLE:
            self.trickle()
        if wrong == BUSY:
            self.break_off(self.next_marker())
        if wrong == SLOW:
            time.sleep(SLOW_SECONDS)
        elif wrong in (HALF, ENDLESS, HUGE):
            self.wrong = wrong
        elif wrong:
            net.error_number(wrong)  # complains about what is no error of Oracle's
            raise Refused(wrong)

    def trickle(self) -> NoReturn:
        """Send a packet of the greatest size byte by byte, which takes 40 minutes."""
        for byte in self.built(Packet.DATA, bytes(net.SDU - self.header.size)):
            if self.powerschool.ended.wait(TRICKLE_SECONDS):
                break
            self.request.sendall(bytes([byte]))
        raise Gone

    def start_huge(self, message: bytes) -> NoReturn:
        """Send a message that ends with a huge length, and trickle what has this length."""
        self.wrong = ""
        self.send(message)
        self.trickle()

    def endless(self, rows: Rows) -> Iterator[tuple[object, ...]]:
        """These rows again and again."""
        for row in cycle(rows):
            if self.powerschool.ended.is_set():
                raise Gone
            yield row

    # --- logging in ---

    def accept(self) -> None:
        """Answer CONNECT: is this a service that we have?"""
        connect_string = self.connect_string()
        with self.powerschool.lock:
            self.powerschool.round_trips += 1
        demands = self.powerschool.demands
        if demands and demands not in DEMANDS:
            raise ValueError(f"no such demand: {demands}")
        try:
            self.reach("CONNECT")
            self.check_service(connect_string)
        except Refused as refused:
            refuse = net.refuse(net.error_number(str(refused)))
            self.send_packets(self.built(Packet.REFUSE, refuse))
            raise Gone from None
        if self.wrong == ENDLESS:
            self.trickle()
        version = net.PROTOCOL_VERSION_11G if demands == OLD_RELEASE else net.PROTOCOL_VERSION
        flags = net.NSI_NA_REQUIRED if demands == ENCRYPTION else net.NSI_NA_DISABLED
        sdu = net.HUGE_LENGTH if self.wrong == HUGE else net.SDU
        self.send_packets(self.built(Packet.ACCEPT, net.accept(version, flags, sdu)))
        self.header = net.packet_header(large=True)

    def connect_string(self) -> str:
        """What CONNECT asks for; a long one comes in a DATA packet of its own."""
        _, content = self.packet()
        head = Reader(content).fields(net.CONNECT_HEAD)
        asked = content[head["offset to connect data"] - self.header.size :]
        return (asked or self.data_packet()).decode()

    def check_service(self, connect_string: str) -> None:
        """Is what is asked for the service that we have?"""
        if "(SID=" in connect_string.upper():
            raise Refused("ORA-12505: TNS:listener does not currently know of SID")
        service = re.search(r"\(SERVICE_NAME=([^)]*)", connect_string, re.IGNORECASE)
        if not service or service[1].upper() != self.powerschool.service:
            raise Refused("ORA-12514: TNS:listener does not currently know of service")

    def log_in_one(self, reader: Reader) -> bytes:
        """AUTH, phase one: our half of the session key, which only the password opens."""
        self.user, _ = net.read_auth(reader)
        self.server_half = secrets.token_bytes(32)
        self.session_salt = secrets.token_bytes(16)
        salt = secrets.token_bytes(16)
        self.password_key = net.password_key(self.powerschool.password, salt)
        old = self.powerschool.demands == OLD_VERIFIER
        pairs = {
            "AUTH_SESSKEY": net.encrypt(self.password_key, self.server_half),
            "AUTH_VFR_DATA": salt.hex().upper(),
            "AUTH_PBKDF2_CSK_SALT": self.session_salt.hex().upper(),
            "AUTH_PBKDF2_VGEN_COUNT": str(net.KEY_ROUNDS),
            "AUTH_PBKDF2_SDER_COUNT": str(net.SESSION_ROUNDS),
        }
        verifier_type = net.VERIFIER_TYPE_10G if old else net.VERIFIER_TYPE_12C
        return net.parameters(pairs, verifier_type) + net.DONE

    def log_in_two(self, reader: Reader) -> bytes:
        """AUTH, phase two: the client's half, and the password under the key that both make."""
        _, pairs = net.read_auth(reader)
        client_half = net.decrypt(self.password_key, pairs["AUTH_SESSKEY"])
        key = net.session_key(client_half, self.server_half, self.session_salt)
        password = net.decrypt_password(key, pairs["AUTH_PASSWORD"])
        self.powerschool.log_ins.append(password.decode(errors="replace"))
        self.reach("PASSWORD")
        same_user = self.user.upper() == self.powerschool.user.upper()
        if not same_user or password != self.powerschool.password.encode():
            raise Refused(WRONG_PASSWORD)
        proof = secrets.token_bytes(16) + b"SERVER_TO_CLIENT"
        answer = {
            "AUTH_SESSION_ID": "1",
            "AUTH_SERIAL_NUM": "1",
            "AUTH_VERSION_NO": str(19 << 24),
            "AUTH_SC_SERVICE_NAME": self.powerschool.service,
            "AUTH_MAX_OPEN_CURSORS": "300",
            "AUTH_SVR_RESPONSE": net.encrypt(key, proof),
        }
        warning = self.powerschool.warning
        return net.parameters(answer) + (net.warning(warning) if warning else b"") + net.DONE

    # --- answering ---

    def answer(self, reader: Reader) -> None:
        """Read one message, with the piggybacks before it, and send its answer."""
        with self.powerschool.lock:
            self.powerschool.round_trips += 1
        kind = reader.byte()
        while kind == Message.PIGGYBACK:
            self.piggyback(reader)
            kind = reader.byte()
        if kind == Message.PROTOCOL:
            self.send(net.protocol())
        elif kind == Message.DATA_TYPES:
            self.send(net.DATA_TYPES_ANSWER)
        elif kind == Message.FUNCTION:
            function = reader.fields(net.FUNCTION_HEAD)["function"]
            self.send(self.call(Function(function), reader))
        else:
            raise Unexpected(f"a message of type {kind}")

    def piggyback(self, reader: Reader) -> None:
        """Read what comes before a call: cursors to close, or the schema that is wanted."""
        function = reader.fields(net.FUNCTION_HEAD)["function"]
        if function == Function.CLOSE_CURSORS:
            for _ in range(reader.fields(net.CLOSE_CURSORS)["number of cursors"]):
                self.cursors.pop(reader.field("ub4"), None)
        elif function == Function.SET_SCHEMA:
            reader.fields(net.SET_SCHEMA)
            self.set_schema(reader.data_with_length().decode().upper())
        else:
            raise Unexpected(f"a piggyback with function {function}")

    def set_schema(self, name: str) -> None:
        """From here on, tables without a schema's name are this one's. Refuses the whole call."""
        if name != self.powerschool.owner.upper():
            raise Refused(NO_SCHEMA)
        self.schema = self.powerschool.schema = name

    def call(self, function: Function, reader: Reader) -> bytes:
        """The answer to a FUNCTION message."""
        if function == Function.AUTH_PHASE_ONE:
            self.reach("LOG IN")
            return self.log_in_one(reader)
        if function == Function.AUTH_PHASE_TWO:
            return self.log_in_two(reader)
        if function == Function.EXECUTE:
            return self.execute(reader)
        if function in (Function.REEXECUTE, Function.REEXECUTE_AND_FETCH):
            return self.execute_again(reader)
        if function == Function.FETCH:
            return self.fetch(reader)
        if function == Function.LOGOFF:
            self.reach("LOG OFF")
        elif function in (Function.COMMIT, Function.ROLLBACK):
            self.data.end_transaction()
        elif function != Function.PING:
            raise Unexpected(f"function {function}")
        return net.DONE

    def execute(self, reader: Reader) -> bytes:
        """EXECUTE: a new statement, or one whose binds have other types than before."""
        head = reader.fields(net.EXECUTE)
        cursor_id = head["cursor id"]
        if head["pointer (cursor id)"]:
            sql = reader.data().decode()
            cursor_id = max(self.cursors, default=0) + 1
        else:
            sql = self.cursors[cursor_id].sql
        reader.fields(net.EXECUTE_VECTOR)
        binds = [reader.fields(net.BIND) for _ in range(head["number of binds"])]
        cursor = Cursor(sql, [bind["ora type num"] for bind in binds])
        self.cursors[cursor_id] = cursor
        self.run(cursor, reader)
        described = net.describe(cursor.names, cursor.types) if cursor.names else b""
        return self.rows(cursor_id, head["prefetch number of rows"], described)

    def execute_again(self, reader: Reader) -> bytes:
        """REEXECUTE, REEXECUTE_AND_FETCH: a statement that the client already has described."""
        head = reader.fields(net.REEXECUTE)
        cursor_id = head["cursor id"]
        self.run(self.cursors[cursor_id], reader)
        return self.rows(cursor_id, head["number of iterations"])

    def fetch(self, reader: Reader) -> bytes:
        """FETCH: more rows."""
        head = reader.fields(net.FETCH)
        cursor_id = head["cursor id"]
        self.reach(f"FETCH {self.cursors[cursor_id].sql}")
        return self.rows(cursor_id, head["fetch array size"])

    def run(self, cursor: Cursor, reader: Reader) -> None:
        """Run a cursor's statement with the binds that come next."""
        binds = net.read_binds(reader, cursor.bind_types)
        self.powerschool.queries.append(cursor.sql)
        self.reach(cursor.sql)
        if not self.powerschool.synonyms and not self.schema and bare_tables(cursor.sql):
            raise Refused(NO_TABLE)
        names, types, rows = self.data.run(cursor.sql, binds)
        if not cursor.names:  # otherwise the client has them, and holds on to these types
            cursor.names = names
            cursor.types = types
        cursor.rows = iter(rows)
        cursor.sent = 0
        cursor.endless = False

    def rows(self, cursor_id: int, count: int, described: bytes = b"") -> bytes:
        """The next `count` rows of a cursor, and whether there are more."""
        cursor = self.cursors[cursor_id]
        if not cursor.names:
            return net.error(cursor_id=cursor_id)
        if self.wrong == HUGE:
            self.start_huge(described + net.huge_row())
        if self.wrong == ENDLESS:
            self.wrong = ""
            if not cursor.endless:
                cursor.endless = True
                nulls = (None,) * len(cursor.names)
                cursor.rows = self.endless([*cursor.rows] or [nulls])
        batch = [row for _, row in zip(range(count), cursor.rows, strict=False)]
        cursor.sent += len(batch)
        ending = "" if len(batch) == count else NO_MORE_ROWS
        ended = net.error(ending, cursor_id, cursor.sent)
        return described + net.rows(cursor.types, batch) + ended


# --- the data: Oracle's SQL, as SQLite runs it ---

# CASE WHEN firstday >= :day THEN firstday END: a column's values, or some of them.
CHOSEN = r"(?is)\bCASE\s+WHEN\b(?:(?!\b(?:CASE|THEN|END)\b).)*\bTHEN\s+([a-z][\w.]*)\s+END\b"


class Data:
    """One session's view of the SQLite file, whose tables are those of the schema `owner`."""

    def __init__(self, database: Path, owner: str) -> None:
        self.owner = owner
        self.sqlite = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        # So SQLite knows the tables with the schema's name, and without it.
        self.sqlite.execute("ATTACH DATABASE ? AS ?", (str(database), owner))
        self.sqlite.text_factory = bytes  # it may be no UTF-8, which is the client's business
        self.sqlite.execute("PRAGMA case_sensitive_like=ON")
        self.sqlite.execute("CREATE TEMP TABLE dual (dummy VARCHAR2)")
        self.sqlite.execute("INSERT INTO dual VALUES ('X')")
        self.at_start = True  # of a transaction: there was no statement yet

    def close(self) -> None:
        """Give up the file, and what is left of a transaction."""
        self.sqlite.close()

    def run(self, sql: str, binds: Sequence[object]) -> tuple[list[str], list[Type], Rows]:
        """Run a statement: the names and types of its columns, and its rows. Raises Refused."""
        words = " ".join(bare(sql).upper().split())
        if words == "SET TRANSACTION READ ONLY":
            self.begin()
        elif words in ("COMMIT", "ROLLBACK"):
            self.end_transaction()
        elif words.startswith(("SELECT ", "WITH ")):
            self.at_start = False
            return self.query(sql, binds)
        elif re.match("(INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|TRUNCATE|GRANT) ", words):
            raise Refused("ORA-01031: insufficient privileges")
        else:
            raise Refused("ORA-00900: invalid SQL statement")
        return [], [], []

    def begin(self) -> None:
        """From here on, see the data as they are now."""
        if not self.at_start:
            raise Refused("ORA-01453: SET TRANSACTION must be first statement of transaction")
        self.at_start = False
        self.sqlite.execute("BEGIN")
        only_this_fixes_the_state = f"SELECT COUNT(*) FROM {self.owner}.sqlite_master"
        self.sqlite.execute(only_this_fixes_the_state)

    def end_transaction(self) -> None:
        """From here on, see the newest data again."""
        self.at_start = True
        if self.sqlite.in_transaction:
            self.sqlite.execute("ROLLBACK")

    def query(self, sql: str, binds: Sequence[object]) -> tuple[list[str], list[Type], Rows]:
        """Run a query, to its end at once: its rows are those of now even if fetched later."""
        complaint = refusal(sql)
        if complaint:
            raise Refused(complaint)
        try:
            found = self.sqlite.execute(translated(sql, "?"), binds)
            rows = found.fetchall()
        except sqlite3.OperationalError as problem:
            raise Refused(oracles_words(str(problem))) from None
        names = [column[0].upper() for column in found.description]
        types = self.types(sql, rows)
        if Type.NVARCHAR2 in types:  # once more, so that text and BLOBs can be told apart
            self.sqlite.text_factory = net.Text
            rows = self.sqlite.execute(translated(sql, "?"), binds).fetchall()
            self.sqlite.text_factory = bytes
        return names, types, rows

    def types(self, sql: str, rows: Rows) -> list[Type]:
        """The type of each column of a query.

        A view's columns have the types of the columns that they are made of, by whatever name. A
        computed one has none: then its first value tells. CASE WHEN ... THEN column END is taken
        for the column.
        """
        columns_only = re.sub(CHOSEN, r"\1", translated(sql, "NULL"))
        self.sqlite.execute(f"CREATE TEMP VIEW described AS {columns_only}")
        columns = self.sqlite.execute("PRAGMA temp.table_info(described)").fetchall()
        self.sqlite.execute("DROP VIEW temp.described")
        types = []
        for place, (_, _, declared, *_) in enumerate(columns):
            name = declared.decode().split("(")[0]  # without the size
            if name in Type.__members__:
                types.append(Type[name])
            else:
                values = (row[place] for row in rows if row[place] is not None)
                types.append(type_of(next(values, None)))
        return types


def type_of(value: object) -> Type:
    """The type of a computed column, by its first value that is not NULL."""
    if isinstance(value, int | float):
        return Type.NUMBER
    if isinstance(value, bytes) and re.fullmatch(rb"-?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", value):
        return Type.DATE
    return Type.VARCHAR2


def oracles_words(problem: str) -> str:
    """Oracle's error for one of SQLite's."""
    what, _, name = problem.partition(": ")
    quoted = name.upper().replace(".", '"."')
    invalid = f'ORA-00904: "{quoted}": invalid identifier'
    errors = {
        "no such table": "ORA-00942: table or view does not exist",
        "no such column": invalid,
        "no such function": invalid,
        "ambiguous column name": "ORA-00918: column ambiguously defined",
    }
    return errors.get(what, f"ORA-00900: invalid SQL statement ({problem})")


def bare(sql: str) -> str:
    """An SQL text of the same length with blanks in place of comments and of the text in quotes."""

    def blank(found: re.Match[str]) -> str:
        length = len(found[0])
        return "'" + " " * (length - 2) + "'" if found[0].startswith("'") else " " * length

    return re.sub(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", blank, sql, flags=re.DOTALL)


def bare_tables(sql: str) -> set[str]:
    """The tables that a query names without their schema, in capitals."""
    plain = bare(sql).upper()
    named_here = set(re.findall(r"(\w+)\s+AS\s*\(", plain)) | {"DUAL"}  # WITH name AS (...)
    names = set()
    for block in blocks(plain):
        if not re.search(r"\bSELECT\b", block):
            continue  # EXTRACT(YEAR FROM day)
        block = re.sub(r"{[^}]*}", "{}", block)
        for listed in re.findall(rf"(?s)\bFROM\b(.*?)(?=\b(?:{CLAUSES})\b|$)", block):
            for table in re.split(r",|\bJOIN\b", listed):
                names |= set(re.findall(r"^\s*(\w+)(?![\w.])", table))
    return names - named_here


@cache
def translated(sql: str, bind: str) -> str:
    """The query for SQLite: `bind` in place of each :name, and NULLs sorted as Oracle does.

    Both take the binds one by one in their order in the text. Where a query does not say it,
    Oracle has NULLs last, and first with DESC; SQLite has it the other way round.
    """
    plain = bare(sql)
    changes = [(*found.span(), bind) for found in re.finditer(r":\w+", plain)]
    for found in re.finditer(r"(?i)\bDBTIMEZONE\b", plain):  # node-oracledb asks for it first
        changes.append((*found.span(), "'+00:00'"))
    for start, end in order_terms(plain):
        term = plain[start:end].rstrip()  # without a comment after it
        words = term.upper().split()
        if "NULLS" not in words:
            end = start + len(term)
            changes.append((end, end, " NULLS FIRST" if "DESC" in words else " NULLS LAST"))
    for start, end, text in sorted(changes, reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def order_terms(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each term of each ORDER BY, in a bare SQL text."""
    starts: list[int | None] = [None]  # of the term that is being read, at each level of brackets
    tokens = r"\bORDER\s+BY\b|[(),]|\b(?:FETCH|OFFSET|ROWS|RANGE)\b|\Z"
    for found in re.finditer(tokens, text, re.IGNORECASE):
        token = found[0]
        if token == "(":
            starts.append(None)
            continue
        start = starts[-1]
        if start is not None:
            yield start, found.start()
        if token == ")" and len(starts) > 1:
            starts.pop()
        elif token == ",":
            starts[-1] = None if start is None else found.end()
        else:
            starts[-1] = found.end() if token[:1] in "Oo" and token[-1:] in "Yy" else None


# --- what SQLite takes and Oracle 19c refuses, so that a query that passes here passes there ---

# Words that are no names in Oracle: "Oracle SQL Reserved Words" in its SQL Language Reference.
RESERVED = "|".join(
    """ACCESS ADD ALL ALTER AND ANY AS ASC AUDIT BETWEEN BY CHAR CHECK CLUSTER COLUMN COMMENT
    COMPRESS CONNECT CREATE CURRENT DATE DECIMAL DEFAULT DELETE DESC DISTINCT DROP ELSE EXCLUSIVE
    EXISTS FILE FLOAT FOR FROM GRANT GROUP HAVING IDENTIFIED IMMEDIATE IN INCREMENT INDEX INITIAL
    INSERT INTEGER INTERSECT INTO IS LEVEL LIKE LOCK LONG MAXEXTENTS MINUS MLSLABEL MODE MODIFY
    NOAUDIT NOCOMPRESS NOT NOWAIT NULL NUMBER OF OFFLINE ON ONLINE OPTION OR ORDER PCTFREE PRIOR
    PUBLIC RAW RENAME RESOURCE REVOKE ROW ROWID ROWNUM ROWS SELECT SESSION SET SHARE SIZE SMALLINT
    START SUCCESSFUL SYNONYM SYSDATE TABLE THEN TO TRIGGER UID UNION UNIQUE UPDATE USER VALIDATE
    VALUES VARCHAR VARCHAR2 VIEW WHENEVER WHERE WITH""".split()
)
SQLITE_FUNCTIONS = "|".join(
    """CEILING CHANGES CONCAT_WS DATETIME DEGREES FORMAT GROUP_CONCAT HEX IFNULL IIF JULIANDAY
    LIKELIHOOD LIKELY LOG10 LOG2 PI POW PRINTF QUOTE RADIANS RANDOM RANDOMBLOB STRFTIME STRING_AGG
    SUBSTRING TOTAL TYPEOF UNICODE UNIXEPOCH UNLIKELY ZEROBLOB""".split()
)
CONSTANTS = "CASE|CURRENT_DATE|CURRENT_TIMESTAMP"  # these may stand beside COUNT
CLAUSES = "WHERE|GROUP|HAVING|ORDER"
NOT_ENDED = "ORA-00933: SQL command not properly ended"
NO_FROM = "ORA-00923: FROM keyword not found where expected"
NO_EXPRESSION = "ORA-00936: missing expression"
NO_OPERATOR = "ORA-00920: invalid relational operator"
NO_NAME = 'ORA-00904: "{}": invalid identifier'  # {} is what the pattern's group has found
NOT_GROUPED = "ORA-00979: not a GROUP BY expression"
NOT_SINGLE = "ORA-00937: not a single-group group function"

# Looked for in each block of a query, see `blocks`: brackets in it are {}. All of these are refused
# by Oracle; where more than one thing is wrong, it may complain of the other.
ORACLE_REFUSES = {
    r";\s*$": NOT_ENDED,
    rf"\bFROM\b(?:(?!\b(?:{CLAUSES})\b).)*\bAS\b(?!\s+OF\b)": NOT_ENDED,  # a table's alias
    r"\b(?:LIMIT|EXCEPT)\b|\bCOLLATE\s+NOCASE\b": NOT_ENDED,
    r"\bWITH\s+RECURSIVE\b": "ORA-00905: missing keyword",
    r"^(?!.*\bFROM\b).*\bSELECT\b": NO_FROM,  # SELECT 1; Oracle has FROM dual for this
    r"\bSELECT\s+\*\s*,": NO_FROM,
    rf"\bSELECT\b.*\bAS\s+(?:{RESERVED})\b": NO_FROM,
    r"\b(TRUE|FALSE|CURRENT_TIME)\b": NO_NAME,
    rf"\b({SQLITE_FUNCTIONS})\s*{{": NO_NAME,
    r"\bDATE\s*{|==|<<|>>|\bIN\s*{\s*}": NO_EXPRESSION,
    r"[%&~`\[]": "ORA-00911: invalid character",
    r"(?<!\|)\|(?!\|)": "ORA-00996: the concatenate operator is ||, not |",
    r"\b(?:GLOB|ISNULL|NOTNULL)\b": NO_OPERATOR,
    # A condition without a comparison: WHERE active AND ...
    rf"\b(?:WHERE|HAVING|ON|OR)\s+[\w.:]+\s*(?:$|\b(?:AND|OR|{CLAUSES})\b)": NO_OPERATOR,
    r"\bIS\s+(?:NOT\s+)?(?!NOT\b|NULL\b|NAN\b|INFINITE\b)\S": "ORA-00908: missing NULL keyword",
    # A name in quotes is taken as it is, and those of columns are in capitals. Aliases are free.
    r"(?:[{,=<>.|+*/-]|\b(?:SELECT|WHERE|AND|OR|NOT|BY|ON|WHEN|THEN|ELSE|FROM|JOIN))\s*"
    r'"((?-i:\w*[a-z]\w*))"': NO_NAME,
    rf":(?:{RESERVED})\b": "ORA-01745: invalid host/bind variable name",
    r"\b(?:MAX|MIN)\s*{[^}]*,": "ORA-00909: invalid number of arguments",
    r"\bUSING\s*{\s*(\w+)\s*}.*\.\1\b|\.(\w+)\b.*\bUSING\s*{\s*\2\s*}": (
        "ORA-25154: column part of USING clause cannot have qualifier"
    ),
}


@cache
def refusal(sql: str) -> str:
    """Oracle's complaint about a query that only SQLite would run, or ""."""
    for block in blocks(bare(sql)):
        for pattern, complaint in ORACLE_REFUSES.items():
            found = re.search(pattern, block, re.IGNORECASE | re.DOTALL)
            if found and complaint == NO_NAME:
                quoted = found[0].endswith('"')
                return complaint.format(found[1] if quoted else found[1].upper())
            if found:
                return complaint
        if complaint := ungrouped(block):
            return complaint
    return ""


def blocks(text: str) -> Iterator[str]:
    """The parts of a bare SQL text, the inner ones first: what is in brackets, and what is between
    UNION and the like. In each of them, {...} or {a, b} stands for what is in brackets there.
    """
    names = r"\s*(?:[\w.:]+\s*(?:,\s*[\w.:]+\s*)*)?"
    while found := re.search(r"\(([^()]*)\)", text):
        inner = found[1]
        yield from re.split(r"(?i)\b(?:UNION|INTERSECT)\b", inner)
        short = inner if re.fullmatch(names, inner) else "..."
        text = f"{text[: found.start()]}{{{short}}}{text[found.end() :]}"
    yield from re.split(r"(?i)\b(?:UNION|INTERSECT)\b", text)


def ungrouped(block: str) -> str:
    """Oracle's complaint about a column beside COUNT and the like that no GROUP BY names, or ""."""
    block = re.sub(r"\s*{[^}]*}", "{}", block.upper())
    selected = re.search(r"\bSELECT\b(?:\s+DISTINCT\b)?(.*?)\bFROM\b", block, re.DOTALL)
    if not selected:
        return ""
    items = [item.split() for item in selected[1].split(",")]
    names = {item[0] for item in items if item and re.fullmatch(r"[A-Z][\w.]*", item[0])}
    plain = {
        name.split(".")[-1] for name in names if not re.fullmatch(f"{RESERVED}|{CONSTANTS}", name)
    }
    grouped = re.search(r"\bGROUP\s+BY\b(.*?)(?:\b(?:HAVING|ORDER)\b|$)", block, re.DOTALL)
    if grouped and "{" not in grouped[1]:
        listed = {name.strip().split(".")[-1] for name in grouped[1].split(",")}
        return NOT_GROUPED if plain - listed else ""
    counts = re.search(r"\b(?:COUNT|SUM|AVG|MIN|MAX)\s*{}(?!\s*OVER\b)", selected[1])
    return NOT_SINGLE if counts and plain and not grouped else ""
