"""Network namespaces, one for the client and one a server, with a link between it and each of them."""
import contextlib
import ctypes
import os
import subprocess

from faults_support import Skip

CLONE_NEWNET = 0x40000000


def command(*parts):
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skip(f"{' '.join(parts)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def entered(namespace):
    """This thread is there: what is opened meanwhile belongs there for good. Throws OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as there, open("/proc/thread-self/ns/net", "rb") as here:
        if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"namespace {namespace} cannot be entered")
        try:
            yield
        finally:
            libc.setns(here.fileno(), CLONE_NEWNET)


class Links:
    """In `with`: the client's namespace; a server's comes with its place. Links are pairs of veth devices."""

    def __init__(self):
        self._name = f"ef{os.getpid()}"
        self.inside = ["ip", "netns", "exec", self._name]
        self.links = []  # at the client, by server
        self.namespaces = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._add_namespace(self._name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _add_namespace(self, name):
        command("ip", "netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        command("ip", "-n", name, "link", "set", "lo", "up")
        self.namespaces.append(name)

    def _connect(self, near, far):
        """Makes the two ends of a link, each a namespace and a device's name."""
        command("ip", "-n", near[0], "link", "add", near[1], "type", "veth", "peer", "name", far[1], "netns", far[0])

    def place(self, server):
        """A server, before it starts."""
        number = len(self.links)
        near, far = (self._name, f"to{number}"), (f"{self._name}s{number}", f"from{number}")
        self._add_namespace(far[0])
        self._connect(near, far)
        for (namespace, device), host in ((near, 1), (far, 2)):
            command("ip", "-n", namespace, "address", "add", f"{self.address(number, host)}/30", "dev", device)
            command("ip", "-n", namespace, "link", "set", device, "up")
        self.links.append(near[1])
        server.move(self.address(number), "ip", "netns", "exec", far[0])

    @staticmethod
    def address(number, host=2):
        """Of a server, by the order of their places; `host` 1: of the client, as that server sees it."""
        return f"10.99.{number}.{host}"

    def set_up(self, link, up):
        command("ip", "-n", self._name, "link", "set", link, "up" if up else "down")


class Filter:
    """Rules of the client's namespace that drop packets, by nftables. They go with the namespace."""

    def __init__(self, links):
        self._inside = links.inside
        self._nft("add table inet faults")
        for chain in ("input", "output"):
            self._nft(f"add chain inet faults {chain} {{ type filter hook {chain} priority 0; }}")

    def _nft(self, rule):
        return command(*self._inside, "nft", rule)

    def drop(self, links, direction, condition=""):
        """Packets that come from these links ("input") or leave by them ("output")."""
        for link in links:
            name = "iifname" if direction == "input" else "oifname"
            self._nft(f"add rule inet faults {direction} {name} {link} {condition} counter drop")

    def dropped(self):
        """How many packets the rules of now have dropped."""
        said = self._nft("list table inet faults").split()
        return sum(int(said[i + 1]) for i, word in enumerate(said) if word == "packets")

    def heal(self):
        for chain in ("input", "output"):
            self._nft(f"flush chain inet faults {chain}")


@contextlib.contextmanager
def linked(run, links):
    """A fleet of 2x2 and a client, over these; yields the client, which has looked up for a while."""
    with links, run.fleet(place=links.place) as fleet, run.client(fleet, inside=links.inside) as client:
        client.run_for(run.seconds(1, 5))
        yield client


def first_replicas(items):
    """Of what there is for each server of 2x2."""
    return items[::2]
