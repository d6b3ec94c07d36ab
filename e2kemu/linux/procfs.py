"""/proc as the guest sees it: its own processes, an e2k machine, and nothing of the host.

A ``Node`` is a directory (``entries``), a link (``link``), a file (``content``, taken when it is opened) or, in
/proc/PID/fd, a link that opens what the descriptor has open (``file``). The tree is made anew at each look.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e2kemu.linux.constants import RESOURCES, RLIM_INFINITY, S_IFDIR, S_IFLNK, S_IFREG
from e2kemu.linux.error import LinuxError

if TYPE_CHECKING:
    from e2kemu.linux.files import OpenFile
    from e2kemu.linux.task import Process, Task

DEVICE = 0x15
"""st_dev of everything here."""
TICKS = 100
"""Clock ticks a second in /proc/PID/stat (USER_HZ)."""


@dataclass
class Node:
    """One name in /proc."""

    path: str
    entries: Callable[[], dict[str, Node]] | None = None
    link: Callable[[], str] | None = None
    content: Callable[[], bytes] | None = None
    file: OpenFile | None = None
    mode: int = 0o444

    def lookup(self, name: str) -> Node:
        """The node ``name`` in this directory. Raises ENOENT, ENOTDIR."""
        if self.entries is None:
            raise LinuxError(errno.ENOTDIR)
        try:
            return self.entries()[name]
        except KeyError:
            raise LinuxError(errno.ENOENT) from None

    def status(self, *, follow: bool) -> os.stat_result:
        """As of stat(2); ``follow`` only matters for descriptors' links."""
        if self.file is not None and follow:
            return self.file.status()
        kind, mode = (S_IFDIR, 0o555) if self.entries else (S_IFLNK, 0o777) if self.link else (S_IFREG, self.mode)
        return make_status(kind | mode, inode=inode(self.path), device=DEVICE, links=2 if self.entries else 1)


