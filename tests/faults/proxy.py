"""A TCP proxy that does to connections what networks and peers do: cut them anywhere, go silent, go slowly."""
import asyncio
import random
import socket
import struct
import threading

RST = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close() resets
PIECE = 65536


class Proxy:
    """In `with`: connections to `address` go to `target`. What is set counts from then on; any thread may set it.

    cut         new connections end after a random number of bytes, one way or the other, by FIN or RST
    silent      nothing is passed on, and nothing closed: a host that is gone, a partition ("up": of what goes to
                the server alone, "down": of what comes from it alone, "both")
    bytes_per_s of each connection and direction
    """

    # Log-uniform: a connection's preface, the description of the table, headers and rows of answers are all hit.
    MOST_BYTES = 1 << 20

    def __init__(self, target, seed):
        self.target, self._random = target, random.Random(seed)
        self.cut, self.silent, self.bytes_per_s = False, "", None
        self.cuts = []  # (direction, bytes that had passed in it)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers = set()

    def __enter__(self):
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE), self._loop).result()
        self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        async def end():
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)
        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_all(self):
        """Ends all connections as they are, by RST."""
        def cut():
            for writer in self._writers:
                self._close(writer, reset=True)
        self._loop.call_soon_threadsafe(cut)

    @staticmethod
    def _close(writer, reset):
        if reset and not writer.transport.is_closing():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            writer.transport.abort()
        else:
            writer.close()

    async def _serve(self, reader, writer):
        host, port = self.target.rsplit(":", 1)
        try:
            server_reader, server_writer = await asyncio.open_connection(host, int(port), limit=PIECE)
        except OSError:
            return self._close(writer, reset=True)
        budget = {"up": None, "down": None}
        if self.cut:
            budget[self._random.choice(("up", "down", "down", "down"))] = int(
                self.MOST_BYTES ** self._random.random())
        reset = self._random.random() < 0.5
        ends = (writer, server_writer)
        self._writers.update(ends)
        try:
            tasks = [asyncio.ensure_future(self._pass("up", reader, server_writer, budget["up"])),
                     asyncio.ensure_future(self._pass("down", server_reader, writer, budget["down"]))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                self._close(end, reset)

    async def _pass(self, direction, reader, writer, budget):
        """Until an end closes, or `budget` bytes have passed."""
        passed = 0
        try:
            while budget is None or passed < budget:
                piece = await reader.read(PIECE if budget is None else min(PIECE, budget - passed))
                if not piece:
                    return
                while self.silent in (direction, "both"):
                    await asyncio.sleep(0.01)
                writer.write(piece)
                await writer.drain()
                passed += len(piece)
                if self.bytes_per_s:
                    await asyncio.sleep(len(piece) / self.bytes_per_s)
            self.cuts.append((direction, passed))
        except (ConnectionError, OSError):
            pass
