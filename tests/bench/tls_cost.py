#!/usr/bin/env python3
"""What mTLS costs: the same lookups of one server in plaintext and of one with certificates, in turns.

tls_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--seconds S] [--rounds N]

Medians of the rounds. Prints one JSON object; *_ratio is mTLS over plaintext.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

MAKE_CERTS = pathlib.Path(__file__).resolve().parents[1] / "support/make_certs.sh"
FIGURES = ("rows_per_s", "client_cpu_s_per_gb", "server_cpu_s_per_gb")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--bucket-floor", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    def run(name, *args):
        command = [arguments.build / "bin" / name, *map(str, args)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    with tempfile.TemporaryDirectory(prefix="engram-tls-cost-") as scratch:
        scratch = pathlib.Path(scratch)
        table = scratch / "table"
        run("engramctl", "synth", "--out", table, "--like", "v41-flash", "--bucket-floor",
            arguments.bucket_floor)
        subprocess.run([MAKE_CERTS, scratch, *"ca ca -- cert server ca IP:127.0.0.1 -- "
                        "cert client ca DNS:client.test".split()], check=True)

        def flags(who):
            return ["--tls-client-ca" if who == "server" else "--tls-ca", scratch / "ca.pem", "--tls-cert",
                    scratch / f"{who}.pem", "--tls-key", scratch / f"{who}.key"]
        servers, addresses = {}, {}
        figures = {"plaintext": [], "mtls": []}
        try:
            for name in figures:
                servers[name] = subprocess.Popen(
                    [arguments.build / "bin/engramd", "--checkpoint", table, "--listen", "127.0.0.1:0",
                     "--threads", "1", *(flags("server") if name == "mtls" else [])],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                line = servers[name].stdout.readline()
                addresses[name] = line.split("listen=")[1].split()[0]
            for _ in range(arguments.rounds):
                for name, rounds in figures.items():
                    rounds.append(json.loads(run(
                        "engram-bench", "gather", "--servers", addresses[name], "--batch",
                        arguments.batch, "--seconds", arguments.seconds, "--server-pids",
                        servers[name].pid, *(flags("client") if name == "mtls" else []))))
        finally:
            for server in servers.values():
                server.terminate()
                server.wait()
    median = {name: {key: statistics.median(each[key] for each in rounds) for key in FIGURES}
              for name, rounds in figures.items()}
    ratios = {f"{key}_ratio": round(median["mtls"][key] / median["plaintext"][key], 3)
              for key in FIGURES}
    print(json.dumps({**median, **ratios}))


if __name__ == "__main__":
    main()
