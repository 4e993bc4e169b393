"""What the benchmarks in Python share: their arguments, the programs of a build, tables, a server."""
import argparse
import contextlib
import json
import pathlib
import shutil
import subprocess

VALUES = 256  # a row's, of a byte each


def parse_arguments(doc, **defaults):
    """BUILD_DIR, as `build`, and a flag for each default, of its type; `doc` is what --help says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    for name, default in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    return parser.parse_args()


def run(build, name, *args):
    """The JSON that a program prints, None if nothing; CalledProcessError if it fails, beside what it says itself."""
    command = [build / "bin" / name, *map(str, args)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout or "null")


def synth(build, table, bucket_floor):
    run(build, "engramctl", "synth", "--out", table, "--like", "v41-flash", "--bucket-floor", bucket_floor)


def copy_changed(table, to):
    """A copy, not digested, with another byte in every hundredth row of values, as they lie in the files."""
    shutil.copytree(table, to)
    (to / "engram.sidecar").unlink(missing_ok=True)
    for path in to.glob("*.safetensors"):
        with open(path, "r+b") as file:
            size = path.stat().st_size
            for at in range(size // 20, size // 20 * 19, 100 * VALUES):
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1]))


@contextlib.contextmanager
def serving(build, *flags, under=()):
    """A server of one thread, started by the command `under` if given, until the end of the `with`, when it has ended:
    the fields of the line that it prints ("listen" is its address) and its "pid".
    """
    command = [*under, build / "bin/engramd", "--listen", "127.0.0.1:0", "--threads", "1", *flags]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as server:
        try:
            line = server.stdout.readline()
            if not line.startswith("serving "):
                raise RuntimeError(f"it does not serve: {server.args}")
            yield {"pid": server.pid, **dict(field.split("=", 1) for field in line.split()[1:])}
        finally:
            server.terminate()
