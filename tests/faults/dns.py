"""A DNS server whose answers a test decides: UDP, one question a message, A and AAAA."""
import asyncio
import collections
import ipaddress
import socket
import struct
import threading

TYPES = {1: 4, 28: 6}  # A, AAAA: the IP version of their addresses
CODES = {"servfail": 2, "nxdomain": 3}  # others answer NOERROR


class Dns(asyncio.DatagramProtocol):
    """In `with`: answers at port 53 of `host`. What is set counts from the next question on; any thread may set it.

    names      {name: its addresses, of either version}; a name that is not in it does not exist
    behaviour  "answer", "servfail", "nxdomain", "empty" (NOERROR without an address), "silent"
    slow_s     every answer comes so much later
    """

    def __init__(self, host):
        self.host, self.names, self.behaviour, self.slow_s = host, {}, "answer", 0.0
        self.asked = collections.Counter()  # questions, by the behaviour that they met
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        """OSError: the port is not to be had."""
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            listening.bind((self.host, 53))
        except OSError:
            listening.close()
            self._loop.close()
            raise
        self._thread.start()
        self._transport, _ = asyncio.run_coroutine_threadsafe(
            self._loop.create_datagram_endpoint(lambda: self, sock=listening), self._loop).result()
        return self

    def __exit__(self, *_):
        async def end():
            self._transport.close()
            await asyncio.sleep(0)  # the socket is closed by what close() has called soon
        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def datagram_received(self, data, peer):
        behaviour = self.behaviour
        self.asked[behaviour] += 1
        if behaviour != "silent":
            self._loop.call_later(self.slow_s, self._transport.sendto, self._answer(data, behaviour), peer)

    def _answer(self, data, behaviour):
        name, end = [], 12
        while data[end]:
            name.append(data[end + 1:end + 1 + data[end]].decode())
            end += 1 + data[end]
        name, question = ".".join(name).lower(), data[12:end + 5]
        (kind,) = struct.unpack_from("!H", data, end + 1)
        code, addresses = CODES.get(behaviour, 0), []
        if behaviour == "answer":
            code = 0 if name in self.names else CODES["nxdomain"]
            addresses = [each for each in map(ipaddress.ip_address, self.names.get(name, ()))
                         if each.version == TYPES.get(kind)]
        header = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(addresses), 0, 0)  # recursion was had
        return header + question + b"".join(
            struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(each.packed)) + each.packed  # the question's name; TTL 0
            for each in addresses)
