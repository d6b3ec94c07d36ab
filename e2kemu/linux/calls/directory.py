"""Names: making, removing, linking and renaming them, reading directories, owners, modes and times."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from e2kemu.linux import constants as c
from e2kemu.linux import host_calls, paths
from e2kemu.linux.error import LinuxError
from e2kemu.linux.files import OpenFile
from e2kemu.linux.hostfile import Directory
from e2kemu.linux.procfile import ProcDirectory
from e2kemu.linux.structs import DIRENT, DIRENT64, TIMESPEC, TIMEVAL, UTIMBUF
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task
from e2kemu.linux.umask import umask_of

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, RENAME_FLAGS = 1, 2, 4, 7
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def _change(task: Task, place: paths.Place) -> paths.Place:
    """``place``, where something is about to be changed. Raises EPERM in /proc, EROFS when nothing may be written."""
    place.on_host()
    if task.process.sandbox.read_only:
        raise LinuxError(errno.EROFS)
    return place


def _fresh(task: Task, place: paths.Place, *, directory: bool = False) -> paths.Place:
    """``place``, where something new is about to be. Raises EEXIST, ENOENT, EROFS."""
    if place.status is not None:
        raise LinuxError(errno.EEXIST)
    if place.slash and not directory:
        raise LinuxError(errno.ENOENT)
    return _change(task, place)


def _mkdir(task: Task, dirfd: int, path: str, mode: int) -> int:
    with paths.at(task.process, dirfd, path, follow=False) as place:
        _fresh(task, place, directory=True)
        with umask_of(task.process):
            os.mkdir(place.name, mode & 0o1777, dir_fd=place.fd)
    return 0


@syscall("mkdir", "path:path mode:octal")
def mkdir(task: Task, path: int, mode: int) -> int:
    return _mkdir(task, c.AT_FDCWD, paths.text(task, path), mode)


@syscall("mkdirat", "dirfd:fd path:path mode:octal")
def mkdirat(task: Task, dirfd: int, path: int, mode: int) -> int:
    return _mkdir(task, dirfd, paths.text(task, path), mode)


def _mknod(task: Task, dirfd: int, path: str, mode: int, device: int) -> int:
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind == stat.S_IFDIR:
        raise LinuxError(errno.EPERM)
    if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        raise LinuxError(errno.EPERM if kind in (stat.S_IFCHR, stat.S_IFBLK) else errno.EINVAL)
    with paths.at(task.process, dirfd, path, follow=False) as place:
        _fresh(task, place)
        with umask_of(task.process):
            os.mknod(place.name, kind | mode & 0o7777, dir_fd=place.fd)
    return 0


@syscall("mknod", "path:path mode:octal dev:uint")
def mknod(task: Task, path: int, mode: int, dev: int) -> int:
    return _mknod(task, c.AT_FDCWD, paths.text(task, path), mode, dev)


@syscall("mknodat", "dirfd:fd path:path mode:octal dev:uint")
def mknodat(task: Task, dirfd: int, path: int, mode: int, dev: int) -> int:
    return _mknod(task, dirfd, paths.text(task, path), mode, dev)


def _unlink(task: Task, dirfd: int, path: str, flags: int) -> int:
    if flags & ~c.AT_REMOVEDIR:
        raise LinuxError(errno.EINVAL)
    with paths.at(task.process, dirfd, path, follow=False) as place:
        _change(task, place).existing()
        if flags:
            if place.guest == "/":
                raise LinuxError(errno.EBUSY)
            if path.rstrip("/").rpartition("/")[2] == "..":
                raise LinuxError(errno.ENOTEMPTY)
            os.rmdir(place.name, dir_fd=place.fd)
        else:
            os.unlink(place.name, dir_fd=place.fd)
    return 0


@syscall("unlink", "path:path")
def unlink(task: Task, path: int) -> int:
    return _unlink(task, c.AT_FDCWD, paths.text(task, path), 0)


@syscall("rmdir", "path:path")
def rmdir(task: Task, path: int) -> int:
    return _unlink(task, c.AT_FDCWD, paths.text(task, path), c.AT_REMOVEDIR)


@syscall("unlinkat", "dirfd:fd path:path flags:at_flags")
def unlinkat(task: Task, dirfd: int, path: int, flags: int) -> int:
    return _unlink(task, dirfd, paths.text(task, path), flags)


def _symlink(task: Task, target: str, dirfd: int, path: str) -> int:
    if not target:
        raise LinuxError(errno.ENOENT)
    with paths.at(task.process, dirfd, path, follow=False) as place:
        _fresh(task, place)
        os.symlink(target, place.name, dir_fd=place.fd)
    return 0


@syscall("symlink", "target:path path:path")
def symlink(task: Task, target: int, path: int) -> int:
    return _symlink(task, paths.text(task, target), c.AT_FDCWD, paths.text(task, path))


@syscall("symlinkat", "target:path dirfd:fd path:path")
def symlinkat(task: Task, target: int, dirfd: int, path: int) -> int:
    return _symlink(task, paths.text(task, target), dirfd, paths.text(task, path))


def _readlink(task: Task, dirfd: int, path: str, buf: int, size: int) -> int:
    if size <= 0:
        raise LinuxError(errno.EINVAL)
    if not path and dirfd != c.AT_FDCWD:
        raise LinuxError(errno.ENOENT)
    with paths.at(task.process, dirfd, path, follow=False) as place:
        status = place.existing()
        if not stat.S_ISLNK(status.st_mode):
            raise LinuxError(errno.EINVAL)
        if place.node is not None:
            assert place.node.link is not None
            target = place.node.link()
        else:
            target = os.readlink(place.name, dir_fd=place.fd)
    data = os.fsencode(target)[:size]
    task.memory.write(buf, data)
    return len(data)


@syscall("readlink", "path:path buf:received size:int")
def readlink(task: Task, path: int, buf: int, size: int) -> int:
    return _readlink(task, c.AT_FDCWD, paths.text(task, path), buf, size)


@syscall("readlinkat", "dirfd:fd path:path buf:received size:int")
def readlinkat(task: Task, dirfd: int, path: int, buf: int, size: int) -> int:
    return _readlink(task, dirfd, paths.text(task, path), buf, size)


def _link(task: Task, old_fd: int, old: str, new_fd: int, new: str, flags: int) -> int:
    if flags & ~(c.AT_SYMLINK_FOLLOW | c.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    if paths.is_empty(old, flags):
        return _link_file(task, task.files.get(old_fd), new_fd, new)
    with (paths.at(task.process, old_fd, old, follow=bool(flags & c.AT_SYMLINK_FOLLOW)) as source,
          paths.at(task.process, new_fd, new, follow=False) as target):
        source.existing()
        if source.node is not None and source.node.file is not None and flags & c.AT_SYMLINK_FOLLOW:
            return _link_file(task, source.node.file, new_fd, new)
        _fresh(task, target)
        if source.node is not None:
            raise LinuxError(errno.EXDEV)
        os.link(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd, follow_symlinks=False)
    return 0


def _link_file(task: Task, file: OpenFile, new_fd: int, new: str) -> int:
    """Give what is open (perhaps with O_TMPFILE) another name."""
    with paths.at(task.process, new_fd, new, follow=False) as target:
        _fresh(task, target)
        if file.kind == "directory":
            raise LinuxError(errno.EPERM)
        if file.kind != "file":
            raise LinuxError(errno.EXDEV)
        os.link(_by_descriptor(file.host_fd), target.name, dst_dir_fd=target.fd, follow_symlinks=True)
    return 0


@syscall("link", "old:path new:path")
def link(task: Task, old: int, new: int) -> int:
    return _link(task, c.AT_FDCWD, paths.text(task, old), c.AT_FDCWD, paths.text(task, new), 0)


@syscall("linkat", "olddirfd:fd old:path newdirfd:fd new:path flags:at_flags")
def linkat(task: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    return _link(task, olddirfd, paths.text(task, old), newdirfd, paths.text(task, new), flags)


def _rename(task: Task, old_fd: int, old: str, new_fd: int, new: str, flags: int) -> int:
    if flags & ~RENAME_FLAGS or (flags & RENAME_EXCHANGE and flags != RENAME_EXCHANGE):
        raise LinuxError(errno.EINVAL)
    if flags & RENAME_WHITEOUT:
        raise LinuxError(errno.EPERM)
    with (paths.at(task.process, old_fd, old, follow=False) as source,
          paths.at(task.process, new_fd, new, follow=False) as target):
        status = source.existing()
        if source.node is not None or target.node is not None:
            raise LinuxError(errno.EXDEV)
        _change(task, source)
        if "." in (source.name, target.name):
            raise LinuxError(errno.EBUSY)
        if flags & RENAME_NOREPLACE and target.status is not None:
            raise LinuxError(errno.EEXIST)
        if target.slash and not stat.S_ISDIR(status.st_mode):
            raise LinuxError(errno.ENOTDIR)
        if flags & RENAME_EXCHANGE:
            target.existing()
            host_calls.exchange(source.fd, source.name, target.fd, target.name)
        else:
            os.rename(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    return 0


@syscall("rename", "old:path new:path")
def rename(task: Task, old: int, new: int) -> int:
    return _rename(task, c.AT_FDCWD, paths.text(task, old), c.AT_FDCWD, paths.text(task, new), 0)


@syscall("renameat", "olddirfd:fd old:path newdirfd:fd new:path")
def renameat(task: Task, olddirfd: int, old: int, newdirfd: int, new: int) -> int:
    return _rename(task, olddirfd, paths.text(task, old), newdirfd, paths.text(task, new), 0)


@syscall("renameat2", "olddirfd:fd old:path newdirfd:fd new:path flags:hex")
def renameat2(task: Task, olddirfd: int, old: int, newdirfd: int, new: int, flags: int) -> int:
    return _rename(task, olddirfd, paths.text(task, old), newdirfd, paths.text(task, new), flags)


@syscall("chdir", "path:path")
def chdir(task: Task, path: int) -> int:
    with paths.at(task.process, c.AT_FDCWD, paths.text(task, path)) as place:
        if not stat.S_ISDIR(place.existing().st_mode):
            raise LinuxError(errno.ENOTDIR)
        if place.node is None and not os.access(place.name, os.X_OK, dir_fd=place.fd):
            raise LinuxError(errno.EACCES)
        task.process.cwd = place.guest
    return 0


@syscall("fchdir", "fd:fd")
def fchdir(task: Task, fd: int) -> int:
    file = task.files.get(fd)
    if file.kind != "directory":
        raise LinuxError(errno.ENOTDIR)
    task.process.cwd = file.path
    return 0


@syscall("getcwd", "buf:received size:size")
def getcwd(task: Task, buf: int, size: int) -> int:
    with paths.at(task.process, c.AT_FDCWD, ".") as place:
        place.existing()
    data = os.fsencode(task.process.cwd) + b"\0"
    if len(data) > size:
        raise LinuxError(errno.ERANGE)
    task.memory.write(buf, data)
    return len(data)


@syscall("umask", "mask:octal")
def umask(task: Task, mask: int) -> int:
    old, task.process.umask = task.process.umask, mask & 0o777
    return old


def _on_path(task: Task, dirfd: int, path: str, flags: int, change: Callable[[int], None]) -> int:
    """``change`` what a path names, by a descriptor that does not follow the last link a second time."""
    if paths.is_empty(path, flags):
        return _on_file(task, task.files.get(dirfd), change)
    with paths.at(task.process, dirfd, path, follow=not flags & c.AT_SYMLINK_NOFOLLOW) as place:
        place.existing()
        _change(task, place)
        fd = place.open_path()
        try:
            change(fd)
        finally:
            os.close(fd)
    return 0


def _on_file(task: Task, file: OpenFile, change: Callable[[int], None]) -> int:
    if file.flags & c.O_PATH:
        raise LinuxError(errno.EBADF)
    if task.process.sandbox.read_only and file.kind != "memfd":
        raise LinuxError(errno.EROFS)
    change(file.host())
    return 0


def _by_descriptor(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _set_mode(mode: int) -> Callable[[int], None]:
    return lambda fd: os.chmod(_by_descriptor(fd), mode & 0o7777)


@syscall("chmod", "path:path mode:octal")
def chmod(task: Task, path: int, mode: int) -> int:
    return _on_path(task, c.AT_FDCWD, paths.text(task, path), 0, _set_mode(mode))


@syscall("fchmodat", "dirfd:fd path:path mode:octal")
def fchmodat(task: Task, dirfd: int, path: int, mode: int) -> int:
    return _on_path(task, dirfd, paths.text(task, path), 0, _set_mode(mode))


@syscall("fchmod", "fd:fd mode:octal")
def fchmod(task: Task, fd: int, mode: int) -> int:
    return _on_file(task, task.files.get(fd), _set_mode(mode))


def _set_owner(uid: int, gid: int) -> Callable[[int], None]:
    return lambda fd: _chown_descriptor(fd, uid, gid)


def _chown_descriptor(fd: int, uid: int, gid: int) -> None:
    if stat.S_ISLNK(os.fstat(fd).st_mode):
        status = os.fstat(fd)
        if uid in (-1, status.st_uid) and gid in (-1, status.st_gid):
            return
        raise LinuxError(errno.EPERM)
    os.chown(_by_descriptor(fd), uid, gid)


@syscall("chown|chown32", "path:path owner:int group:int")
def chown(task: Task, path: int, owner: int, group: int) -> int:
    return _on_path(task, c.AT_FDCWD, paths.text(task, path), 0, _set_owner(owner, group))


@syscall("lchown|lchown32", "path:path owner:int group:int")
def lchown(task: Task, path: int, owner: int, group: int) -> int:
    return _on_path(task, c.AT_FDCWD, paths.text(task, path), c.AT_SYMLINK_NOFOLLOW, _set_owner(owner, group))


@syscall("fchown|fchown32", "fd:fd owner:int group:int")
def fchown(task: Task, fd: int, owner: int, group: int) -> int:
    return _on_file(task, task.files.get(fd), _set_owner(owner, group))


@syscall("fchownat", "dirfd:fd path:path owner:int group:int flags:at_flags")
def fchownat(task: Task, dirfd: int, path: int, owner: int, group: int, flags: int) -> int:
    if flags & ~(c.AT_SYMLINK_NOFOLLOW | c.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    return _on_path(task, dirfd, paths.text(task, path), flags, _set_owner(owner, group))


def _utime(task: Task, dirfd: int, path: str | None, times: tuple[int, int] | None, flags: int = 0) -> int:
    """``times``: (access, modification) in ns, with UTIME_NOW and UTIME_OMIT already resolved; None: now."""

    def change(fd: int) -> None:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise LinuxError(errno.EOPNOTSUPP)
        if times is None:
            os.utime(_by_descriptor(fd))
        else:
            os.utime(_by_descriptor(fd), ns=times)

    if path is None:
        if dirfd == c.AT_FDCWD:
            raise LinuxError(errno.EFAULT)
        return _on_file(task, task.files.get(dirfd), change)
    return _on_path(task, dirfd, path, flags, change)


@syscall("utime", "path:path times:addr")
def utime(task: Task, path: int, times: int) -> int:
    pair = None
    if times:
        given = UTIMBUF.read(task.memory, times)
        pair = (given["actime"] * 10**9, given["modtime"] * 10**9)
    return _utime(task, c.AT_FDCWD, paths.text(task, path), pair)


def _utimes(task: Task, dirfd: int, path: int, times: int) -> int:
    pair = None
    if times:
        size = TIMEVAL.size(task.process.pointer_size)
        access, modified = (TIMEVAL.read(task.memory, times + n * size) for n in range(2))
        if not all(0 <= t["usec"] < 10**6 for t in (access, modified)):
            raise LinuxError(errno.EINVAL)
        pair = (access["sec"] * 10**9 + access["usec"] * 1000, modified["sec"] * 10**9 + modified["usec"] * 1000)
    return _utime(task, dirfd, paths.text(task, path) if path else None, pair)


@syscall("utimes", "path:path times:addr")
def utimes(task: Task, path: int, times: int) -> int:
    return _utimes(task, c.AT_FDCWD, path, times)


@syscall("futimesat", "dirfd:fd path:path times:addr")
def futimesat(task: Task, dirfd: int, path: int, times: int) -> int:
    return _utimes(task, dirfd, path, times)


@syscall("utimensat", "dirfd:fd path:path times:addr flags:at_flags")
def utimensat(task: Task, dirfd: int, path: int, times: int, flags: int) -> int:
    if flags & ~(c.AT_SYMLINK_NOFOLLOW | c.AT_EMPTY_PATH):
        raise LinuxError(errno.EINVAL)
    name = paths.text(task, path) if path else None
    if not times:
        return _utime(task, dirfd, name, None, flags)
    size = TIMESPEC.size(task.process.pointer_size)
    given = [TIMESPEC.read(task.memory, times + n * size) for n in range(2)]
    if not all(0 <= t["nsec"] < 10**9 or t["nsec"] in (UTIME_NOW, UTIME_OMIT) for t in given):
        raise LinuxError(errno.EINVAL)
    if all(t["nsec"] == UTIME_OMIT for t in given):
        return 0
    if name is None and dirfd == c.AT_FDCWD:
        raise LinuxError(errno.EFAULT)
    status = task.files.get(dirfd).status() if name is None else None
    if status is None:
        assert name is not None
        if paths.is_empty(name, flags):
            status = task.files.get(dirfd).status()
        else:
            with paths.at(task.process, dirfd, name, follow=not flags & c.AT_SYMLINK_NOFOLLOW) as place:
                status = place.existing()
    now = task.process.clock.realtime()
    old = (status.st_atime_ns, status.st_mtime_ns)
    values = [now if t["nsec"] == UTIME_NOW else old[n] if t["nsec"] == UTIME_OMIT else t["sec"] * 10**9 + t["nsec"]
              for n, t in enumerate(given)]
    return _utime(task, dirfd, name, (values[0], values[1]), flags)


def _getdents(task: Task, fd: int, buf: int, count: int, *, wide: bool) -> int:
    file = task.files.get(fd)
    if not isinstance(file, Directory | ProcDirectory):
        raise LinuxError(errno.ENOTDIR)
    pointer = task.process.pointer_size
    layout = DIRENT64 if wide else DIRENT
    out = b""
    entries = file.entries()
    position = file.next
    while position < len(entries):
        name, inode, kind = entries[position]
        text = os.fsencode(name) + b"\0"
        start = layout.offset("reclen", pointer) + (3 if wide else 2)
        size = start + len(text) + (0 if wide else 1)
        size += -size % (8 if wide else pointer)
        if len(out) + size > count:
            break
        head = layout.pack(pointer, ino=inode, off=position + 1, reclen=size, type=kind)[:start]
        record = (head + text).ljust(size, b"\0")
        out += record if wide else record[:-1] + bytes([kind])
        position += 1
    if not out and position < len(entries):
        raise LinuxError(errno.EINVAL)
    task.memory.write(buf, out)
    file.next = position
    return len(out)


@syscall("getdents", "fd:fd buf:addr count:uint")
def getdents(task: Task, fd: int, buf: int, count: int) -> int:
    return _getdents(task, fd, buf, count, wide=False)


@syscall("getdents64", "fd:fd buf:addr count:uint")
def getdents64(task: Task, fd: int, buf: int, count: int) -> int:
    return _getdents(task, fd, buf, count, wide=True)
