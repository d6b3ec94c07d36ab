"""The stat family, statfs and access."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from e2kemu.linux import constants as c
from e2kemu.linux import paths
from e2kemu.linux.error import LinuxError
from e2kemu.linux.structs import STAT, STAT64, STATFS, STATFS64, STATX, Struct
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

STATX_BASIC = 0x7FF
PROC_MAGIC = 0x9FA0
ST_RDONLY = 1


def encode_device(device: int) -> int:
    """A device number as user space has it in 32 bits."""
    major, minor = os.major(device), os.minor(device)
    return minor & 0xFF | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def values_of(status: os.stat_result) -> dict[str, int]:
    """The fields of struct stat by their names in ``structs``."""
    values = {"dev": encode_device(status.st_dev), "ino": status.st_ino, "mode": status.st_mode,
              "nlink": status.st_nlink, "uid": status.st_uid, "gid": status.st_gid,
              "rdev": encode_device(status.st_rdev), "size": status.st_size, "blksize": status.st_blksize,
              "blocks": status.st_blocks}
    for name, ns in (("atime", status.st_atime_ns), ("mtime", status.st_mtime_ns), ("ctime", status.st_ctime_ns)):
        values[name], values[f"{name}_nsec"] = divmod(ns, 10**9)
    return values


def _store(task: Task, layout: Struct, address: int, status: os.stat_result) -> int:
    if layout is STAT and task.process.pointer_size == 4 and status.st_size >> 31:
        raise LinuxError(errno.EOVERFLOW)
    layout.write(task.memory, address, **values_of(status))
    return 0


def look(task: Task, dirfd: int, path: str, flags: int) -> os.stat_result:
    """The status of a path, or with AT_EMPTY_PATH of ``dirfd`` itself."""
    if paths.is_empty(path, flags):
        if dirfd != c.AT_FDCWD:
            return task.files.get(dirfd).status()
        path = "."
    with paths.at(task.process, dirfd, path, follow=not flags & c.AT_SYMLINK_NOFOLLOW) as place:
        return place.existing()


def _family(layout: Struct, suffix: str) -> None:
    def stat(task: Task, path: int, buf: int) -> int:
        return _store(task, layout, buf, look(task, c.AT_FDCWD, paths.text(task, path), 0))

    def lstat(task: Task, path: int, buf: int) -> int:
        return _store(task, layout, buf, look(task, c.AT_FDCWD, paths.text(task, path), c.AT_SYMLINK_NOFOLLOW))

    def fstat(task: Task, fd: int, buf: int) -> int:
        return _store(task, layout, buf, task.files.get(fd).status())

    def fstatat(task: Task, dirfd: int, path: int, buf: int, flags: int) -> int:
        if flags & ~(c.AT_SYMLINK_NOFOLLOW | c.AT_EMPTY_PATH | c.AT_NO_AUTOMOUNT):
            raise LinuxError(errno.EINVAL)
        return _store(task, layout, buf, look(task, dirfd, paths.text(task, path), flags))

    kind = f"stat{suffix}"
    handlers: dict[str, tuple[Callable[..., int], str]] = {
        f"stat{suffix}": (stat, f"path:path buf:{kind}"), f"lstat{suffix}": (lstat, f"path:path buf:{kind}"),
        f"fstat{suffix}": (fstat, f"fd:fd buf:{kind}"),
        "fstatat64" if suffix else "newfstatat": (fstatat, f"dirfd:fd path:path buf:{kind} flags:at_flags")}
    for name, (handler, signature) in handlers.items():
        syscall(name, signature)(handler)


_family(STAT, "")
_family(STAT64, "64")


@syscall("statx", "dirfd:fd path:path flags:at_flags mask:hex buf:addr")
def statx(task: Task, dirfd: int, path: int, flags: int, mask: int, buf: int) -> int:
    if mask & 1 << 31 or flags & 0x6000 == 0x6000:
        raise LinuxError(errno.EINVAL)
    status = look(task, dirfd, paths.text(task, path), flags)
    values = values_of(status)
    values |= {"mask": STATX_BASIC, "rdev_major": os.major(status.st_rdev), "rdev_minor": os.minor(status.st_rdev),
               "dev_major": os.major(status.st_dev), "dev_minor": os.minor(status.st_dev)}
    STATX.write(task.memory, buf, **values)
    return 0


def _filesystem(task: Task, layout: Struct, address: int, fd: int | None) -> int:
    if fd is None:
        values = {"type": PROC_MAGIC, "bsize": 4096, "namelen": 255, "frsize": 4096}
    else:
        found = os.fstatvfs(fd)
        values = {"type": _magic(fd), "bsize": found.f_bsize, "blocks": found.f_blocks, "bfree": found.f_bfree,
                  "bavail": found.f_bavail, "files": found.f_files, "ffree": found.f_ffree,
                  "fsid0": found.f_fsid & 0xFFFFFFFF, "fsid1": found.f_fsid >> 32 & 0xFFFFFFFF,
                  "namelen": found.f_namemax, "frsize": found.f_frsize, "flags": found.f_flag}
        if task.process.sandbox.read_only:
            values["flags"] |= ST_RDONLY
    narrow = layout is STATFS and task.process.pointer_size == 4
    if narrow and max(values.get(n, 0) for n in ("blocks", "bfree", "bavail")) >> 32:
        raise LinuxError(errno.EOVERFLOW)
    layout.write(task.memory, address, **values)
    return 0


_MAGIC = {"ext4": 0xEF53, "ext3": 0xEF53, "ext2": 0xEF53, "tmpfs": 0x01021994, "devtmpfs": 0x01021994,
          "xfs": 0x58465342, "btrfs": 0x9123683E, "overlay": 0x794C7630, "nfs": 0x6969, "proc": PROC_MAGIC,
          "sysfs": 0x62656572, "ramfs": 0x858458F6, "devpts": 0x1CD1, "squashfs": 0x73717368, "9p": 0x01021997,
          "fuse": 0x65735546, "vfat": 0x4D44, "f2fs": 0xF2F52010, "zfs": 0x2FC12FC1}


def _magic(fd: int) -> int:
    """f_type, which Python does not tell: by the name of the file system in mountinfo. 0 when it is not known."""
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return _MAGIC.get(right.split()[0].partition(".")[0], 0)
    return 0


def _statfs(task: Task, layout: Struct, path: int, buf: int) -> int:
    with paths.at(task.process, c.AT_FDCWD, paths.text(task, path)) as place:
        place.existing()
        if place.node is not None:
            return _filesystem(task, layout, buf, None)
        fd = place.open_path()
        try:
            return _filesystem(task, layout, buf, fd)
        finally:
            os.close(fd)


def _fstatfs(task: Task, layout: Struct, fd: int, buf: int) -> int:
    file = task.files.get(fd)
    return _filesystem(task, layout, buf, file.host_fd if file.host_fd >= 0 else None)


@syscall("statfs", "path:path buf:addr")
def statfs(task: Task, path: int, buf: int) -> int:
    return _statfs(task, STATFS, path, buf)


@syscall("fstatfs", "fd:fd buf:addr")
def fstatfs(task: Task, fd: int, buf: int) -> int:
    return _fstatfs(task, STATFS, fd, buf)


def _check_size(task: Task, size: int) -> None:
    if size != STATFS64.size(task.process.pointer_size):
        raise LinuxError(errno.EINVAL)


@syscall("statfs64", "path:path size:size buf:addr")
def statfs64(task: Task, path: int, size: int, buf: int) -> int:
    _check_size(task, size)
    return _statfs(task, STATFS64, path, buf)


@syscall("fstatfs64", "fd:fd size:size buf:addr")
def fstatfs64(task: Task, fd: int, size: int, buf: int) -> int:
    _check_size(task, size)
    return _fstatfs(task, STATFS64, fd, buf)


def _access(task: Task, dirfd: int, path: str, mode: int) -> int:
    if mode & ~7:
        raise LinuxError(errno.EINVAL)
    with paths.at(task.process, dirfd, path) as place:
        status = place.existing()
        if place.node is not None:
            if mode & 2 or (mode & 1 and not place.node.entries):
                raise LinuxError(errno.EACCES)
            return 0
        plain = status.st_mode & c.S_IFMT in (c.S_IFREG, c.S_IFDIR, c.S_IFLNK)
        if mode & 2 and task.process.sandbox.read_only and plain:
            raise LinuxError(errno.EROFS)
        fd = place.open_path()
        try:
            if not os.access(f"/proc/self/fd/{fd}", mode):
                raise LinuxError(errno.EACCES)
        finally:
            os.close(fd)
    return 0


@syscall("access", "path:path mode:access")
def access(task: Task, path: int, mode: int) -> int:
    return _access(task, c.AT_FDCWD, paths.text(task, path), mode)


@syscall("faccessat", "dirfd:fd path:path mode:access")
def faccessat(task: Task, dirfd: int, path: int, mode: int) -> int:
    return _access(task, dirfd, paths.text(task, path), mode)
