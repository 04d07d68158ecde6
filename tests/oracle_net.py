"""Oracle Net as python-oracledb's thin mode speaks it: how packets and messages are built.

Nothing here opens a connection. The server that uses these formats is in powerschool.py.

Oracle has not published the protocol. It is written down in the source of the driver (python-
oracledb 26.1.0 on PyPI, `src/oracledb/impl/`): `thin/packet.pyx` and `base/buffer.pyx` for packets
and values, `thin/messages/*.pyx` for messages, `thin/constants.pxi` for numbers. Fields have here
the names that they have there, those of Oracle's own code ("al8doac") included; nobody outside
Oracle needs to know what such a field means, only that it is there.

A whole exchange. Everything travels in packets: a header with length and type, then the content.

    client: packet CONNECT    which service is wanted, as (DESCRIPTION=...(SERVICE_NAME=...)...)
    server: packet ACCEPT     the version of the protocol; or packet REFUSE with "(ERR=12514)"

From here on all packets are of type DATA. In them go messages, each with its own type, as long as
they need: a message may take several packets, and an answer is one or more messages.

    client: PROTOCOL          "I am python-oracledb"
    server: PROTOCOL          character set, and what this release can do
    client: DATA_TYPES        the long list of types that the client knows
    server: DATA_TYPES        an empty list: all of them may be used
    client: FUNCTION, AUTH_PHASE_ONE   user
    server: PARAMETER         AUTH_SESSKEY: half of a session key, encrypted with the password;
                              AUTH_VFR_DATA: the salt, and the verifier's type
            STATUS            "that was all"
    client: FUNCTION, AUTH_PHASE_TWO   the other half in the same way; AUTH_PASSWORD: the
                              password, encrypted with a key that is made of both halves
    server: PARAMETER         AUTH_SVR_RESPONSE: proof that the server has this key, too
            WARNING           if there is something to say, such as ORA-28002
            STATUS            or, for all three, ERROR with ORA-01017

Now the client is logged in and sends a statement. The server opens a cursor for it.

    client: FUNCTION, EXECUTE          SQL, values for its binds, how many rows to send at once
    server: DESCRIBE_INFO     the columns: name, type, size
            ROW_HEADER        here without information
            ROW_DATA          a row; one such message for each
            ERROR             how it ended (also if well): number 0 and the cursor's number if there
                              are more rows, ORA-01403 (no data found) after the last one
    client: FUNCTION, FETCH            the cursor's number, how many rows
    server: ROW_HEADER, ROW_DATA ..., ERROR
    client: FUNCTION, REEXECUTE_AND_FETCH   the same statement once more, perhaps other values
    server: ROW_HEADER, ROW_DATA ..., ERROR
    client: PIGGYBACK, CLOSE_CURSORS   before another FUNCTION in the same packet; has no answer
    client: PIGGYBACK, SET_SCHEMA      likewise; the schema whose tables need no name before them
    client: FUNCTION, LOGOFF
    server: STATUS
    client: packet DATA without a message but with the flag EOF; then it closes the connection

To break off a call, the client sends packets of type MARKER: INTERRUPT or BREAK, then RESET. The
server answers a RESET with a RESET, and with ERROR for the call that ended like this.
"""

import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import IntEnum
from functools import cache, lru_cache
from hashlib import pbkdf2_hmac, sha512

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# --- Numbers: thin/constants.pxi, with TNS_PACKET_TYPE_, TNS_MSG_TYPE_ and so on before them ---


class Packet(IntEnum):
    """The type in a packet's header."""

    CONNECT = 1
    ACCEPT = 2
    REFUSE = 4
    DATA = 6
    MARKER = 12


class Message(IntEnum):
    """The first byte of a message."""

    PROTOCOL = 1
    DATA_TYPES = 2
    FUNCTION = 3
    ERROR = 4
    ROW_HEADER = 6
    ROW_DATA = 7
    PARAMETER = 8
    STATUS = 9
    WARNING = 15
    DESCRIBE_INFO = 16
    PIGGYBACK = 17


