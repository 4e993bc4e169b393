#!/usr/bin/env python3
"""Packs a staged package into a wheel.

make_wheel.py --stage DIR --version X.Y.Z --license FILE --out DIR

DIR holds `engram_client` as it is to be installed, its libraries with an $ORIGIN run path. The same
files give the same wheel, byte for byte. Prints the wheel's path. Needs no packages beyond Python.
"""
import argparse
import base64
import hashlib
import pathlib
import sys
import zipfile

NAME = "engram_client"
TAG = "cp311-cp311-linux_x86_64"
METADATA = """Metadata-Version: 2.1
Name: engram-client
Version: {version}
Summary: Rows of Engram tables from memory servers
License: Apache-2.0
License-File: LICENSE
Requires-Python: ==3.11.*
Requires-Dist: numpy
Provides-Extra: engines
Requires-Dist: torch ; extra == "engines"
"""
WHEEL = f"""Wheel-Version: 1.0
Generator: engram make_wheel
Root-Is-Purelib: false
Tag: {TAG}
"""


def staged_files(stage):
    """Path inside the wheel -> bytes. Links are not: a wheel has none."""
    for path in sorted((stage / NAME).rglob("*")):
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            yield path.relative_to(stage).as_posix(), path.read_bytes()


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def add(archive, name, data):
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    mode = 0o755 if ".so" in pathlib.PurePosixPath(name).name else 0o644
    info.external_attr = (0o100000 | mode) << 16
    archive.writestr(info, data)


def make_wheel(stage, version, license_file, out):
    files = dict(staged_files(stage))
    if f"{NAME}/__init__.py" not in files:
        raise ValueError(f"no package {NAME} in {stage}")
    info = f"{NAME}-{version}.dist-info"
    files |= {f"{info}/METADATA": METADATA.format(version=version).encode(),
              f"{info}/WHEEL": WHEEL.encode(),
              f"{info}/LICENSE": license_file.read_bytes()}
    record = "".join(record_line(name, data) for name, data in files.items())
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{NAME}-{version}-{TAG}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            add(archive, name, data)
    return wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", type=pathlib.Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--license", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    try:
        print(make_wheel(arguments.stage, arguments.version, arguments.license, arguments.out))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
