"""What the image holds: it serves by itself, as a user without rights, with nothing else there.

image_test.py SOURCE_DIR BUILD_DIR. Exit code 77: not root, so no other root directory.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE, BUILD = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def main():
    if os.getuid() != 0:
        print("SKIPPED: only root can change the root directory")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="engram-image-") as scratch:
        root = pathlib.Path(scratch) / "root"
        subprocess.run([SOURCE / "deploy/image/rootfs.sh", BUILD, root], check=True)
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        shells = [name for name in files if pathlib.Path(name).name in ("sh", "bash", "busybox")]
        assert not shells, shells
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        print(f"{len(files)} files, {size / 1e6:.1f} MB")

        def inside(*args):
            return ["chroot", "--userspec=65532:65532", root, *args]

        checkpoint = root / "checkpoint"
        subprocess.run([BUILD / "bin/engramctl", "synth", "--out", checkpoint, "--like",
                        "v41-flash", "--bucket-floor", "200"], check=True, capture_output=True)
        subprocess.run([BUILD / "bin/engramctl", "digest", checkpoint], check=True,
                       capture_output=True)
        (root / "proc").mkdir()  # as every container has it
        if subprocess.run(["mount", "--bind", "/proc", root / "proc"], check=False).returncode:
            print("SKIPPED: nothing can be mounted here")
            sys.exit(77)
        server = subprocess.Popen(
            inside("/usr/bin/engramd", "--checkpoint", "/checkpoint", "--threads", "1", "--listen",
                   "127.0.0.1:0", "--health", "127.0.0.1:0"),
            stdout=subprocess.PIPE, text=True)
        try:
            line = server.stdout.readline()
            assert line.startswith("serving "), line
            address = line.split("listen=")[1].split()[0]
            done = subprocess.run(
                inside("/usr/bin/engramctl", "verify", "--servers", address, "--checkpoint",
                       "/checkpoint", "--seconds", "1"), check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout)
            assert figures["rows"] > 0 and figures["failed"] == figures["wrong_rows"] == 0, figures
        finally:
            server.terminate()
            ended = server.wait(30)
            subprocess.run(["umount", root / "proc"], check=True)
        assert ended == 0, ended


if __name__ == "__main__":
    main()
