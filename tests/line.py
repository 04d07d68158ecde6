"""A line to a server on this machine: it takes time, and it can be cut, or freeze, after any number
of bytes.

with Line(server.port, delay=0.02) as line:
    connect to 127.0.0.1, port line.port
"""

import asyncio
import socket
from dataclasses import dataclass, field

from background import Background


def narrow_listener() -> socket.socket:
    """A socket to listen on, whose clients block soon if nobody reads what they send.

    Otherwise a client on loopback has its own buffer made for 20 segments of 64 KB, which is over
    1 MB; and the server's grows with it.
    """
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    listener.bind(("127.0.0.1", 0))
    return listener


@dataclass
class Joined:
    """One connection over the line: `left` bytes from the client until it ends, or freezes."""

    client: asyncio.BaseTransport
    left: int | None
    freezes: bool
    frozen: asyncio.Event = field(default_factory=asyncio.Event)


class Line(Background):
    """Passes on what arrives, both ways, `delay` seconds later, without a limit on bandwidth.

    `cuts` are numbers of bytes, one for each connection in the order in which they are made: after
    so many bytes from the client the connection is gone. Further connections stay whole.
    With `freeze_after` each of these carries so many bytes from the client and then nothing more,
    either way, but stays open at both ends.
    """

    def __init__(
        self,
        server_port: int,
        delay: float = 0.0,
        cuts: tuple[int, ...] = (),
        freeze_after: int | None = None,
    ) -> None:
        self.server_port = server_port
        self.delay = delay
        self.cuts = list(cuts)
        self.freeze_after = freeze_after
        self.bytes_sent = 0  # by the clients, over all connections

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.connected, sock=narrow_listener())
        self.port: int = self.server.sockets[0].getsockname()[1]
        self.never = asyncio.Event()  # kept here: what waits for one that nobody keeps is dropped

    async def stop(self) -> None:
        self.server.close()

    async def connected(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Join a client's new connection to one of its own to the server."""
        is_cut = bool(self.cuts)
        left = self.cuts.pop(0) if is_cut else self.freeze_after
        joined = Joined(to_client.transport, left, freezes=not is_cut and left is not None)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        there = asyncio.create_task(self.carry(from_client, to_server, joined, is_there=True))
        back = asyncio.create_task(self.carry(from_server, to_client, joined, is_there=False))
        is_taken_down = False
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            is_taken_down = True
        for writer in (to_server, to_client):
            if is_cut or is_taken_down:
                writer.transport.abort()
            else:
                writer.close()

    async def carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        joined: Joined,
        is_there: bool,
    ) -> None:
        """Pass on one direction until its end, or until the connection ends or freezes."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self.read(source, waiting, joined, is_there))
        try:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                if not data and is_there and joined.freezes and joined.left == 0:
                    joined.frozen.set()
                if joined.frozen.is_set():
                    await self.never.wait()
                if not data:
                    return
                target.write(data)
                await target.drain()
        except ConnectionError:
            return
        finally:
            reading.cancel()

    async def read(
        self,
        source: asyncio.StreamReader,
        waiting: "asyncio.Queue[tuple[float, bytes]]",
        joined: Joined,
        is_there: bool,
    ) -> None:
        """Put what arrives into `waiting`, with the time at which it is due; b"" is the end."""
        data = b"first"
        while data and not (is_there and joined.left == 0):
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            if is_there:
                if joined.left is not None:
                    data = data[: joined.left]
                    joined.left -= len(data)
                self.bytes_sent += len(data)
            due = asyncio.get_running_loop().time() + self.delay
            waiting.put_nowait((due, data))
        if is_there and joined.freezes and isinstance(joined.client, asyncio.ReadTransport):
            joined.client.pause_reading()  # so that the client cannot send much more
        waiting.put_nowait((asyncio.get_running_loop().time() + self.delay, b""))
