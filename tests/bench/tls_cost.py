#!/usr/bin/env python3
"""What mTLS costs: the same lookups of one server in plaintext and of one with certificates, in turns.

tls_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--seconds S] [--rounds N]

Medians of the rounds. Prints one JSON object; *_ratio is mTLS over plaintext.
"""
import contextlib
import json
import pathlib
import statistics
import subprocess
import tempfile

from bench_support import parse_arguments, run, serving, synth

MAKE_CERTS = pathlib.Path(__file__).resolve().parents[1] / "support/make_certs.sh"
FIGURES = ("rows_per_s", "client_cpu_s_per_gb", "server_cpu_s_per_gb")


def main():
    arguments = parse_arguments(__doc__, bucket_floor=40_000, batch=4096, seconds=2.0, rounds=5)
    build = arguments.build
    with tempfile.TemporaryDirectory(prefix="engram-tls-cost-") as scratch:
        scratch = pathlib.Path(scratch)
        table = scratch / "table"
        synth(build, table, arguments.bucket_floor)
        subprocess.run([MAKE_CERTS, scratch, *"ca ca -- cert server ca IP:127.0.0.1 -- "
                        "cert client ca DNS:client.test".split()], check=True)

        def flags(who):
            return ["--tls-client-ca" if who == "server" else "--tls-ca", scratch / "ca.pem", "--tls-cert",
                    scratch / f"{who}.pem", "--tls-key", scratch / f"{who}.key"]

        figures = {"plaintext": [], "mtls": []}
        with contextlib.ExitStack() as stack:
            servers = {name: stack.enter_context(serving(
                build, "--checkpoint", table, *(flags("server") if name == "mtls" else []))) for name in figures}
            for _ in range(arguments.rounds):
                for name, rounds in figures.items():
                    rounds.append(run(
                        build, "engram-bench", "gather", "--servers", servers[name]["listen"], "--batch",
                        arguments.batch, "--seconds", arguments.seconds, "--server-pids", servers[name]["pid"],
                        *(flags("client") if name == "mtls" else [])))
    median = {name: {key: statistics.median(each[key] for each in rounds) for key in FIGURES}
              for name, rounds in figures.items()}
    ratios = {f"{key}_ratio": round(median["mtls"][key] / median["plaintext"][key], 3)
              for key in FIGURES}
    print(json.dumps({**median, **ratios}))


if __name__ == "__main__":
    main()
