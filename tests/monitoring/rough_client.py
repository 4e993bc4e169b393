"""A client that keeps to nothing that servers ask for, over grpcio: what makes their limits and latency show."""
import collections
import itertools
import queue
import struct
import threading
import time

import grpc

GATHER, DECODE = 1, 1


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def gather(request_id, digest, layer, row, rows):
    """An engram.v1.GatherStreamRequest for the same row `rows` times."""
    ids = struct.pack("<I", row) * rows
    return b"".join([b"\x08", varint(request_id), b"\x10", varint(GATHER), b"\x1a", varint(len(digest)),
                     digest, b"\x20", varint(layer), b"\x28", varint(DECODE), b"\x42", varint(len(ids)), ids])


def code_if_last(piece):
    """The code of an answer whose last piece this is; None of others."""
    fields, at = {}, 0
    while at < len(piece) and piece[at] & 7 == 0:  # varints come before texts, but for `message`
        number, value, shift = piece[at] >> 3, 0, 0
        at += 1
        while True:
            value |= (piece[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if piece[at - 1] < 0x80:
                break
        fields[number] = value
        if at < len(piece) and piece[at] == 0x22:  # message
            at += 2 + piece[at + 1]
    return fields.get(3, 0) if fields.get(6) else None


class RoughClient:
    """In `with`: a stream on which up to `in_flight` requests of `rows` rows are always under way.

    Reads an answer's piece only every `read_every_s` seconds.
    """

    def __init__(self, address, digest, row, rows, in_flight, read_every_s=0.0):
        self._address, self._digest = address, bytes.fromhex(digest)
        self._row, self._rows, self._in_flight = row, rows, in_flight
        self._read_every_s, self.codes = read_every_s, collections.Counter()
        self._over = threading.Event()

    def __enter__(self):
        self._channel = grpc.insecure_channel(self._address, options=[
            ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)])
        requests = queue.SimpleQueue()
        ids = itertools.count(1)

        def send():
            requests.put(gather(next(ids), self._digest, 1, self._row, self._rows))

        call = self._channel.stream_stream("/engram.v1.EngramService/GatherStream")(
            iter(requests.get, None))
        for _ in range(self._in_flight):
            send()

        def read():
            try:
                for piece in call:
                    code = code_if_last(piece)
                    if code is not None and not self._over.is_set():
                        self.codes[code] += 1
                        send()
                    time.sleep(self._read_every_s)
            except grpc.RpcError:
                if not self._over.is_set():
                    raise

        self._reader = threading.Thread(target=read)
        self._reader.start()
        self._call, self._requests = call, requests
        return self

    def __exit__(self, *_):
        self._over.set()
        self._call.cancel()
        self._requests.put(None)
        self._reader.join()
        self._channel.close()