class Function(IntEnum):
    """What a FUNCTION or PIGGYBACK message asks for: its second byte."""

    REEXECUTE = 4
    FETCH = 5
    LOGOFF = 9
    COMMIT = 14
    ROLLBACK = 15
    REEXECUTE_AND_FETCH = 78
    EXECUTE = 94
    CLOSE_CURSORS = 105
    AUTH_PHASE_TWO = 115
    AUTH_PHASE_ONE = 118
    PING = 147
    SET_SCHEMA = 152


class Marker(IntEnum):
    """What a MARKER packet says: its third byte."""

    BREAK = 1
    RESET = 2
    INTERRUPT = 3


class Type(IntEnum):
    """The type of a column or bind: ORA_TYPE_NUM_ in the driver's base_impl.pxd."""

    VARCHAR2 = 1
    NUMBER = 2
    DATE = 12
    NVARCHAR2 = 257  # only here: it travels as a VARCHAR2 in the national character set


TIMESTAMP = 180  # no column's here, but node-oracledb binds a date like this
SDU = 8192  # the "session data unit": the size of a packet at most
TDU = 65535  # the "transport data unit", which only node-oracledb looks at
DATA_FLAGS_EOF = 0x0040
PROTOCOL_VERSION = 319  # of Oracle Net, not of the database
PROTOCOL_VERSION_11G = 314  # the driver's TNS_VERSION_MIN_ACCEPTED is 315
NSI_NA_DISABLED = 0x04  # without it, node-oracledb begins to negotiate what follows
NSI_NA_REQUIRED = 0x10  # "native network encryption and integrity are required"
VERIFIER_TYPE_12C = 0x4815
VERIFIER_TYPE_10G = 0x939  # not in constants.pxi: the driver does not support it
CHARSET_UTF8 = 873  # AL32UTF8
CHARSET_UTF16 = 2000  # AL16UTF16, the national character set
CCAP_FIELD_VERSION = 7  # where in the compile-time capabilities the release is
CCAP_FIELD_VERSION_19_1 = 12
CCAP_MAX = 55  # how many compile-time capabilities there are
RCAP_TTC = 6  # where in the run-time capabilities the following flag is
RCAP_TTC_32K = 4  # VARCHAR2 may have 32,767 bytes
RCAP_MAX = 13
MAX_SHORT_LENGTH = 252  # of bytes with a length of one byte
LONG_LENGTH_INDICATOR = 254  # in place of a length: pieces follow


class Unexpected(Exception):
    """The client sent what is not known here."""


# --- Values: base/buffer.pyx ---


class Reader:
    """Takes a message apart, from front to back. Gets more of it from `more` when it runs out."""

    def __init__(self, content: bytes, more: Callable[[], bytes] | None = None) -> None:
        self.content = content
        self.more = more
        self.position = 0

    def raw(self, length: int) -> bytes:
        """So many bytes as they are."""
        end = self.position + length
        while len(self.content) < end:
            if self.more is None:
                raise Unexpected(f"{len(self.content)} bytes that should be {end} or more")
            self.content += self.more()
        taken = self.content[self.position : end]
        self.position = end
        return taken

    def byte(self) -> int:
        """One byte, as a number."""
        return self.raw(1)[0]

    def integer(self) -> int:
        """An integer of any size: its length in one byte, then that many bytes."""
        return int.from_bytes(self.raw(self.byte()), "big")

    def data(self) -> bytes:
        """Bytes after their length in one byte; or in pieces, each after its length, up to a 0."""
        length = self.byte()
        if length != LONG_LENGTH_INDICATOR:
            return self.raw(length)
        return b"".join(self.raw(size) for size in iter(self.integer, 0))

    def data_with_length(self) -> bytes:
        """Bytes with two lengths: an integer, and if it is not 0, what `data` reads."""
        return self.data() if self.integer() else b""

    def fields(self, layout: "Layout") -> dict[str, int]:
        """The values of all fields of a layout, by their names."""
        return {name: self.field(kind) for name, kind in layout}

    def field(self, kind: str) -> int:
        """The value of one field."""
        if kind in FIXED_WIDTH:
            return int.from_bytes(self.raw(FIXED_WIDTH[kind]), "big")
        if kind in VARIABLE_WIDTH:
            return self.integer()
        raise ValueError(f"no kind of field that can be read: {kind}")


