"""engramd with TLS and tokens, called by engramctl and by grpcio, which is nobody's of this project.

For Debian's /usr/bin/python3 with python3-grpcio.
"""
import pathlib
import subprocess
import tempfile
import unittest

import grpc

from cli_support import Engramd, run, run_json

TOKEN, PUBLISHING = "a-token-to-look-up", "a-token-to-publish"


class Authority:
    """An authority and what it has signed, in a directory."""

    MAKE = pathlib.Path(__file__).resolve().parents[1] / "support/make_certs.sh"

    def __init__(self, directory):
        self.directory = directory
        subprocess.run([self.MAKE, directory, "ca", "ca"], check=True)

    def __getitem__(self, name):
        return self.directory / name

    def issue(self, name, names):
        subprocess.run([self.MAKE, self.directory, "cert", name, "ca", names], check=True)


def describe(address, credentials, metadata=()):
    """The status code and words of a Describe without fields, by grpcio."""
    channel = (grpc.secure_channel(address, credentials) if credentials is not None
               else grpc.insecure_channel(address))
    with channel:
        call = channel.unary_unary("/engram.v1.EngramService/Describe")
        try:
            call(b"", timeout=20, metadata=metadata)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="engram-tls-"))
        cls.files = Authority(pathlib.Path(scratch))
        cls.checkpoint = cls.files["checkpoint"]
        made = run("engramctl", "synth", "--out", cls.checkpoint, "--like", "v41-flash",
                   "--bucket-floor", 1000)
        assert made.returncode == 0, made.stderr
        run_json("engramctl", "digest", cls.checkpoint)
        cls.files.issue("server", "DNS:localhost,IP:127.0.0.1")
        cls.files.issue("worker", "DNS:worker.gpu")
        cls.files.issue("stranger", "DNS:stranger")
        cls.files["lookup.token"].write_text(TOKEN + "\n")
        cls.files["publish.token"].write_text(PUBLISHING + "\n")

    def serve(self, *args, **kwargs):
        server = Engramd("--checkpoint", self.checkpoint, *args, **kwargs)
        self.addCleanup(server.stop)
        return server

    def tls(self, *args):
        return self.serve("--tls-cert", self.files["server.pem"], "--tls-key", self.files["server.key"],
                          *args)

    def mutual(self, *args):
        return self.tls("--tls-client-ca", self.files["ca.pem"], "--lookup-names", "*.gpu", *args)

    def flags(self, name):
        return ["--tls-ca", self.files["ca.pem"], "--tls-cert", self.files[f"{name}.pem"], "--tls-key",
                self.files[f"{name}.key"]]

    def credentials(self, name=None):
        read = [None, None] if name is None else [
            self.files[f"{name}.{kind}"].read_bytes() for kind in ("key", "pem")]
        return grpc.ssl_channel_credentials(self.files["ca.pem"].read_bytes(), *read)

    def test_engramctl_by_certificate(self):
        server = self.mutual("--metrics", "127.0.0.1:0")
        verified = run_json("engramctl", "verify", "--servers", server.address, "--checkpoint",
                            self.checkpoint, "--seconds", 0.5, *self.flags("worker"))
        self.assertEqual((verified["failed"], verified["wrong_rows"]), (0, 0))
        self.assertGreater(verified["rows"], 0)
        refused = run("engramctl", "lookup", "--servers", server.address, "--layer", 1, "--rows", 1,
                      "--hex", *self.flags("stranger"))
        self.assertEqual(refused.returncode, 1)
        self.assertIn("a certificate of stranger one may not look up", refused.stderr)
        changed = run("engramctl", "publish", "--servers", server.address, self.files["ca.pem"],
                      *self.flags("worker"))
        self.assertNotEqual(changed.returncode, 0)

    def test_another_grpc_by_certificate(self):
        server = self.mutual()
        address = server.address.replace("127.0.0.1", "localhost")
        self.assertEqual(describe(address, self.credentials("worker")), ("OK", ""))
        code, words = describe(address, self.credentials("stranger"))
        self.assertEqual(code, "PERMISSION_DENIED")
        self.assertIn("stranger", words)
        self.assertEqual(describe(address, self.credentials())[0], "UNAVAILABLE")
        self.assertEqual(describe(server.address, None)[0], "UNAVAILABLE")

    def test_tokens(self):
        server = self.tls("--lookup-token", self.files["lookup.token"], "--publish-token",
                          self.files["publish.token"])
        address = server.address.replace("127.0.0.1", "localhost")

        def bearer(token):
            return describe(address, self.credentials(), [("authorization", f"Bearer {token}")])[0]
        self.assertEqual(bearer(TOKEN), "OK")
        self.assertEqual(bearer(PUBLISHING), "OK")
        self.assertEqual(bearer("guessed"), "PERMISSION_DENIED")
        self.assertEqual(bearer(""), "UNAUTHENTICATED")
        self.assertEqual(describe(address, self.credentials())[0], "UNAUTHENTICATED")
        run_json("engramctl", "status", "--json", "--servers", server.address, "--tls-ca",
                 self.files["ca.pem"], "--token-file", self.files["lookup.token"])
        self.assert_says_no_secret(server)

    def assert_says_no_secret(self, server):
        said = server.said()
        self.assertIn("refused", said)  # so that there is something to look through
        for secret in (TOKEN, PUBLISHING, "guessed", *self.files["server.key"].read_text().split("\n")[1:-2]):
            self.assertNotIn(secret, said)

    def test_health_has_a_port_of_its_own(self):
        server = self.mutual("--health", "127.0.0.1:0")
        with grpc.insecure_channel(server.fields["health"]) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            self.assertEqual(check(b"", timeout=20), b"\x08\x01")  # SERVING

    def test_no_plaintext_to_the_world_by_mistake(self):
        for listen in ("0.0.0.0:0", "[::]:0"):
            failed = run("engramd", "--checkpoint", self.checkpoint, "--listen", listen)
            self.assertEqual(failed.returncode, 1)
            self.assertIn(f"error: plaintext at {listen}", failed.stderr)
        server = self.serve("--insecure", listen="0.0.0.0:0")
        self.assertEqual(describe(server.address.replace("0.0.0.0", "127.0.0.1"), None), ("OK", ""))

    def test_files_that_cannot_be_used_are_named(self):
        for args, complaint in (
                (["--tls-cert", "none.pem", "--tls-key", "none.key"], "none.pem"),
                (["--tls-cert", self.files["server.pem"]], "without a key"),
                (["--tls-cert", self.files["server.pem"], "--tls-key", self.files["worker.key"]],
                 "not that of the certificate"),
                (["--lookup-token", "none.token"], "none.token"),
                (["--lookup-names", "a"], "--tls-client-ca")):
            failed = run("engramd", "--checkpoint", self.checkpoint, "--listen", "127.0.0.1:0", *args)
            self.assertEqual(failed.returncode, 1, args)
            self.assertIn("error: ", failed.stderr)
            self.assertIn(complaint, failed.stderr)


if __name__ == "__main__":
    unittest.main()
