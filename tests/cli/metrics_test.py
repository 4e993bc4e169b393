"""What engramd and clients export, against deploy/metrics.md, promtool, and scrapers that hang."""
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from cli_support import BIN, LIMIT_S, Engramd, run, run_json

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PAGE = SOURCE / "deploy/metrics.md"
OURS = re.compile(r"engram_|grpc_")
DISK = "rocksdb"


def scrape(address, timeout=LIMIT_S):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=timeout) as answer:
        return answer.read().decode()


def series(text):
    """[(name, {label: value}, value)] of a text in Prometheus' format."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")), float(value)))
    return found


def families(text):
    """Name -> (type, label names), of our metrics."""
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    labels = {}
    for name, found, _ in series(text):
        family = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
        labels.setdefault(family, set()).add(frozenset(set(found) - {"le"}))
    return {name: (kind, labels[name]) for name, kind in types.items() if OURS.match(name)}


def documented():
    """Name -> (type, label names, from), out of the page."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|([^|]+)\|", PAGE.read_text(), re.MULTILINE)
    return {name: (kind, {frozenset(filter(None, labels.replace(" ", "").split(",")))}, by.strip())
            for name, kind, labels, by in rows}


def value(text, name, **labels):
    return sum(v for n, found, v in series(text)
               if n == name and all(found.get(k) == w for k, w in labels.items()))


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="engram-metrics-")
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.checkpoint = pathlib.Path(cls.scratch.name) / "checkpoint"
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 2000)
        assert made.returncode == 0, made.stderr
        run_json("engramctl", "digest", cls.checkpoint)

    def serve(self, *args):
        server = Engramd("--checkpoint", self.checkpoint, "--metrics", "127.0.0.1:0", *args)
        self.addCleanup(server.stop)
        return server

    def bench(self, server, *args):
        """A client that looks up for a while, and where its metrics are."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % taken.getsockname()[1]
        process = subprocess.Popen(
            [BIN / "engram-bench", "gather", "--servers", server.address, "--layer", "1",
             "--batch", "512", "--metrics", address, "--seconds", "30", *args],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def stop():
            process.kill()
            process.wait()
            process.stderr.close()
        self.addCleanup(stop)
        return address

    def await_value(self, address, condition):
        """The first text of which the condition holds."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            try:
                text = scrape(address)
                if condition(text):
                    return text
            except OSError:
                pass  # It does not listen yet.
            time.sleep(0.05)
        self.fail("not within the limit")

    def assert_as_documented(self, text, by):
        found = families(text)
        page = {name: (kind, labels) for name, (kind, labels, source) in documented().items()
                if source == by or source.startswith(by + ",") and "rocksdb_" in text}
        self.assertEqual(set(found) - set(page), set(), "exported, and not on the page")
        self.assertEqual(set(page) - set(found), set(), "on the page, and not exported")
        for name, (kind, labels) in sorted(page.items()):
            self.assertEqual(found[name], (kind, labels), name)

    def assert_promtool_is_content(self, text):
        self.assertIsNotNone(shutil.which("promtool"), "Debian's package prometheus has promtool")
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                                 text=True, timeout=LIMIT_S, check=False)
        self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))

    def test_a_server_exports_what_the_page_says(self):
        text = scrape(self.serve().fields["metrics"])
        self.assert_as_documented(text, "server")
        self.assert_promtool_is_content(text)
        self.assertEqual(value(text, "engram_ready"), 1)
        self.assertEqual(value(text, "engram_load_progress_ratio"), 1)
        self.assertEqual(value(text, "engram_verification_passes_total"), 1)
        self.assertGreater(value(text, "engram_resident_bytes"), 1 << 20)
        self.assertGreater(value(text, "engram_open_fds"), 3)
        self.assertAlmostEqual(value(text, "engram_start_time_seconds"), time.time(), delta=LIMIT_S)
        self.assertIn('engram_request_duration_seconds_bucket{le="0.005"} 0\n', text)

    def test_a_shard_on_disk_exports_its_own_beside(self):
        data = pathlib.Path(self.scratch.name) / "data"
        server = self.serve("--store", "rocksdb", "--data-dir", data, "--memory-budget", 8 << 20)
        before = scrape(server.fields["metrics"])
        self.assert_as_documented(before, "server")
        self.assert_promtool_is_content(before)
        self.assertEqual(value(before, "engram_table_info", store="rocksdb"), 1)
        self.assertGreater(value(before, "engram_rocksdb_file_bytes"), 0)
        looked_up = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows",
                        ",".join(map(str, range(100, 40000, 7))), "--hex")
        self.assertEqual(looked_up.returncode, 0, looked_up.stderr)
        after = scrape(server.fields["metrics"])
        misses = value(after, "engram_rocksdb_cache_misses_total")
        self.assertGreater(misses, 0)
        self.assertEqual(value(after, "engram_rocksdb_cache_hits_total") + misses,
                         value(after, "engram_request_rows_sum"))
        self.assertGreater(value(after, "engram_rocksdb_read_bytes_total"), 0)

    def test_a_client_exports_what_the_page_says(self):
        address = self.bench(self.serve())
        text = self.await_value(
            address, lambda text: value(text, "engram_client_lookups_total") > 100)
        self.assert_as_documented(text, "client")
        self.assert_promtool_is_content(text)
        self.assertEqual(value(text, "engram_client_servers", state="connected"), 1)
        self.assertEqual(value(text, "engram_client_failed_lookups_total"), 0)
        # A row may be there in part.
        self.assertEqual(value(text, "engram_client_rows_total"), value(text, "engram_client_row_bytes_total") // 264)
        self.assertGreater(value(text, "engram_client_fetch_seconds_sum"), 0)

    def test_counters_grow_while_they_are_scraped(self):
        server = self.serve()
        self.bench(server)
        rows = 0
        for _ in range(20):
            text = self.await_value(server.fields["metrics"],
                                    lambda text: value(text, "engram_sent_rows_total") > rows)
            rows = value(text, "engram_sent_rows_total")
        self.assertGreater(value(text, "engram_request_stage_seconds_sum", stage="gather"), 0)
        self.assertEqual(value(text, "engram_request_errors_total"), 0)
        self.assertGreaterEqual(value(text, "engram_requests_total", priority="decode"),
                                value(text, "engram_request_duration_seconds_count"))

    def test_scrapers_that_hang_hold_up_nobody(self):
        server = self.serve()
        host, port = server.fields["metrics"].rsplit(":", 1)
        hanging = []
        try:
            for half in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"):
                hanging.append(socket.create_connection((host, int(port))))
                hanging[-1].sendall(half)
            self.assertEqual(value(scrape(server.fields["metrics"]), "engram_ready"), 1)
            verified = run_json("engramctl", "verify", "--servers", server.address, "--checkpoint",
                                self.checkpoint, "--seconds", 1)
            self.assertEqual((verified["failed"], verified["wrong_rows"]), (0, 0))
            self.assertEqual(value(scrape(server.fields["metrics"]), "engram_ready"), 1)
        finally:
            for connection in hanging:
                connection.close()

    def test_many_scrape_at_once(self):
        server = self.serve()
        texts = []
        threads = [threading.Thread(target=lambda: texts.append(scrape(server.fields["metrics"])))
                   for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
        self.assertEqual({frozenset(families(text)) for text in texts},
                         {frozenset(families(texts[0]))})
        self.assertEqual(len(texts), 6)

    def test_no_address_that_cannot_be_listened_on(self):
        taken = self.serve().fields["metrics"]
        for address, complaint in ((taken, f"cannot listen on {taken}"), ("nowhere", "host:port")):
            failed = run("engramd", "--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0",
                         "--metrics", address)
            self.assertEqual(failed.returncode, 1)
            self.assertIn("error: ", failed.stderr)
            self.assertIn(complaint, failed.stderr)


if __name__ == "__main__":
    unittest.main()
