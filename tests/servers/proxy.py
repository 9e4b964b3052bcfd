"""A TCP proxy between a client and a server on this machine: the network that delays, goes silent, or breaks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType

CHUNK = 1 << 14
QUEUED = 64  # chunks under way, after which the sender's own buffers fill, as with a network that carries nothing


class Proxy:
    """Forwards each connection to a port; controlled from any thread while it is entered.

    Args:
        target: The server's port.
        delay: Seconds from a byte's arrival to its departure, in both directions.
    """

    port: int
    """Where clients connect."""

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.delay = delay
        self._target = target
        self._ready = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="proxy", daemon=True)

    def stall(self) -> None:
        """Forward nothing until `resume`; connections stay, and new ones are accepted and hear nothing."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Forward again, what has waited first."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut(self) -> None:
        """Break every connection that there is, as a router does that lost its table."""
        self._loop.call_soon_threadsafe(self._abort)

    def refuse(self) -> None:
        """Listen no more, and break what there is: a client is told at once that nobody is there, until `accept`."""
        self._loop.call_soon_threadsafe(self._refuse)

    def accept(self) -> None:
        """Listen again, under the same port; returns once it does."""
        asyncio.run_coroutine_threadsafe(self._listen(self.port), self._loop).result(10)

    def __enter__(self) -> Proxy:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy found no port to listen at")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flowing, self._ended = asyncio.Event(), asyncio.Event()
        self._flowing.set()
        await self._listen(0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        self._refuse()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", port)

    def _refuse(self) -> None:
        self._server.close()
        self._abort()

    def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:
                return
            self._writers.add(far_writer)
            ways = [self._pump(reader, far_writer), self._pump(far_reader, writer)]
            try:
                await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._let_go(far_writer)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio's server would log it
        finally:
            self._let_go(writer)

    def _let_go(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()
        self._loop.call_later(1.0, writer.transport.abort)  # a side that reads no more would keep the socket for ever

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)

        async def take() -> None:
            while data := await reader.read(CHUNK):
                await queue.put((self._loop.time() + self.delay, data))
            await queue.put((0.0, b""))

        taking = asyncio.create_task(take())
        with contextlib.suppress(OSError):
            try:
                while True:
                    due, data = await queue.get()
                    await asyncio.sleep(due - self._loop.time())
                    await self._flowing.wait()
                    if not data:
                        return
                    writer.write(data)
                    await writer.drain()
            finally:
                taking.cancel()
