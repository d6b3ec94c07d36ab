"""Locks of image files, as QEMU takes them: one open file description against another.

Byte 100 + P of the file is locked (shared) by whoever uses permission P, byte 200 + P by whoever does not
share it; before either, the opposite byte must be free. So emulators, QEMU and qemu-img see each other:

    P 0 consistent read, 1 write, 3 resize

The locks are OFD locks: they belong to the open file, and end with it even when the process is killed. On a
file system without locks none are taken, as in QEMU.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from e2kemu.errors import OptionError

PERMISSIONS = {0: "consistent read", 1: "write", 3: "resize"}
READ, WRITE, RESIZE = PERMISSIONS

USED, UNSHARED = 100, 200
"""First bytes of the two groups."""

_FLOCK = "hhqqi4x"
"""struct flock: type, whence, start, length, process."""

_NONE_HERE = (errno.ENOLCK, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class FileLock:
    """The locks of one open file."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def take(self, *, writer: bool) -> None:
        """Take them all or none. Raises OptionError when another process has the image in use."""
        used = (READ, WRITE, RESIZE) if writer else (READ,)
        try:
            for permission in used:
                self._set(fcntl.F_RDLCK, USED + permission)
            for permission in (WRITE, RESIZE):
                self._set(fcntl.F_RDLCK, UNSHARED + permission)
            for permission in used:
                self._check(UNSHARED + permission, permission, "")
            for permission in (WRITE, RESIZE):
                self._check(USED + permission, permission, "shared ")
        except OSError as error:
            if error.errno not in _NONE_HERE:
                raise OptionError(f"Could not lock '{self._path}': {error.strerror}") from error
        except OptionError:
            self.release()
            raise

    def release(self) -> None:
        """Give them all back."""
        for group in (USED, UNSHARED):
            for permission in PERMISSIONS:
                try:
                    self._set(fcntl.F_UNLCK, group + permission)
                except OSError:
                    return  # there are none on this file system

    def _set(self, kind: int, byte: int) -> None:
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, byte, 1, 0))

    def _check(self, byte: int, permission: int, shared: str) -> None:
        """Whether anybody else holds a lock on ``byte``: a writer's lock would not be granted."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, byte, 1, 0)
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, asked)
        if struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK:
            raise OptionError(
                f'Failed to get {shared}"{PERMISSIONS[permission]}" lock:'
                f" Is another process using the image [{self._path}]?"
            )
