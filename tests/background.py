"""An asyncio server that runs in a thread of its own while a `with` block lasts."""

import asyncio
import threading
from typing import TypeVar

B = TypeVar("B", bound="Background")


class Background:
    """What `start` and `stop` do happens in the thread's event loop."""

    def __enter__(self: B) -> B:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.start(), self.loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)

    async def end(self) -> None:
        """Stop the server, and what still hangs in it because a fault wants it so."""
        await self.stop()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        raise NotImplementedError
