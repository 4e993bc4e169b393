#!/usr/bin/env python3
"""Teaches a model that runs: its tables, trained further on another text, are published as a delta.

taught_live.py [--bin build/release/bin] [--windows N] [--steps-out FILE]

Four servers hold the tables of kjv/. One process reads text that the tables of taught/ were not
trained on, window after window, from its beginning again; another writes. Meanwhile the delta from
kjv to taught is published, activated and, once all have gone over, the old generation is retired.
Every step's rows, in both layers, are held against both checkpoints: they must be all of one.
Nothing is started anew. Prints what happens, and as the last line one JSON object; exits 1 when a
step mixed generations, a lookup failed, or anything ended that should run.
"""
import argparse
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
OLD, NEW = HERE / "kjv", HERE / "taught"
SHARDS, LIMIT_S = 4, 60
WINDOW = 256  # bytes
FOLLOW_S = 3  # many times what engram-generate takes to ask again which generation is active


class WentWrong(Exception):
    pass


class Process:
    """A child whose output is kept."""

    def __init__(self, name, command, errors):
        self.name, self.output = name, b""
        self._errors = (errors / f"{name}.err").open("w+")
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                                        stderr=self._errors)
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self):
        while chunk := os.read(self.process.stdout.fileno(), 1 << 16):
            self.output += chunk

    def lines(self):
        """Those that are whole."""
        return self.output[:self.output.rfind(b"\n") + 1].splitlines()

    def check(self):
        if self.process.poll() is not None:
            raise WentWrong(f"{self.name} ended with {self.process.returncode}: {self.said()}")

    def said(self):
        self._errors.seek(0)
        return self._errors.read().strip()

    def end(self, code=0):
        """SIGTERM, which must end it so; all of its output."""
        self.check()
        self.process.terminate()
        if self.process.wait(LIMIT_S) != code:
            raise WentWrong(f"{self.name} exited {self.process.returncode}: {self.said()}")
        self._thread.join()
        return self.output

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._thread.join()
        self.process.stdout.close()
        self._errors.close()


class Play:
    def __init__(self, arguments, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.processes = []
        self.text = scratch / "text"
        self.text.write_bytes((NEW / "held_out.txt").read_bytes()[:arguments.windows * WINDOW])

    def start(self, name, *command):
        process = Process(name, command, self.scratch)
        self.processes.append(process)
        return process

    def tool(self, name, *command):
        done = subprocess.run([self.arguments.bin / name, *map(str, command)], capture_output=True,
                              text=True, timeout=LIMIT_S, check=False)
        if done.returncode != 0:
            raise WentWrong(f"{name} {command[0]} exited {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def wait(self, what, condition):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            for process in self.processes:
                process.check()
            if time.monotonic() > deadline:
                raise WentWrong(f"{what}: not within {LIMIT_S} s")
            time.sleep(0.01)

    def serve(self):
        servers = [self.start(f"server-{i}", self.arguments.bin / "engramd", "--checkpoint", OLD,
                              "--shard", f"{i}/{SHARDS}", "--listen", "127.0.0.1:0", "--threads", 1,
                              "--drain-ms", 0, "--data-dir", self.scratch / f"data-{i}")
                   for i in range(SHARDS)]
        self.wait("the servers serve", lambda: all(server.lines() for server in servers))
        fields = [dict(part.split("=", 1) for part in server.lines()[0].decode().split()[1:])
                  for server in servers]
        return servers, ",".join(field["listen"] for field in fields), fields[0]["digest"]

    def steps(self):
        """Of the reader, so far."""
        return [json.loads(line) for line in self.reader.lines()]

    def read_on(self, passes):
        """Until the reader has done so many passes more."""
        enough = len(self.reader.lines()) + passes * self.arguments.windows
        self.wait(f"{passes} passes", lambda: len(self.reader.lines()) >= enough)

    def ctl(self, command, servers, *rest):
        self.tool("engramctl", command, "--servers", servers, *rest)
        at = len(self.reader.lines())
        print(f"{command}: done when {at} steps had been read", flush=True)
        return at

    def run(self):
        delta = self.scratch / "taught.delta"
        made = json.loads(self.tool("engramctl", "delta", "--from", OLD, "--to", NEW, "--out", delta))
        fleet, servers, digest = self.serve()
        if digest != made["base"]:
            raise WentWrong(f"the servers serve {digest}, the delta is of {made['base']}")
        print(f"delta: {made['rows']} rows, {delta.stat().st_size} bytes", flush=True)
        generate = (self.arguments.bin / "engram-generate", "--model", OLD, "--servers", servers,
                    "--follow")
        self.reader = self.start("reader", *generate, "--read", self.text, "--again", f"{OLD},{NEW}")
        self.wait("the reader reads", self.reader.lines)
        writer = self.start("writer", *generate, "--prompt", "A hacker is", "--bytes", 60000)
        self.read_on(2)
        happened = {"published": self.ctl("publish", servers, delta)}
        self.read_on(1)
        happened["activated"] = self.ctl("activate", servers, made["target"])
        self.wait("the reader has the new table", lambda: self.steps()[-1]["table"] == str(NEW))
        time.sleep(FOLLOW_S)  # nobody says which generation the writer is at
        happened["retired"] = self.ctl("retire", servers, made["base"])
        written = len(writer.output)
        self.read_on(2)
        self.wait("the writer writes on", lambda: len(writer.output) > written)
        steps = [json.loads(line) for line in self.reader.end().splitlines()]
        text = writer.end(-signal.SIGTERM)  # it had 60,000 bytes to write
        if writer.said():
            raise WentWrong(f"the writer says: {writer.said()}")
        for server in fleet:
            server.end()
        return self.figures(steps) | happened | {"delta_rows": made["rows"],
                                                 "bytes_written": len(text)}

    def figures(self, steps):
        """One JSON object; checks what all steps together must be."""
        tables = [step["table"] for step in steps]
        switch = tables.index(str(NEW))
        if tables != [str(OLD)] * switch + [str(NEW)] * (len(tables) - switch):
            raise WentWrong("the reader went back to the old table")
        seen = collections.defaultdict(set)  # (table, window): what reading it gave
        for step in steps:
            seen[step["table"], step["window"]].add(step["nats_a_byte"])
        for (table, window), nats in seen.items():
            if len(nats) != 1:
                raise WentWrong(f"window {window} by {table}: not the same figure each time: {nats}")
        means = {}
        for name, table in (("before", OLD), ("after", NEW)):
            each = [seen[str(table), window] for window in range(self.arguments.windows)]
            if not all(each):
                raise WentWrong(f"{table}: not every window was read")
            means[f"nats_{name}"] = sum(nats for found in each for nats in found) / len(each)
        if self.arguments.steps_out:
            self.arguments.steps_out.write_text("".join(json.dumps(
                step | {"table": pathlib.Path(step["table"]).name}) + "\n" for step in steps))
        return {"steps": len(steps), "windows": self.arguments.windows, "switched": switch,
                "steps_of_one_generation": len(steps), **means}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default=HERE.parents[1] / "build/release/bin")
    parser.add_argument("--windows", type=int, default=32, help="of the text, of 256 bytes each")
    parser.add_argument("--steps-out", type=pathlib.Path, help="file for the steps, a JSON line each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="engram-taught-") as scratch:
        play = Play(arguments, pathlib.Path(scratch))
        try:
            figures = play.run()
        except WentWrong as wrong:
            sys.exit(f"error: {wrong}")
        finally:
            for process in play.processes:
                process.kill()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
