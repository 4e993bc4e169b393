#!/usr/bin/env python3
"""Holds the directions in which our folders may include each other, and each heavy library's home.

Run it from anywhere; it prints every violation and exits 1 if there is one.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> folders whose headers it may include. Mains (deploy, tests) may include all.
MAY_INCLUDE = {
    "proto": {"proto"},
    "storage": {"proto", "storage"},
    "client": {"proto", "client"},
    "service": {"proto", "storage", "service"},
}
OURS = {"proto", "storage", "client", "service", "deploy", "tests"}

# Library -> (what its includes look like, which files may have them).
HOMES = {
    "gRPC": (
        r"grpc(pp)?/|grpc\.pb\.h|.*/[a-z_]+\.grpc\.pb\.h|proto/grpc_status\.h",
        r"service/.*|proto/grpc_status\.h|tests/.*",
    ),
    "nghttp2": (r"nghttp2/", r"client/http2_connection\.(h|cc)"),
    "protobuf": (
        r"google/protobuf/|.*\.pb\.h",
        r"proto/(describe\.h|wire_request\.cc)|service/.*|storage/(arena_header|catalogue|sidecar)\.cc|"
        r"storage/disk/shard_manifest\.cc|tests/.*",
    ),
    "ICU": (r"unicode/", r"storage/tokenizer\.cc"),
    "RocksDB": (r"rocksdb/", r"storage/disk/rocks_db\.cc|tests/bench/peers/rocksdb_peer\.cc"),
    "prometheus-cpp": (r"prometheus/", r"proto/base/metrics_server\.cc"),
    "CUDA": (r"cuda|nccl", r"client/cuda/.*|tests/cuda/.*"),
    "Python": (r"pybind11/|Python\.h", r"client/python/.*"),
    "CLI11": (r"CLI/", r"service/(engramd[a-z_]*|config_file)\.(h|cc)|deploy/.*|tests/bench/.*"),
    "GoogleTest": (r"gtest/|gmock/", r"tests/.*"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
# A path of somebody's machine. Spelled so that this file does not match itself.
MACHINE_PATH = re.compile(r"(?<![\w./-])/wor" + r"k/[\w.]")


def tracked_files():
    """Files under version control; without git (an archive), all but build trees."""
    try:
        out = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True)
        names = [name for name in out.stdout.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skip = {"build", ".git", ".tools"}
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                 if not skip & set(path.relative_to(ROOT).parts)]
    return [name for name in names if (ROOT / name).is_file()]


def check_include(name, included):
    folder = name.split("/")[0]
    target = included.split("/")[0]
    if folder in MAY_INCLUDE and target in OURS and target not in MAY_INCLUDE[folder]:
        yield f"{name}: {folder} must not include {included}"
    for library, (pattern, homes) in HOMES.items():
        if not re.match(pattern, included):
            continue
        if not re.fullmatch(homes, name):
            yield f"{name}: {library} ({included}) has no home here"


def check_file(name):
    data = (ROOT / name).read_bytes()
    if b"\0" in data:
        return
    text = data.decode("utf-8", errors="replace")
    for match in MACHINE_PATH.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield f"{name}:{line}: a path of one machine"
    if name.endswith((".h", ".cc")):
        for included in INCLUDE.findall(text):
            yield from check_include(name, included)


def main():
    files = tracked_files()
    problems = [problem for name in files for problem in check_file(name)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"layering: {len(files)} files, no violation")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
