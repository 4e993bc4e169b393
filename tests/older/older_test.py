#!/usr/bin/env python3
"""The release before and this tree together: each one's client with the other's server, each one's files read by this.

older_test.py --build build/release [--revision REV] [--older DIR]

REV: what is built as the older one; default $ENGRAM_OLDER, else the newest tag that HEAD comes from. Where there is
none, says so and exits 77. It is built (engramd and engramctl, once) in BUILD/older/REV from `git archive`; --older names
a directory with bin/ of one that was built already.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LIMIT_S = 60
SECONDS = 2  # of one run of `engramctl verify`


def git(*args):
    return subprocess.run(["git", "-C", SOURCE, *args], capture_output=True, text=True, check=False).stdout.strip()


def older_revision(given):
    """A commit and what it is called; None: there is none."""
    name = given or os.environ.get("ENGRAM_OLDER") or git("describe", "--tags", "--abbrev=0", "HEAD^")
    if not name:
        return None
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if not commit:
        sys.exit(f"error: there is no revision {name} in this clone")
    return commit, name


def build(commit, into):
    """Its bin/."""
    tree, binaries = into / "tree", into / "tree/build/release/bin"
    if not all((binaries / each).exists() for each in ("engramd", "engramctl")):
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", SOURCE, "archive", commit], stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
        subprocess.run(["cmake", "--preset", "release"], cwd=tree, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", "--preset", "release", "--target", "engramd", "--target", "engramctl"],
                       cwd=tree, check=True)
    return binaries


def check(condition, what):
    if not condition:
        raise AssertionError(what)


class Version:
    """engramd and engramctl of one of the two."""

    def __init__(self, name, binaries):
        self.name, self._bin = name, pathlib.Path(binaries)

    def ctl(self, *args):
        done = subprocess.run([self._bin / "engramctl", *map(str, args)], capture_output=True, text=True,
                              timeout=LIMIT_S, check=False)
        check(done.returncode == 0, f"engramctl of {self.name}: {' '.join(map(str, args))}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    def verify(self, address, checkpoint):
        seen = self.ctl("verify", "--servers", address, "--checkpoint", checkpoint, "--seconds", SECONDS)
        check(seen["lookups"] > 0 and seen["failed"] == 0 and seen["wrong_rows"] == 0, f"{self.name} as client: {seen}")
        return seen["rows"]

    def serve(self, directory, *args):
        return Server(self, [self._bin / "engramd", "--listen", f"unix:{directory / 'socket'}", "--threads", "1",
                             "--drain-ms", "0", *map(str, args)], directory / "log")


class Server:
    """In `with`: serves."""

    def __init__(self, version, command, log):
        self._version, self._command, self._log = version, command, log
        self.address = command[2]

    def __enter__(self):
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT_S
        while "\nserving model=" not in "\n" + self.said():
            ended = self._process.poll() is not None or time.monotonic() > end
            check(not ended, f"engramd of {self._version.name} does not serve: {self.said()[-1000:]}")
            time.sleep(0.02)
        self.digest = re.search(r"^serving .*digest=(\w+)", self.said(), re.M)[1]
        return self

    def __exit__(self, *_):
        self._process.terminate()
        check(self._process.wait(LIMIT_S) == 0, f"engramd of {self._version.name} ended with {self._process.returncode}")

    def said(self):
        return self._log.read_text(errors="replace")


def make_tables(version, directory):
    """(base, target, delta, their digests)"""
    base, target, delta = (directory / name for name in ("base", "target", "delta"))
    digests = []
    for path in (base, target):
        version.ctl("synth", "--out", path, "--like", "v41-flash", "--bucket-floor", 300)
        if path == target:  # some rows differ
            for file in path.glob("*.safetensors"):
                with open(file, "r+b") as tensors:
                    tensors.seek(-50_000, os.SEEK_END)
                    tensors.write(b"\x31" * 1000)
        digests.append(version.ctl("digest", path)["digest"])
    version.ctl("delta", "--from", base, "--to", target, "--out", delta)
    return base, target, delta, digests


def together(server, client, restarted, directory):
    """`client` works with `server`, and changes its table; `restarted` goes on with the files that are left."""
    base, target, delta, (old_digest, new_digest) = make_tables(client, directory)
    data = directory / "data"
    with server.serve(directory, "--checkpoint", base, "--data-dir", data) as up:
        rows = client.verify(up.address, base)
        (status,) = client.ctl("status", "--servers", up.address, "--json")["servers"]
        check((status["state"], status["digest"]) == ("SERVING", old_digest), f"status: {status}")
        client.ctl("publish", "--servers", up.address, delta)
        client.ctl("activate", "--servers", up.address, new_digest)
        rows += client.verify(up.address, target)
        client.ctl("retire", "--servers", up.address, old_digest)
        rows += client.verify(up.address, target)
    print(f"  client of {client.name}, server of {server.name}: {rows:,} rows compared, published, activated, retired")
    with restarted.serve(directory, "--checkpoint", base, "--data-dir", data) as up:
        check(up.digest == new_digest, f"{restarted.name} serves {up.digest} of what {server.name} has left")
        rows = restarted.verify(up.address, target)
    print(f"  server of {restarted.name} on {server.name}'s data directory, delta of {client.name}: {rows:,} rows compared")


def files_of(older, newer, directory):
    """Sidecar, shard on disk and arena of the older one."""
    base, _, _, (digest, _) = make_tables(older, directory)
    disk, arena = directory / "disk", pathlib.Path(tempfile.mkdtemp(prefix="engram-older.", dir="/dev/shm"))
    older.ctl("import", base, "--data-dir", disk, "--shard", "0/1")
    try:
        with older.serve(directory, "--checkpoint", base, "--arena-dir", arena):
            pass
        for what, args in (("sidecar", ["--checkpoint", base]), ("shard on disk", ["--store", "rocksdb", "--data-dir", disk]),
                           ("arena", ["--checkpoint", base, "--arena-dir", arena])):
            with newer.serve(directory, *args, "--expect-digest", digest) as up:
                check(what != "arena" or "loading: " not in up.said(), f"the arena was not taken: {up.said()}")
                print(f"  {older.name}'s {what}: {newer.verify(up.address, base):,} rows compared")
    finally:
        subprocess.run(["rm", "-r", arena], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=SOURCE / "build/release", help="directory with bin/")
    parser.add_argument("--revision")
    parser.add_argument("--older", type=pathlib.Path, help="directory with bin/ of the older one")
    args = parser.parse_args()
    found = (None, f"{args.older}") if args.older else older_revision(args.revision)
    if found is None:
        print("NOT RUN: this clone has no older tag, so that nothing is known of upgrades from one.\n"
              "$ENGRAM_OLDER names a revision to be built instead.")
        sys.exit(77)
    commit, name = found
    binaries = args.older / "bin" if args.older else build(commit, args.build.resolve() / "older" / commit)
    older, newer = Version(name, binaries), Version("this tree", args.build.resolve() / "bin")
    print(f"older: {name}", flush=True)
    try:
        for step in (lambda at: together(older, newer, newer, at), lambda at: together(newer, older, newer, at),
                     lambda at: files_of(older, newer, at)):
            with tempfile.TemporaryDirectory(prefix="engram-older.") as scratch:
                step(pathlib.Path(scratch))
    except AssertionError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
