"""Sockets between two namespaces, of a process that is in neither: what links and TCP themselves take."""
import contextlib
import socket
import threading
import time

from faults_support import LIMIT_S, check
from namespaces import entered


class Answers(threading.Thread):
    """In `with`: a connection between two namespaces, over which so many bytes are answered to each byte asked."""

    def __init__(self, near, far, host, answer_bytes):
        super().__init__()
        with entered(far):
            listener = socket.create_server((host, 0))
        with listener, entered(near):
            self.asks = socket.create_connection(listener.getsockname(), timeout=LIMIT_S)
            self._answers, _ = listener.accept()
        self._answer = bytes(answer_bytes)

    def __enter__(self):
        self.start()
        return self

    def run(self):
        while self._answers.recv(1):
            self._answers.sendall(self._answer)

    def receive(self):
        left = len(self._answer)
        while left:
            piece = self.asks.recv(left)
            check(piece, "the other end has closed")
            left -= len(piece)

    def __exit__(self, *_):
        self.asks.shutdown(socket.SHUT_WR)
        self.join()
        self.asks.close()
        self._answers.close()


def answers_s(connections, seconds):
    """Seconds until all of these have answered, a hundred times a second at most."""
    times, end = [], time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        for connection in connections:
            connection.asks.send(b"?")
        for connection in connections:
            connection.receive()
        times.append(time.monotonic() - begun)
        time.sleep(max(0.0, begun + 0.01 - time.monotonic()))
    return times


def round_trips_s(near, far, host, count):
    """Seconds each, of small datagrams, one after the other."""
    with entered(near), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks, contextlib.ExitStack() as stack:
        with entered(far):
            answers = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for each in (asks, answers):
            each.settimeout(5)
        answers.bind((host, 0))
        asks.connect(answers.getsockname())
        times = []
        for _ in range(count):
            begun = time.monotonic()
            asks.send(bytes(64))
            data, peer = answers.recvfrom(100)
            answers.sendto(data, peer)
            asks.recv(100)
            times.append(time.monotonic() - begun)
        return times


def stream(near, far, host, seconds):
    """Bytes carried."""
    with entered(far):
        listener = socket.create_server((host, 0))
    with listener, entered(near), socket.create_connection(listener.getsockname(), timeout=5) as sends:
        receives, _ = listener.accept()
        over = threading.Event()

        def send():
            while not over.is_set():
                sends.sendall(bytes(65536))
            sends.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        with receives:
            carried, end = 0, time.monotonic() + seconds
            while data := receives.recv(1 << 20):
                carried += len(data)
                if time.monotonic() >= end:
                    over.set()
        thread.join()
        return carried