# What a message consists of: the names and kinds of its fields, in their order. The kinds have the
# names of the driver's functions: buf.write_ub4 writes a ub4.
Layout = Sequence[tuple[str, str]]
Values = dict[str, int | bytes]  # of fields, by name
FIXED_WIDTH = {"uint8": 1, "ub1": 1, "uint16be": 2, "uint32be": 4, "uint64be": 8}
VARIABLE_WIDTH = {"ub2", "ub4", "ub8"}  # at most so many bytes, but only as many as it takes


def integer(value: int) -> bytes:
    """An integer as Reader.integer reads it."""
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def data(value: bytes) -> bytes:
    """Bytes as Reader.data reads them."""
    if len(value) <= MAX_SHORT_LENGTH:
        return bytes([len(value)]) + value
    return bytes([LONG_LENGTH_INDICATOR]) + integer(len(value)) + value + integer(0)


def data_with_length(value: bytes) -> bytes:
    """Bytes as Reader.data_with_length reads them."""
    return integer(len(value)) + (data(value) if value else b"")


def field(kind: str, value: int | bytes) -> bytes:
    """One field."""
    if kind == "bytes_with_length" and isinstance(value, bytes):
        return data_with_length(value)
    if kind in FIXED_WIDTH and isinstance(value, int):
        return value.to_bytes(FIXED_WIDTH[kind], "big")
    if kind in VARIABLE_WIDTH and isinstance(value, int):
        return integer(value)
    raise ValueError(f"{value!r} cannot be written as a field of the kind {kind}")


def fields(layout: Layout, values: Values) -> bytes:
    """All fields of a layout, with these values; 0 or no bytes in those that have none."""
    unknown = values.keys() - {name for name, _ in layout}
    if unknown:
        raise ValueError(f"fields that are not in the layout: {unknown}")
    nothing = {"bytes_with_length": b""}
    return b"".join(field(kind, values.get(name, nothing.get(kind, 0))) for name, kind in layout)


# --- Columns' values: base/encoders.pyx and base/decoders.pyx ---

NULL = integer(0)


@lru_cache(maxsize=1 << 18)
def encode_number(value: int | float) -> bytes:
    """A NUMBER: an exponent of 100, then the digits in base 100, each plus 1.

    In a negative one all of this is inverted, and 102 stands at the end. 0 has no digits.
    """
    sign, decimals, exponent = Decimal(str(value)).as_tuple()
    if not isinstance(exponent, int):
        raise ValueError(f"no NUMBER: {value}")
    text = "".join(map(str, decimals)) + "0" * (exponent % 2)
    text = text.zfill(len(text) + len(text) % 2)
    digits = [int(text[start : start + 2]) for start in range(0, len(text), 2)]
    power = len(digits) - 1 + exponent // 2
    while digits and digits[0] == 0:
        digits.pop(0)
        power -= 1
    while digits and digits[-1] == 0:
        digits.pop()
    if not digits:
        return data(bytes([0x80]))
    if sign:
        return data(bytes([62 - power, *(101 - digit for digit in digits), 102]))
    return data(bytes([193 + power, *(digit + 1 for digit in digits)]))


def decode_number(content: bytes) -> int | float:
    """A NUMBER without its length, as an int if it is a whole number."""
    positive = content[0] >= 0x80
    if positive:
        power = content[0] - 193
        digits = [byte - 1 for byte in content[1:]]
    else:
        power = 62 - content[0]
        digits = [101 - byte for byte in content[1:].removesuffix(b"\x66")]
    value = sum((Decimal(100) ** (power - n) * digit for n, digit in enumerate(digits)), Decimal(0))
    value = value if positive else -value
    return int(value) if value == int(value) else float(value)


