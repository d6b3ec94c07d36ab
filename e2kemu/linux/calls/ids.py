"""Ids, groups and capabilities of a process: ids are real 0, effective 1, saved 2, file system 3."""

from __future__ import annotations

import errno

from e2kemu.linux.error import LinuxError
from e2kemu.linux.structs import CAP_HEADER
from e2kemu.linux.table import syscall
from e2kemu.linux.task import Task

CAP_VERSION_1, CAP_VERSION_3 = 0x19980330, 0x20080522


def _get(names: str, kind: str, index: int) -> None:
    syscall(names)(lambda task: getattr(task.process.identity, kind)[index])


_get("getuid|getuid32", "uids", 0)
_get("geteuid|geteuid32", "uids", 1)
_get("getgid|getgid32", "gids", 0)
_get("getegid|getegid32", "gids", 1)


def _allowed(ids: list[int], wanted: int) -> int:
    """``wanted``, when an unprivileged process may become that. Raises EPERM."""
    if wanted not in ids[:3]:
        raise LinuxError(errno.EPERM)
    return wanted


def _set_one(ids: list[int], wanted: int) -> int:
    if wanted == -1:
        raise LinuxError(errno.EINVAL)
    ids[1] = ids[3] = _allowed(ids, wanted)
    return 0


@syscall("setuid|setuid32", "uid:int")
def setuid(task: Task, uid: int) -> int:
    return _set_one(task.process.identity.uids, uid)


@syscall("setgid|setgid32", "gid:int")
def setgid(task: Task, gid: int) -> int:
    return _set_one(task.process.identity.gids, gid)


def _set_many(ids: list[int], wanted: tuple[int, ...]) -> int:
    """Set real, effective (and saved) ids; -1 leaves one as it is."""
    new = [old if value == -1 else _allowed(ids, value) for old, value in zip(ids, wanted, strict=False)]
    if len(new) == 2:
        changed = wanted[0] != -1 or (wanted[1] != -1 and new[1] != ids[0])
        new.append(new[1] if changed else ids[2])
    ids[:] = [*new, new[1]]
    return 0


@syscall("setreuid|setreuid32", "ruid:int euid:int")
def setreuid(task: Task, ruid: int, euid: int) -> int:
    return _set_many(task.process.identity.uids, (ruid, euid))


@syscall("setregid|setregid32", "rgid:int egid:int")
def setregid(task: Task, rgid: int, egid: int) -> int:
    return _set_many(task.process.identity.gids, (rgid, egid))


@syscall("setresuid|setresuid32", "ruid:int euid:int suid:int")
def setresuid(task: Task, ruid: int, euid: int, suid: int) -> int:
    return _set_many(task.process.identity.uids, (ruid, euid, suid))


@syscall("setresgid|setresgid32", "rgid:int egid:int sgid:int")
def setresgid(task: Task, rgid: int, egid: int, sgid: int) -> int:
    return _set_many(task.process.identity.gids, (rgid, egid, sgid))


def _store_ids(task: Task, ids: list[int], addresses: tuple[int, int, int]) -> int:
    for address, value in zip(addresses, ids, strict=False):
        task.memory.write_u32(address, value)
    return 0


@syscall("getresuid|getresuid32", "ruid:addr euid:addr suid:addr")
def getresuid(task: Task, ruid: int, euid: int, suid: int) -> int:
    return _store_ids(task, task.process.identity.uids, (ruid, euid, suid))


@syscall("getresgid|getresgid32", "rgid:addr egid:addr sgid:addr")
def getresgid(task: Task, rgid: int, egid: int, sgid: int) -> int:
    return _store_ids(task, task.process.identity.gids, (rgid, egid, sgid))


def _set_fs(ids: list[int], wanted: int) -> int:
    old = ids[3]
    if wanted in ids:
        ids[3] = wanted
    return old


@syscall("setfsuid|setfsuid32", "uid:int")
def setfsuid(task: Task, uid: int) -> int:
    return _set_fs(task.process.identity.uids, uid)


@syscall("setfsgid|setfsgid32", "gid:int")
def setfsgid(task: Task, gid: int) -> int:
    return _set_fs(task.process.identity.gids, gid)


@syscall("getgroups|getgroups32", "size:int list:addr")
def getgroups(task: Task, size: int, address: int) -> int:
    groups = task.process.identity.groups
    if size < 0 or 0 < size < len(groups):
        raise LinuxError(errno.EINVAL)
    if size:
        task.memory.pack(f"{len(groups)}I", address, *groups)
    return len(groups)


@syscall("setgroups|setgroups32", "size:int list:addr")
def setgroups(task: Task, size: int, address: int) -> int:
    raise LinuxError(errno.EPERM)


@syscall("capget", "header:addr data:addr")
def capget(task: Task, header: int, data: int) -> int:
    given = CAP_HEADER.read(task.memory, header)
    if given["version"] not in (CAP_VERSION_1, 0x20071026, CAP_VERSION_3):
        CAP_HEADER.write(task.memory, header, version=CAP_VERSION_3, pid=given["pid"])
        if data:
            raise LinuxError(errno.EINVAL)
        return 0
    if data:
        task.memory.write(data, bytes(12 if given["version"] == CAP_VERSION_1 else 24))
    return 0


@syscall("capset", "header:addr data:addr")
def capset(task: Task, header: int, data: int) -> int:
    given = CAP_HEADER.read(task.memory, header)
    size = 12 if given["version"] == CAP_VERSION_1 else 24
    if any(task.memory.read(data, size)):
        raise LinuxError(errno.EPERM)
    return 0
