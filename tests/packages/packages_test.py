"""The Debian packages: built, held against lintian, installed by apt in a clean Debian, used there, purged.

packages_test.py SOURCE_DIR. Exit code 77: not root, no mmdebstrap, or no Debian mirror.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(SOURCE / "tests/cli"))
from cli_support import synth_row  # noqa: E402

SEED = 5
NAMES = ["engram-server", "libengram-client-dev", "libengram-client1", "python3-engram-client"]
CONFIGURATION = """\
checkpoint = "/srv/checkpoint"
listen = "127.0.0.1:0"
health = "127.0.0.1:0"
metrics = "127.0.0.1:0"
data-dir = "/var/lib/engram/one"
threads = 1
drain-ms = 0
"""
PYTHON = """
import sys, engram_client, numpy
with engram_client.Client([sys.argv[1]]) as client:
    rows = client.lookup(1, numpy.array([7, 0]))
print(rows.tobytes().hex())
"""


def call(*args, **kwargs):
    done = subprocess.run([str(arg) for arg in args], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=1800, check=False, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{args} exited {done.returncode}: {done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


class Root:
    """A Debian of its own in a directory, with /proc."""

    def __init__(self, path):
        self.path = path
        call("mount", "-t", "proc", "proc", path / "proc")

    def close(self):
        call("umount", self.path / "proc")

    def command(self, *args, user=None):
        """As the unit starts a server, where there is a user: nothing can be gained any more."""
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs",
                "--bounding-set=-all", "--"] if user else []
        return ["chroot", str(self.path), "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *drop, *map(str, args)]

    def run(self, *args, user=None):
        return call(*self.command(*args, user=user))

    def install(self, *what):
        self.run("apt-get", "install", "-qy", "--no-install-recommends", *what)

    def ours(self):
        """Whatever is called after us, or lies in what is, and the lines that name us where users stand."""
        found = set(call("find", self.path, "-xdev", "-path", self.path / "srv", "-prune", "-o", "-ipath",
                         f"{self.path}/*engram*", "-printf", "%P\\n").split())
        for name in ("passwd", "shadow", "group", "gshadow", "subuid"):
            file = self.path / "etc" / name
            if file.exists():
                found |= {f"etc/{name}: {line}" for line in file.read_text().splitlines() if "engram" in line}
        return found


class Packages(unittest.TestCase):
    def test_a_life(self):
        debs = [pathlib.Path(line) for line in call(SOURCE / "deploy/packages.sh").splitlines()]
        self.assertEqual(sorted(deb.name.split("_")[0] for deb in debs), NAMES)
        with self.subTest("lintian"):
            call("lintian", "--fail-on", "error,warning", *debs)

        scratch = tempfile.TemporaryDirectory(prefix="packages-")
        self.addCleanup(scratch.cleanup)
        path = pathlib.Path(scratch.name) / "root"
        call("mmdebstrap", "--variant=apt", "--mode=root", "bookworm", path)
        self.root = Root(path)
        self.addCleanup(self.root.close)
        shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
        self.assertEqual(self.root.ours(), set())
        for deb in debs:
            shutil.copy(deb, path / "srv")
        for example in ("lookup.c", "lookup.cc"):
            shutil.copy(SOURCE / "client/examples" / example, path / "srv")
        shutil.copy(SOURCE / "tests/client_c/outside/CMakeLists.txt", path / "srv")
        self.root.run("apt-get", "update", "-q")

        self.install_and_serve([f"/srv/{deb.name}" for deb in debs])
        self.look_up()
        self.build_outside()
        self.end_and_purge()

    def install_and_serve(self, debs):
        root = self.root
        root.install(*debs)
        self.assertEqual((root.path / "etc/engram").stat().st_mode & 0o777, 0o750)
        root.run("systemd-analyze", "verify", "--man=no", "engramd@one.service")
        root.run("systemd-analyze", "security", "--offline=true", "--threshold=15",
                 "/usr/lib/systemd/system/engramd@.service")
        root.run("engramctl", "synth", "--out", "/srv/checkpoint", "--like", "v41-flash",
                 "--bucket-floor", 500, "--seed", SEED)
        (root.path / "etc/engram/one.toml").write_text(CONFIGURATION)
        unit = (root.path / "usr/lib/systemd/system/engramd@.service").read_text()
        started = next(line.split("=", 1)[1].replace("%i", "one").split()
                       for line in unit.splitlines() if line.startswith("ExecStart="))
        # What StateDirectory= does.
        root.run("install", "-d", "-o", "engram", "-g", "engram", "-m", "0700", "/var/lib/engram/one")
        # The example is one, too.
        self.assertIn('shard = "0/1"', root.run("engramd", "--config", "/etc/engram/example.toml",
                                                "--print-config", user="engram"))
        server = subprocess.Popen(root.command(*started, user="engram"), stdout=subprocess.PIPE, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.kill)
        line = server.stdout.readline()
        self.assertTrue(line.startswith("serving "), line)
        self.server, self.address = server, line.split("listen=")[1].split()[0]

    def look_up(self):
        seven, zero = (synth_row(SEED, 1, row).hex() for row in (7, 0))
        figures = json.loads(self.root.run("engramctl", "verify", "--servers", self.address, "--checkpoint",
                                           "/srv/checkpoint", "--seconds", 1))
        self.assertGreater(figures["rows"], 0)
        self.assertEqual((figures["failed"], figures["wrong_rows"]), (0, 0))
        printed = self.root.run("engramctl", "lookup", "--servers", self.address, "--layer", 1, "--rows",
                                "7,0", "--hex")
        self.assertIn(seven, printed)
        self.assertIn(zero, printed)
        self.assertEqual(self.root.run("python3", "-c", PYTHON, self.address).strip(), seven + zero)

    def build_outside(self):
        root = self.root
        root.install("cmake", "g++", "make", "pkg-config")
        flags = root.run("pkg-config", "--cflags", "--libs", "engram_client").split()
        root.run("cc", "-std=c99", "-o", "/srv/by_pkg_config", "/srv/lookup.c", *flags)
        root.run("cmake", "-S", "/srv", "-B", "/srv/outside", "-DEXAMPLES=/srv")
        root.run("cmake", "--build", "/srv/outside")
        seven, zero, six = (synth_row(SEED, layer, row)[:2].hex()
                            for layer, row in ((1, 7), (1, 0), (14, 6)))
        for program in ("by_pkg_config", "outside/lookup_c", "outside/lookup_cc"):
            self.assertEqual(root.run(f"/srv/{program}", self.address),
                             f"row 7: {seven}, row 0: {zero}\nrow 6 of layer 14: {six}\n")

    def end_and_purge(self):
        root = self.root
        self.server.terminate()
        self.assertEqual(self.server.wait(60), 0)
        root.run("apt-get", "remove", "-qy", *NAMES)
        left = root.ours()
        self.assertIn("etc/engram/one.toml", left)
        self.assertNotIn("usr/bin/engramd", left)
        root.run("dpkg", "--purge", *NAMES)
        self.assertEqual(root.ours(), set())


if __name__ == "__main__":
    missing = [tool for tool in ("mmdebstrap", "lintian", "chroot", "setpriv") if not shutil.which(tool)]
    if missing or call("id", "-u").strip() != "0":
        print(f"SKIPPED: packages were not tried: no {', '.join(missing) or 'root'}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