@lru_cache(maxsize=1 << 12)
def encode_date(value: bytes) -> bytes:
    """A DATE, from text such as 2026-08-17 00:00:00: a byte for each part, two for the year.

    Both of these are less than 100 in a year before Christ, which has a minus in the text. There
    may be no such day: an application can bring one into a real database, too.
    """
    before_christ = value.startswith(b"-")
    parts = [int(part) for part in re.split(b"[- :]", value.removeprefix(b"-"))]
    year, month, day, hour, minute, second = parts
    sign = -1 if before_christ else 1
    years = [100 + sign * (year // 100), 100 + sign * (year % 100)]
    return data(bytes([*years, month, day, hour + 1, minute + 1, second + 1]))


def decode_date(content: bytes) -> str:
    """A DATE without its length, as text such as 2026-08-17 00:00:00."""
    century, year, month, day, hour, minute, second = content
    date = f"{century - 100:02}{year - 100:02}-{month:02}-{day:02}"
    return f"{date} {hour - 1:02}:{minute - 1:02}:{second - 1:02}"


@lru_cache(maxsize=1 << 16)
def encode_text(value: bytes | int | float) -> bytes:
    """A VARCHAR2. Bytes are sent as they are, whether they are UTF-8 or not."""
    return data(value if isinstance(value, bytes) else str(value).encode())


class Text(bytes):
    """A text in UTF-8, where other bytes are sent as they are."""


def encode_national_text(value: bytes | int | float) -> bytes:
    """An NVARCHAR2. Bytes that are no Text are sent as they are, whether they are UTF-16 or not."""
    if isinstance(value, Text) or not isinstance(value, bytes):
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return data(text.encode("utf-16-be"))
    return data(value)


ENCODERS: dict[Type, Callable[..., bytes]] = {
    Type.NUMBER: encode_number,
    Type.DATE: encode_date,
    Type.VARCHAR2: encode_text,
    Type.NVARCHAR2: encode_national_text,
}


def decode_value(kind: int, content: bytes) -> int | float | str | None:
    """A bind's value without its length; no bytes are NULL."""
    if not content:
        return None
    if kind == Type.NUMBER:
        return decode_number(content)
    if kind in (Type.DATE, TIMESTAMP):
        return decode_date(content[:7])  # a TIMESTAMP has fractions of a second after it
    if kind == Type.VARCHAR2:
        return content.decode()
    raise Unexpected(f"a bind of type {kind}")


# --- CONNECT, ACCEPT, REFUSE, MARKER: messages/connect.pyx. The driver has no names for what it
# skips of ACCEPT and REFUSE; those here are from Wireshark's dissector of TNS ---

CONNECT_HEAD: Layout = [
    ("version desired", "uint16be"),
    ("version minimum", "uint16be"),
    ("service options", "uint16be"),
    ("sdu", "uint16be"),
    ("tdu", "uint16be"),
    ("protocol characteristics", "uint16be"),
    ("line turnaround", "uint16be"),
    ("value of 1", "uint16be"),
    ("connect string length", "uint16be"),
    ("offset to connect data", "uint16be"),  # from the start of the packet's header
]
ACCEPT: Layout = [
    ("protocol version", "uint16be"),
    ("protocol options", "uint16be"),
    ("sdu (small)", "uint16be"),
    ("tdu (small)", "uint16be"),
    ("value of 1", "uint16be"),
    ("accept data length", "uint16be"),
    ("offset to accept data", "uint16be"),
    ("flags1", "uint8"),
    ("flags1 (again)", "uint8"),
    ("obsolete", "uint64be"),
    ("sdu", "uint32be"),
    ("tdu", "uint32be"),
    ("compression", "uint8"),
    ("flags2", "uint32be"),  # 0: no urgent data, no shorter log-in, no message at an answer's end
]
REFUSE_HEAD: Layout = [
    ("user reason", "uint8"),
    ("system reason", "uint8"),
    ("refuse message length", "uint16be"),
]


def packet_header(large: bool) -> struct.Struct:
    """Length and type; once the connection is accepted, the length is `large`."""
    return struct.Struct(">IBxxx" if large else ">HxxBxxx")


def accept(protocol_version: int, flags: int, sdu: int = SDU) -> bytes:
    """The content of an ACCEPT packet."""
    values: Values = {"protocol version": protocol_version, "flags1": flags, "sdu": sdu, "tdu": TDU}
    return fields(ACCEPT, values)


def refuse(number: int) -> bytes:
    """The content of a REFUSE packet: the listener's error with this number."""
    reason = f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={number})(ERROR_STACK=(ERROR=(CODE={number}))))"
    head = fields(REFUSE_HEAD, {"refuse message length": len(reason)})
    return head + reason.encode()


