"""A line to a server on this machine: it takes time, and it can be cut after any number of bytes.

with Line(server.port, delay=0.02) as line:
    connect to 127.0.0.1, port line.port
"""

import asyncio

from background import Background


class Line(Background):
    """Passes on what arrives, both ways, `delay` seconds later, without a limit on bandwidth.

    `cuts` are numbers of bytes, one for each connection in the order in which they are made: after
    so many bytes from the client the connection is gone. Further connections stay whole.
    """

    def __init__(self, server_port: int, delay: float = 0.0, cuts: tuple[int, ...] = ()) -> None:
        self.server_port = server_port
        self.delay = delay
        self.cuts = list(cuts)
        self.bytes_sent = 0  # by the clients, over all connections

    async def start(self) -> None:
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()

    async def connected(
        self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Join a client's new connection to one of its own to the server."""
        cut = self.cuts.pop(0) if self.cuts else None
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        there = asyncio.create_task(self.carry(from_client, to_server, cut, count=True))
        back = asyncio.create_task(self.carry(from_server, to_client, None, count=False))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the line is taken down
            return
        for writer in (to_server, to_client):
            if cut is None:
                writer.close()
            else:
                writer.transport.abort()

    async def carry(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        cut: int | None,
        count: bool,
    ) -> None:
        """Pass on one direction until its end, or until `cut` bytes have passed."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        reading = asyncio.create_task(self.read(source, waiting, cut, count))
        try:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
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
        cut: int | None,
        count: bool,
    ) -> None:
        """Put what arrives into `waiting`, with the time at which it is due; b"" is the end."""
        left = cut
        data = b"first"
        while data and left != 0:
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            if left is not None:
                data = data[:left]
                left -= len(data)
            if count:
                self.bytes_sent += len(data)
            due = asyncio.get_running_loop().time() + self.delay
            waiting.put_nowait((due, data))
        waiting.put_nowait((asyncio.get_running_loop().time() + self.delay, b""))
