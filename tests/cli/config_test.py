"""engramd's configuration file: its flags by another way, and nothing else."""
import pathlib
import re
import tempfile
import tomllib
import unittest

from cli_support import run


class ConfigFile(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = pathlib.Path(directory.name) / "engramd.toml"

    def printed(self, *args):
        done = run("engramd", *args, "--print-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_every_flag_is_a_key(self):
        flags = set(re.findall(r"^ +(?:-\w,)?--([a-z0-9-]+)", run("engramd", "--help").stdout, re.M))
        keys = set(re.findall(r"^(?:# )?([a-z0-9-]+) = ", self.printed(), re.M))
        self.assertEqual(flags - keys, {"help", "version", "config", "print-config"})
        self.assertEqual(keys - flags, set())

    def test_what_is_printed_reads_as_the_same(self):
        given = ("--checkpoint", 'a "b" \\ # c', "--spin-us", 7, "--direct-reads", "--threads", 3,
                 "--lookup-names", "x.y,*.z", "--store", "mapped", "--data-dir", "it's",
                 "--shard", "1/2")
        text = self.printed(*given)
        values = tomllib.loads(text)
        self.assertEqual(values["checkpoint"], 'a "b" \\ # c')
        self.assertEqual(values["spin-us"], 7)
        self.assertIs(values["direct-reads"], True)
        self.assertIs(values["insecure"], False)
        self.assertEqual(values["lookup-names"], "x.y,*.z")
        self.assertEqual(values["max-rows-per-request"], 65536)
        self.file.write_text(text)
        self.assertEqual(self.printed("--config", self.file), text)
        self.assertNotEqual(self.printed(), text)

    def test_a_flag_goes_before_the_file(self):
        self.file.write_text("# Of this host.\n\nspin-us = 5 # us\nthreads = 2\nshard = '1/4'\n")
        values = tomllib.loads(self.printed("--config", self.file, "--spin-us", 9))
        self.assertEqual((values["spin-us"], values["threads"], values["shard"]), (9, 2, "1/4"))

    def test_what_is_refused_is_named_with_its_line(self):
        for line, says in (
                ("spin_us = 5", "key `spin_us` is not known"),
                ("config = 'x'", "key `config` is not known"),
                ("[server]", "`[server]` is not key = value"),
                ("spin-us = -1", "`spin-us` is `-1`"),
                ("spin-us = 'soon'", "`spin-us` is `soon`"),
                ("spin-us =", "`spin-us` has no value"),
                ("threads = 5", "`threads` comes twice"),
                ("store = 'redis'", "store `redis` is not known"),
                ("store = memory", "a text has quotes"),
                ("store = 'memory", "lacks the quote"),
                ("store = 'memory' 5", "behind its value"),
                ('checkpoint = "\\x"', "has an escape that is not known"),
                ("direct-reads = 2", "neither true nor false"),
                ("expect-digest = 'ab'", "is not 64 hex digits"),
                ("drain-ms = 1e9", "`drain-ms` is `1e9`")):
            self.file.write_text(f"threads = 1\n{line}\n")
            done = run("engramd", "--config", self.file, "--print-config")
            self.assertNotEqual(done.returncode, 0, line)
            self.assertEqual(done.stdout, "")
            self.assertIn(f"error: {self.file}:2: ", done.stderr)
            self.assertIn(says, done.stderr)

    def test_a_file_that_is_not_there_is_named(self):
        done = run("engramd", "--config", self.file)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(self.file), done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