def marker(kind: Marker) -> bytes:
    """The content of a MARKER packet."""
    return bytes([1, 0, kind])


# --- PROTOCOL, DATA_TYPES, STATUS: messages/protocol.pyx, data_types.pyx, base.pyx ---

PROTOCOL_HEAD: Layout = [("message type", "ub1"), ("server version", "ub1"), ("zero byte", "ub1")]
STATUS: Layout = [("message type", "ub1"), ("call status", "ub4"), ("end to end seq num", "ub2")]
# The driver looks in this array only for the national character set, which is at its end when
# bytes 5 and 6 are 0. What the others are is not to be found there.
FDO = bytes(9) + struct.pack(">H", CHARSET_UTF16)
DONE = fields(STATUS, {"message type": Message.STATUS})
DATA_TYPES_ANSWER = struct.pack(">BH", Message.DATA_TYPES, 0)  # 0 ends the list


def protocol() -> bytes:
    """PROTOCOL, as a 19c server answers: everything that came later is turned off."""
    compile_caps = bytearray(CCAP_MAX)
    compile_caps[CCAP_FIELD_VERSION] = CCAP_FIELD_VERSION_19_1
    runtime_caps = bytearray(RCAP_MAX)
    runtime_caps[RCAP_TTC] = RCAP_TTC_32K
    head = fields(PROTOCOL_HEAD, {"message type": Message.PROTOCOL, "server version": 6})
    banner = b"Oracle Net stand-in\0"
    server_flags = 0
    elements = 0
    character_sets = struct.pack("<HBH", CHARSET_UTF8, server_flags, elements)
    fdo = struct.pack(">H", len(FDO)) + FDO
    capabilities = data(bytes(compile_caps)) + data(bytes(runtime_caps))
    return head + banner + character_sets + fdo + capabilities


# --- AUTH_PHASE_ONE, AUTH_PHASE_TWO: messages/auth.pyx and crypto.pyx, the 12c verifier ---

AUTH: Layout = [
    ("pointer (authusr)", "ub1"),
    ("user bytes length", "ub4"),
    ("authentication mode", "ub4"),
    ("pointer (authivl)", "ub1"),
    ("number of key/value pairs", "ub4"),
    ("pointer (authovl)", "ub1"),
    ("pointer (authovln)", "ub1"),
]
KEY_ROUNDS = 4096  # AUTH_PBKDF2_VGEN_COUNT
SESSION_ROUNDS = 3  # AUTH_PBKDF2_SDER_COUNT


def encrypt(key: bytes, content: bytes) -> str:
    """AES in CBC mode, in hexadecimal digits, as all of AUTH has it."""
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
    return cipher.encryptor().update(content).hex().upper()


def decrypt(key: bytes, digits: str) -> bytes:
    """The content of what `encrypt` gives."""
    cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))
    return cipher.decryptor().update(bytes.fromhex(digits))


@cache
def password_key(password: str, salt: bytes) -> bytes:
    """The key that the halves of the session key are encrypted with."""
    salted = salt + b"AUTH_PBKDF2_SPEEDY_KEY"
    derived = pbkdf2_hmac("sha512", password.encode(), salted, KEY_ROUNDS, 64)
    return sha512(derived + salt).digest()[:32]


def session_key(client_half: bytes, server_half: bytes, salt: bytes) -> bytes:
    """The key that the password, and the server's proof, are encrypted with."""
    both = (client_half + server_half).hex().upper().encode()
    return pbkdf2_hmac("sha512", both, salt, SESSION_ROUNDS, 32)


def decrypt_password(key: bytes, digits: str) -> bytes:
    """AUTH_PASSWORD: 16 random bytes, the password, and a filling that holds its own length."""
    content = decrypt(key, digits)
    return content[16 : -content[-1]]


