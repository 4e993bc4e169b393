"""Links between network namespaces that delay, reorder, duplicate and lose packets, where the kernel has no netem.

A link is two TUN devices, one in either namespace. A process of its own reads what one has to send and writes it to
the other when the packet's fate says so. With nothing asked it passes packets on as they come.
"""
import collections
import dataclasses
import errno
import fcntl
import heapq
import multiprocessing
import os
import random
import select
import signal
import struct
import time

from namespaces import entered

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LONGEST_PACKET = 65536
BATCH = 64  # packets read of one device before it is another's turn


@dataclasses.dataclass(frozen=True)
class Fate:
    """What happens to the packets of a link, in each direction; of each packet anew, by the direction's own numbers.

    A packet takes `delay_ms`, and 0 to `jitter_ms` more, equally likely; those of `held_share` `held_ms` more still.
    Those of `doubled_share` come a second time, up to `copy_ms` after that. Those of `lost_share` do not come.
    """
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    ordered: bool = True  # but for what is held, none comes before one that was sent earlier
    held_share: float = 0.0
    held_ms: float = 0.0
    doubled_share: float = 0.0
    copy_ms: float = 0.0
    lost_share: float = 0.0


class _Direction:
    """Of a link: from one device to the other."""

    def __init__(self, source, target, seed):
        self.source, self.target, self.fate = source, target, Fate()
        self._random = random.Random(seed)
        self.read = 0  # packets so far
        self.newest = 0  # that was written
        self._last_due = 0.0  # of what was not held

    def dues(self, now):
        """When the packet that was just read, and its copy, are to be written."""
        self.read += 1
        fate, number = self.fate, self._random.random
        # As many numbers whatever the fate: the nth packet's are always the same.
        lost, held, doubled, jitter, copy = number(), number(), number(), number(), number()
        if lost < fate.lost_share:
            return ()
        due = now + (fate.delay_ms + jitter * fate.jitter_ms) / 1e3
        if fate.ordered:
            due = max(due, self._last_due)
        self._last_due = max(due, self._last_due)
        if held < fate.held_share:
            due += fate.held_ms / 1e3
        return (due, due + copy * fate.copy_ms / 1e3) if doubled < fate.doubled_share else (due,)


class _Forwarder:
    """The process: answers commands, (method, arguments), and forwards."""

    def __init__(self, pipe, seed):
        self._pipe, self._seed = pipe, seed
        self._links = []  # two directions each
        self._by_source = {}
        self._queue = []  # heap of (due, how many came before, when read, direction, number, is a copy, packet)
        self._queued = 0
        self._counts = collections.Counter()

    def run(self):
        sources = [self._pipe]
        while True:
            now = time.monotonic()
            while self._queue and self._queue[0][0] <= now:
                due, _, *packet = heapq.heappop(self._queue)
                self._write(now, due, *packet)
            # select, not epoll: Python's epoll waits in whole milliseconds.
            ready, _, _ = select.select(sources, [], [], max(0.0, self._queue[0][0] - now) if self._queue else None)
            for source in ready:
                if source is not self._pipe:
                    self._forward(self._by_source[source])
                    continue
                try:
                    method, *arguments = self._pipe.recv()
                except EOFError:
                    return
                try:
                    self._pipe.send(getattr(self, method)(*arguments))
                except OSError as error:
                    self._pipe.send(error)
                sources = [self._pipe, *self._by_source]

    def _forward(self, direction):
        for _ in range(BATCH):
            try:
                packet = os.read(direction.source, LONGEST_PACKET)
            except BlockingIOError:
                return
            now = time.monotonic()
            dues = direction.dues(now)
            self._counts["packets"] += 1
            self._counts["lost"] += not dues
            for i, due in enumerate(dues):
                if due <= now and (not self._queue or self._queue[0][0] > now):
                    self._write(now, due, now, direction, direction.read, i == 1, packet)
                else:
                    self._queued += 1
                    heapq.heappush(self._queue, (due, self._queued, now, direction, direction.read, i == 1, packet))

    def _write(self, now, due, read_at, direction, number, is_copy, packet):
        try:
            os.write(direction.target, packet)
        except OSError as error:
            if error.errno != errno.EIO:  # that is: the device is not up (yet)
                raise
        self._counts["late_s"] += now - due
        if is_copy:
            self._counts["doubled"] += 1
            return
        if due > read_at:
            self._counts["delayed"] += 1
            self._counts["taken_s"] += now - read_at
        self._counts["overtaken"] += number < direction.newest
        direction.newest = max(number, direction.newest)

    def connect(self, *ends):
        devices = [self._open(*end) for end in ends]
        number = len(self._links)
        self._links.append([_Direction(source, target, f"{self._seed}/{number}/{way}")
                            for source, target, way in ((*devices, "there"), (*devices[::-1], "back"))])
        self._by_source.update((direction.source, direction) for direction in self._links[-1])

    @staticmethod
    def _open(namespace, name):
        with entered(namespace):
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        # What a packet's checksum and segments are is the kernel's to see to: there is no IFF_VNET_HDR.
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return device

    def fate(self, links, fate):
        for i in links:
            for direction in self._links[i]:
                direction.fate = fate

    def counts(self):
        return self._counts


class Emulator:
    """In `with`: its process. Links have the numbers in which they were connected."""

    def __init__(self, seed):
        context = multiprocessing.get_context("fork")
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=self._run, args=(pipe, seed), daemon=True)
        self._process.start()
        pipe.close()

    def _run(self, pipe, seed):
        self._pipe.close()  # so that the end of the other process is seen
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _Forwarder(pipe, seed).run()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipe.close()
        self._process.join()

    def _ask(self, *command):
        try:
            self._pipe.send(command)
            answer = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            raise RuntimeError("the emulator has ended") from error
        if isinstance(answer, OSError):
            raise answer
        return answer

    def connect(self, *ends):
        """A link: devices of these names in these namespaces, two pairs of (namespace, name). Throws OSError."""
        self._ask("connect", *ends)

    def set_fate(self, links, fate):
        """Of packets that are read from now on."""
        self._ask("fate", links, fate)

    def counts(self):
        """Sums so far, of all links: packets read; those lost, doubled, delayed (copies aside; and the seconds that
        they took, "taken_s"), or written after one that was read later ("overtaken"); the seconds by which they and
        copies were later than they should be ("late_s")."""
        return self._ask("counts")
