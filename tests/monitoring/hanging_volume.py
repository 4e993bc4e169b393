#!/usr/bin/python3
"""A directory mounted again, read-only, whose files can hang: while HOLD is there, what is read from files of
tables waits. For Debian's python3-fusepy.

hanging_volume.py DIRECTORY MOUNT HOLD
"""
import errno
import os
import sys
import time

import fusepy as fuse


class Volume(fuse.Operations):
    def __init__(self, directory, hold):
        self._directory, self._hold = directory, hold

    def _of(self, path):
        return os.path.join(self._directory, path.lstrip("/"))

    def getattr(self, path, fh=None):
        try:
            found = os.lstat(self._of(path))
        except OSError as error:
            raise fuse.FuseOSError(error.errno)
        return {key: getattr(found, key) for key in
                ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_atime", "st_mtime", "st_ctime")}

    def readdir(self, path, fh):
        return [".", "..", *os.listdir(self._of(path))]

    def open(self, path, flags):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise fuse.FuseOSError(errno.EROFS)
        return os.open(self._of(path), os.O_RDONLY)

    def read(self, path, size, offset, fh):
        while path.endswith(".safetensors") and offset > 0 and os.path.exists(self._hold):
            time.sleep(0.05)
        return os.pread(fh, size, offset)

    def release(self, path, fh):
        os.close(fh)


if __name__ == "__main__":
    fuse.FUSE(Volume(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, ro=True, nothreads=False)