def read_auth(reader: Reader) -> tuple[str, dict[str, str]]:
    """An AUTH message after its function as (user, its keys and values)."""
    head = reader.fields(AUTH)
    user = reader.data().decode() if head["pointer (authusr)"] else ""
    pairs = {}
    for _ in range(head["number of key/value pairs"]):
        key = reader.data_with_length().decode()
        pairs[key] = reader.data_with_length().decode()
        reader.field("ub4")  # flags
    return user, pairs


def parameters(pairs: dict[str, str], verifier_type: int = 0) -> bytes:
    """PARAMETER: keys and values. AUTH_VFR_DATA has the verifier's type where others have flags."""
    message = bytes([Message.PARAMETER]) + integer(len(pairs))
    for key, value in pairs.items():
        message += data_with_length(key.encode()) + data_with_length(value.encode())
        message += integer(verifier_type if key == "AUTH_VFR_DATA" else 0)
    return message


WARNING_HEAD: Layout = [
    ("message type", "ub1"),
    ("error number", "ub2"),
    ("length of error message", "ub2"),
    ("flags", "ub2"),
]


def warning(text: str) -> bytes:
    """WARNING, from a text such as "ORA-28002: ..."."""
    values: Values = {
        "message type": Message.WARNING,
        "error number": error_number(text),
        "length of error message": len(text.encode()),
    }
    return fields(WARNING_HEAD, values) + data(text.encode())


# --- EXECUTE, and what else a FUNCTION can be: messages/execute.pyx, fetch.pyx, base.pyx ---

EXECUTE: Layout = [
    ("execute options", "ub4"),
    ("cursor id", "ub4"),
    ("pointer (cursor id)", "ub1"),  # the driver's name; it says whether the message has an SQL
    ("sql length", "ub4"),
    ("pointer (vector)", "ub1"),
    ("al8i4 array length", "ub4"),
    ("pointer (al8o4)", "ub1"),
    ("pointer (al8o4l)", "ub1"),
    ("prefetch buffer size", "ub4"),
    ("prefetch number of rows", "ub4"),
    ("maximum long size", "ub4"),
    ("pointer (binds)", "ub1"),
    ("number of binds", "ub4"),
    ("pointer (al8app)", "ub1"),
    ("pointer (al8txn)", "ub1"),
    ("pointer (al8txl)", "ub1"),
    ("pointer (al8kv)", "ub1"),
    ("pointer (al8kvl)", "ub1"),
    ("pointer (al8doac)", "ub1"),
    ("number of defines", "ub4"),
    ("registration id (lsb)", "ub4"),
    ("pointer (al8objlist)", "ub1"),
    ("pointer (al8objlen)", "ub1"),
    ("pointer (al8blv)", "ub1"),
    ("al8blvl", "ub4"),
    ("pointer (al8dnam)", "ub1"),
    ("al8dnaml", "ub4"),
    ("registration id (msb)", "ub4"),
    ("pointer (al8pidmlrc)", "ub1"),
    ("al8pidmlrcbl", "ub4"),
    ("pointer (al8pidmlrcl)", "ub1"),
    ("pointer (al8sqlsig)", "ub1"),
    ("SQL signature length", "ub4"),
    ("pointer (SQL ID)", "ub1"),
    ("allocated size of SQL ID", "ub4"),
    ("pointer (length of SQL ID)", "ub1"),
    ("pointer (chunk ids)", "ub1"),
    ("number of chunk ids", "ub4"),
]
EXECUTE_VECTOR: Layout = [
    ("al8i4[0] parse", "ub4"),
    ("al8i4[1] execution count", "ub4"),
    ("al8i4[2]", "ub4"),
    ("al8i4[3]", "ub4"),
    ("al8i4[4]", "ub4"),
    ("al8i4[5] SCN (part 1)", "ub4"),
    ("al8i4[6] SCN (part 2)", "ub4"),
    ("al8i4[7] is query", "ub4"),
    ("al8i4[8]", "ub4"),
    ("al8i4[9] execute flags", "ub4"),
    ("al8i4[10] fetch orientation", "ub4"),
    ("al8i4[11] fetch pos", "ub4"),
    ("al8i4[12]", "ub4"),
]
BIND: Layout = [
    ("ora type num", "ub1"),
    ("flag", "ub1"),
    ("precision", "ub1"),
    ("scale", "ub1"),
    ("buffer size", "ub4"),
    ("max num elements", "ub4"),
    ("cont flag", "ub8"),
    ("OID", "ub4"),
    ("version", "ub2"),
    ("character set id", "ub2"),
    ("csfrm", "ub1"),
    ("max chars (LOB prefetch)", "ub4"),
    ("oaccolid", "ub4"),
]
REEXECUTE: Layout = [
    ("cursor id", "ub4"),
    ("number of iterations", "ub4"),  # rows wanted, if it is a query
    ("options 1", "ub4"),
    ("options 2", "ub4"),
]
FETCH: Layout = [("cursor id", "ub4"), ("fetch array size", "ub4")]
FUNCTION_HEAD: Layout = [("function", "ub1"), ("sequence number", "ub1")]
CLOSE_CURSORS: Layout = [("pointer", "ub1"), ("number of cursors", "ub4")]
SET_SCHEMA: Layout = [("pointer", "ub1")]  # and the schema's name, with its length