def inode(path: str) -> int:
    """A number for ``path`` that is the same in every run."""
    number = 0xCBF29CE484222325
    for byte in os.fsencode(path):
        number = (number ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return number >> 33 | 1


def make_status(mode: int, *, inode: int, device: int, links: int = 1, size: int = 0, rdev: int = 0) -> os.stat_result:
    """The status of a file that no file system has; its times are now."""
    now = time.time_ns()
    seconds = now // 10**9
    times = dict.fromkeys(("st_atime_ns", "st_mtime_ns", "st_ctime_ns"), now)
    return os.stat_result((mode, inode, device, links, os.getuid(), os.getgid(), size, seconds, seconds, seconds),
                          {"st_blksize": 4096, "st_blocks": (size + 511) // 512, "st_rdev": rdev, **times})


def root(process: Process) -> Node:
    """/proc itself, as ``process`` sees it."""

    def entries() -> dict[str, Node]:
        nodes = {str(p.pid): _process(p) for p in processes(process)}
        nodes["self"] = Node("/proc/self", link=lambda: str(process.pid))
        nodes["thread-self"] = Node("/proc/thread-self", link=lambda: f"{process.pid}/task/{process.pid}")
        nodes["mounts"] = Node("/proc/mounts", link=lambda: "self/mounts")
        nodes["sys"] = _tree("/proc/sys", {
            "kernel": {
                "ostype": "Linux\n", "osrelease": f"{RELEASE}\n", "version": f"{VERSION}\n",
                "hostname": f"{os.uname().nodename}\n", "domainname": "(none)\n", "pid_max": "32768\n",
                "threads-max": "32768\n", "ngroups_max": "65536\n", "randomize_va_space": "0\n",
            },
            "vm": {"overcommit_memory": "0\n", "max_map_count": "65530\n", "mmap_min_addr": "65536\n"},
            "fs": {"file-max": "65536\n", "nr_open": "1048576\n", "pipe-max-size": "1048576\n"},
        })
        for name, content in _SYSTEM.items():
            nodes[name] = _text(f"/proc/{name}", lambda content=content: content(process))  # type: ignore[misc]
        return nodes

    return Node("/proc", entries=entries)


def processes(process: Process) -> list[Process]:
    """All processes of the guest that are known to ``process``' kernel."""
    return process.kernel.processes


RELEASE = "5.4.0-1.9-e8c"
VERSION = "#1 SMP Mon Jan 1 00:00:00 UTC 2024"


def _text(path: str, content: Callable[[], str], mode: int = 0o444) -> Node:
    return Node(path, content=lambda: os.fsencode(content()), mode=mode)


def _tree(path: str, values: dict[str, object]) -> Node:
    def entries() -> dict[str, Node]:
        return {name: _tree(f"{path}/{name}", value) if isinstance(value, dict)
                else _text(f"{path}/{name}", lambda value=value: str(value))  # type: ignore[misc]
                for name, value in values.items()}

    return Node(path, entries=entries)


def _process(process: Process) -> Node:
    base = f"/proc/{process.pid}"

    def entries() -> dict[str, Node]:
        nodes = _thread(process.tasks[0], base)
        nodes["task"] = Node(f"{base}/task", entries=lambda: {
            str(t.tid): Node(f"{base}/task/{t.tid}", entries=lambda t=t: _thread(t, f"{base}/task/{t.tid}"))  # type: ignore[misc]
            for t in process.tasks})
        return nodes

    return Node(base, entries=entries)


def _thread(task: Task, base: str) -> dict[str, Node]:
    process = task.process
    files: dict[str, Callable[[], str]] = {
        "maps": process.map.maps_text, "comm": lambda: f"{process.name}\n", "stat": lambda: _stat(task),
        "status": lambda: _status(task), "statm": lambda: _statm(process), "limits": lambda: _limits(process),
        "mounts": lambda: _MOUNTS, "mountinfo": lambda: _MOUNTINFO, "wchan": lambda: "0", "oom_score": lambda: "0\n",
        "oom_score_adj": lambda: "0\n", "personality": lambda: f"{process.identity.personality:08x}\n",
        "cgroup": lambda: "0::/\n",
    }
    nodes = {name: _text(f"{base}/{name}", content) for name, content in files.items()}
    nodes["cmdline"] = Node(f"{base}/cmdline", content=lambda: b"".join(s + b"\0" for s in process.arguments))
    nodes["exe"] = Node(f"{base}/exe", link=lambda: process.executable)
    nodes["cwd"] = Node(f"{base}/cwd", link=lambda: process.cwd)
    nodes["root"] = Node(f"{base}/root", link=lambda: "/")
    nodes["fd"] = Node(f"{base}/fd", entries=lambda: {
        str(fd): Node(f"{base}/fd/{fd}", link=file.name, file=file)
        for fd, file in sorted(process.files.files.items())})
    nodes["fdinfo"] = Node(f"{base}/fdinfo", entries=lambda: {
        str(fd): _text(f"{base}/fdinfo/{fd}", lambda file=file: f"pos:\t{file.position()}\nflags:\t0{file.flags:o}\n")  # type: ignore[misc]
        for fd, file in sorted(process.files.files.items())})
    return nodes


def _pages(process: Process) -> int:
    return sum(area.end - area.start for area in process.map.areas) // 4096


def _statm(process: Process) -> str:
    code = sum(area.end - area.start for area in process.map.areas if area.prot & 4) // 4096
    pages = _pages(process)
    return f"{pages} {pages} 0 {code} 0 {pages - code} 0\n"


def _group(process: Process) -> tuple[int, int]:
    return process.pgid, process.identity.sid or process.pid


def _stat(task: Task) -> str:
    process, who = task.process, task.process.identity
    group, session = _group(process)
    ticks = process.clock.cpu() * TICKS // 10**9
    pages = _pages(process)
    rest = [process.ppid, group, session, 0, -1, 0, 0, 0, 0, 0, ticks, 0, 0, 0, 20 + who.nice, who.nice,
            len(process.tasks), 0, 0, pages * 4096, pages, RLIM_INFINITY, *[0] * 12, 17, 0, who.priority, who.policy,
            *[0] * 11]
    return f"{task.tid} ({process.name}) R " + " ".join(map(str, rest)) + "\n"


def _status(task: Task) -> str:
    process, who = task.process, task.process.identity
    size = _pages(process) * 4
    rows = {
        "Name": process.name, "Umask": f"{process.umask:04o}", "State": "R (running)", "Tgid": process.pid, "Ngid": 0,
        "Pid": task.tid, "PPid": process.ppid, "TracerPid": 0, "Uid": "\t".join(map(str, who.uids)),
        "Gid": "\t".join(map(str, who.gids)), "FDSize": 64, "Groups": " ".join(map(str, who.groups)) + " ",
        "VmPeak": f"{size:8} kB", "VmSize": f"{size:8} kB", "VmRSS": f"{size:8} kB", "Threads": len(process.tasks),
        "CapInh": "0" * 16, "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
        "NoNewPrivs": who.no_new_privs, "Seccomp": 0, "Cpus_allowed": 1, "Cpus_allowed_list": 0, "Mems_allowed": 1,
        "Mems_allowed_list": 0, "voluntary_ctxt_switches": 0, "nonvoluntary_ctxt_switches": 0,
    }
    return "".join(f"{name}:\t{value}\n" for name, value in rows.items())


_LIMIT_ROWS = (
    ("CPU", "Max cpu time", "seconds"), ("FSIZE", "Max file size", "bytes"), ("DATA", "Max data size", "bytes"),
    ("STACK", "Max stack size", "bytes"), ("CORE", "Max core file size", "bytes"),
    ("RSS", "Max resident set", "bytes"), ("NPROC", "Max processes", "processes"),
    ("NOFILE", "Max open files", "files"), ("MEMLOCK", "Max locked memory", "bytes"),
    ("AS", "Max address space", "bytes"), ("LOCKS", "Max file locks", "locks"),
    ("SIGPENDING", "Max pending signals", "signals"), ("MSGQUEUE", "Max msgqueue size", "bytes"),
    ("NICE", "Max nice priority", ""), ("RTPRIO", "Max realtime priority", ""),
    ("RTTIME", "Max realtime timeout", "us"),
)
assert len(_LIMIT_ROWS) == len(RESOURCES)


def _limits(process: Process) -> str:
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}"]
    for name, title, unit in _LIMIT_ROWS:
        soft, hard = ("unlimited" if v == RLIM_INFINITY else str(v) for v in process.identity.limits[f"RLIMIT_{name}"])
        lines.append(f"{title:<25} {soft:<20} {hard:<20} {unit:<10}")
    return "\n".join(lines) + "\n"


_MOUNTS = "rootfs / rootfs rw 0 0\nproc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\n"
_MOUNTINFO = "1 1 0:1 / / rw - rootfs rootfs rw\n2 1 0:21 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"


def _uptime(process: Process) -> str:
    seconds = process.clock.monotonic() / 10**9
    return f"{seconds:.2f} 0.00\n"


def _cpu_stat(process: Process) -> str:
    ticks = process.clock.cpu() * TICKS // 10**9
    boot = (process.clock.realtime() - process.clock.monotonic()) // 10**9
    row = f"{ticks} 0 0 0 0 0 0 0 0 0\n"
    return f"cpu  {row}cpu0 {row}intr 0\nctxt 0\nbtime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"


MEMORY = 1 << 30
"""Bytes of memory that the guest's machine claims to have."""


def _meminfo(process: Process) -> str:
    total, used = MEMORY // 1024, min(_pages(process) * 4, MEMORY // 1024)
    rows = {"MemTotal": total, "MemFree": total - used, "MemAvailable": total - used, "Buffers": 0, "Cached": 0,
            "SwapCached": 0, "Active": used, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Dirty": 0, "Writeback": 0}
    return "".join(f"{name + ':':<16}{value:8} kB\n" for name, value in rows.items())


def _cpuinfo(process: Process) -> str:
    model = process.kernel.cpu.model
    rows = {"processor": 0, "vendor_id": "E2K MACHINE", "cpu family": model.version, "model": model.mdl,
            "model name": model.name.upper(), "revision": 0, "cpu MHz": "1200.0", "bogomips": "2400.00"}
    return "".join(f"{name:<16}: {value}\n" for name, value in rows.items()) + "\n"


def _loadavg(process: Process) -> str:
    return f"0.00 0.00 0.00 1/{len(process.tasks)} {process.pid}\n"


_SYSTEM: dict[str, Callable[[Process], str]] = {
    "cpuinfo": _cpuinfo, "meminfo": _meminfo, "uptime": _uptime, "stat": _cpu_stat,
    "version": lambda process: f"Linux version {RELEASE} (e2k) {VERSION}\n",
    "loadavg": _loadavg,
    "filesystems": lambda process: "nodev\tproc\nnodev\trootfs\n",
}