def read_binds(reader: Reader, types: Sequence[int]) -> list[int | float | str | None]:
    """The values of the binds. A name comes once for each place that it has in the statement."""
    if types:
        kind = reader.byte()
        if kind != Message.ROW_DATA:
            raise Unexpected(f"a message of type {kind} where the binds' values should be")
    return [decode_value(kind, reader.data()) for kind in types]


# --- DESCRIBE_INFO, ROW_HEADER, ERROR: messages/base.pyx ---

COLUMN: Layout = [
    ("ora type num", "ub1"),
    ("flags", "ub1"),
    ("precision", "ub1"),
    ("scale", "ub1"),
    ("buffer size", "ub4"),
    ("max number of array elements", "ub4"),
    ("cont flags", "ub8"),
    ("oid", "bytes_with_length"),
    ("version", "ub2"),
    ("character set id", "ub2"),
    ("csfrm", "ub1"),  # character set form: 1 for text, 2 in the national character set
    ("max size", "ub4"),
    ("oaccolid", "ub4"),
    ("nulls allowed", "ub1"),
    ("v7 length of name", "ub1"),
    ("name", "bytes_with_length"),
    ("schema", "bytes_with_length"),
    ("type name", "bytes_with_length"),
    ("column position", "ub2"),
    ("uds flags", "ub4"),
]
DESCRIBE_HEAD: Layout = [
    ("message type", "ub1"),
    ("skipped", "ub1"),  # bytes, of which there are none
    ("max row size", "ub4"),
    ("number of columns", "ub4"),
    ("skipped if there are columns", "ub1"),
]
DESCRIBE_TAIL: Layout = [
    ("current date", "bytes_with_length"),
    ("dcbflag", "ub4"),
    ("dcbmdbz", "ub4"),
    ("dcbmnpr", "ub4"),
    ("dcbmxpr", "ub4"),
    ("dcbqcky", "bytes_with_length"),
]
COLUMN_VALUES: dict[Type, Values] = {
    # A NUMBER that was declared without precision and scale has the scale -127, as one byte 0x81.
    Type.NUMBER: {"ora type num": Type.NUMBER, "buffer size": 22, "scale": 0x81},
    Type.DATE: {"ora type num": Type.DATE, "buffer size": 7},
    Type.VARCHAR2: {
        "ora type num": Type.VARCHAR2,
        "buffer size": 4000,
        "max size": 4000,
        "character set id": CHARSET_UTF8,
        "csfrm": 1,
    },
    Type.NVARCHAR2: {
        "ora type num": Type.VARCHAR2,
        "buffer size": 4000,
        "max size": 2000,
        "character set id": CHARSET_UTF16,
        "csfrm": 2,
    },
}


def describe(names: Sequence[str], types: Sequence[Type]) -> bytes:
    """DESCRIBE_INFO: the columns of a query, of which there is at least one."""
    head: Values = {"message type": Message.DESCRIBE_INFO, "number of columns": len(names)}
    message = fields(DESCRIBE_HEAD, head)
    for name, kind in zip(names, types, strict=True):
        column: Values = {"nulls allowed": 1, "name": name.encode()}
        message += fields(COLUMN, COLUMN_VALUES[kind] | column)
    return message + fields(DESCRIBE_TAIL, {})


ROW_HEADER: Layout = [
    ("message type", "ub1"),
    ("flags", "ub1"),
    ("num requests", "ub2"),
    ("iteration number", "ub4"),
    ("num iters", "ub4"),
    ("buffer length", "ub2"),
    ("length of bit vector", "ub4"),  # which would say what columns are as in the row before
    ("rxhrid", "bytes_with_length"),
]


def rows(types: Sequence[Type], batch: Sequence[Sequence[object]]) -> bytes:
    """ROW_HEADER, and a ROW_DATA for each row. To Oracle, a text without characters is NULL."""
    encoders = [ENCODERS[kind] for kind in types]
    sent = bytearray(fields(ROW_HEADER, {"message type": Message.ROW_HEADER}))
    for row in batch:
        sent.append(Message.ROW_DATA)
        for encode, value in zip(encoders, row, strict=True):
            sent += NULL if value is None or value == b"" else encode(value)
    return bytes(sent)


ERROR: Layout = [
    ("message type", "ub1"),
    ("end of call status", "ub4"),
    ("end to end seq#", "ub2"),
    ("current row number", "ub4"),
    ("error number", "ub2"),
    ("array elem error (1)", "ub2"),
    ("array elem error (2)", "ub2"),
    ("cursor id", "ub2"),
    ("error position", "ub2"),
    ("sql type", "ub1"),
    ("fatal?", "ub1"),
    ("flags", "ub1"),
    ("user cursor options", "ub1"),
    ("UPI parameter", "ub1"),
    ("warning flags", "ub1"),
    ("rowid: rba", "ub4"),
    ("rowid: partition id", "ub2"),
    ("rowid: skipped", "ub1"),
    ("rowid: block num", "ub4"),
    ("rowid: slot num", "ub2"),
    ("OS error", "ub4"),
    ("statement number", "ub1"),
    ("call number", "ub1"),
    ("padding", "ub2"),
    ("success iters", "ub4"),
    ("oerrdd (logical rowid)", "bytes_with_length"),
    ("batch error codes", "ub2"),
    ("batch error row offsets", "ub4"),
    ("batch error messages", "ub2"),
    ("error number (extended)", "ub4"),
    ("row number (extended)", "ub8"),
]


def error_number(text: str) -> int:
    """The number in "ORA-00942: ..."."""
    found = re.match(r"ORA-(\d+):", text)
    if not found:
        raise ValueError(f"no error of Oracle's: {text}")
    return int(found[1])


HUGE_LENGTH = 0xFFFFFFFF
HUGE_DATA = bytes([LONG_LENGTH_INDICATOR]) + integer(HUGE_LENGTH)  # the start of such a text


def huge_row() -> bytes:
    """ROW_HEADER, and a ROW_DATA up to the length of its first value, which is huge."""
    return rows([], []) + bytes([Message.ROW_DATA]) + HUGE_DATA


def huge_error() -> bytes:
    """ERROR, up to the length of its text, which is huge."""
    values: Values = {"message type": Message.ERROR, "error number (extended)": 600}
    return fields(ERROR, values) + HUGE_DATA


def error(text: str = "", cursor_id: int = 0, row_count: int = 0) -> bytes:
    """ERROR: how a call ended, with a text such as "ORA-00942: ..." or well."""
    number = error_number(text) if text else 0
    values: Values = {
        "message type": Message.ERROR,
        "error number": number,
        "cursor id": cursor_id,
        "error number (extended)": number,
        "row number (extended)": row_count,
    }
    return fields(ERROR, values) + (data(text.encode()) if text else b"")
