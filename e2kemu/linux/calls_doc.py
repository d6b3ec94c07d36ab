"""docs/linux-user-calls.md: which system calls there are, and why the others answer -ENOSYS.

    python -m e2kemu.linux.calls_doc > docs/linux-user-calls.md
"""

from __future__ import annotations

import sys

import e2kemu.linux.calls  # noqa: F401 - fills the table
from e2kemu.linux.numbers import NUMBERS
from e2kemu.linux.table import CALLS

_NONE = "no kernel for e2k has it"
_OLD = "an old form that no C library for e2k uses"
_E2K = "e2k's own, for its kernel developers' or protected programs"
_REASON_NAMES: dict[str, str] = {
    _NONE: "restart_syscall break oldstat oldfstat oldlstat oldolduname stty gtty ftime prof lock mpx ulimit sigaction "
           "sigsuspend select profil idle vm86old vm86 modify_ldt create_module get_kernel_syms query_module "
           "afs_syscall nfsservctl getpmsg putpmsg vserver e2k_sigsetjmp e2k_longjmp soft_debug core emergency "
           "reserved6 reserved7 reserved8 " + " ".join(f"reserved{n}" for n in range(9, 26)),
    _OLD: "uselib ustat readdir bdflush sysfs _sysctl lookup_dcookie remap_file_pages",
    _E2K: "e2k_syswork macctl mcst_rt cnt_point newuselib unuselib get_mem free_mem clean_descriptors",
    "a debugger uses the monitor of the machine": "ptrace kcmp process_vm_readv process_vm_writev perf_event_open",
    "no System V or POSIX message objects: a process would leave them behind on the host": "ipc mq_open",
    "programs fall back to read and poll": "io_setup io_destroy io_submit io_getevents io_cancel fanotify_init "
                                           "fanotify_mark userfaultfd",
    "one memory node, one CPU": "mbind get_mempolicy set_mempolicy move_pages migrate_pages",
    "the guest has no kernel to configure": "bpf seccomp add_key request_key keyctl pkey_alloc pkey_free "
                                            "name_to_handle_at fsopen fsconfig fsmount fspick",
}
REASONS: dict[str, str] = {name: reason for reason, names in _REASON_NAMES.items() for name in names.split()}
"""Name of a call that is not there -> why."""

HEAD = """# System calls of Linux/e2k programs

What a guest process may ask of the kernel (`-M linux-user`, `e2kemu-run`). Numbers are Linux/e2k's, in 64-bit and
32-bit programs alike. A call that is not here answers -ENOSYS and is named under `-d unimp`. This file is made from
the table: `python -m e2kemu.linux.calls_doc > docs/linux-user-calls.md`.

## The sandbox

`-root DIR` makes DIR the program's `/`. The emulator walks every path itself, name by name, and lets the host follow no
link: `..` at the root stays there, absolute links begin at the root again, a directory that was moved out of the root
has no parent. `/proc` is never the host's: it shows the program its own processes, mappings, descriptors and limits,
with or without `-root`. Names of AF_UNIX sockets are paths as all others;
those without a path (abstract ones) belong to the host's network, which `-deny-net` shuts.

`-read-only`: whatever would change a file system fails with EROFS (devices, FIFOs, memfd and the standard descriptors
can be written). `-deny-net`: `socket` fails with EACCES; pairs of AF_UNIX sockets are left.

## What follows a migration

Descriptors keep their numbers, flags and shared offsets. Regular files and directories are opened again by their path
(in the destination's `-root`); pipes go with their bytes when nobody outside of the process has an end, so do eventfds,
timers, signalfds, epolls, memfds (up to 64 MiB) and files of `/proc`. Descriptors 0, 1 and 2, where they are still the
emulator's own, become the destination's.

Sockets of AF_INET and AF_INET6 that are not connected are made again with their options, bound to the same address, and
listening if they were. While their state is taken they accept nothing, so that the destination may be on the same host;
when the program goes on here they listen again. So are unbound sockets of AF_UNIX and AF_NETLINK. Both ends of a
socketpair, or one whose other end is closed, go with the bytes or messages in them, but not with descriptors on
their way. Connections, sockets with a name in AF_UNIX or AF_NETLINK, and connections and datagrams that nobody has
taken are blockers, with their addresses.

Deleted files, terminals, FIFOs and inotify descriptors cannot follow, either: they are blockers, and named.

## Where it differs from Linux on an Elbrus machine

- Ids, limits, priorities, scheduling policies and prctl's settings are the guest's own: the host's do not change, and
  only what an unprivileged process may do succeeds.
- CPU clocks of threads tell the process' time; `getrusage` counts mapped pages as resident.
- A FIFO that is opened for reading does not wait for a writer; its first read does.
- The entries of a directory are read when the reading begins, and sorted by name.
- `flock` and record locks are the host's, and waited for by trying again every 10 ms.
- `sync` and `syncfs` leave it to the host; `fsync` and `fdatasync` do what they say.
- Of extended attributes there are those in `user.`.
- Socket options whose values hold pointers (filters) fail with ENOPROTOOPT.
"""


def document() -> str:
    """The text."""
    themes: dict[str, list[tuple[int, str, str]]] = {}
    for number, call in sorted(CALLS.items()):
        arguments = ", ".join(a.name for a in call.arguments if a.kind != "high")
        theme = call.handler.__module__.rpartition(".")[2]
        themes.setdefault(theme, []).append((number, call.name, arguments))
    parts = [HEAD, f"\n{len(CALLS)} calls are there.\n"]
    for theme, calls in sorted(themes.items()):
        about = (sys.modules[f"e2kemu.linux.calls.{theme}"].__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
        parts.append(f"\n## {theme}\n\n{about}\n\n| number | call |\n|---|---|\n")
        parts += [f"| {number} | `{name}({arguments})` |\n" for number, name, arguments in calls]
    parts.append("\n## Not there\n\n| number | call | why |\n|---|---|---|\n")
    parts += [f"| {NUMBERS[name]} | `{name}` | {reason} |\n"
              for name, reason in sorted(REASONS.items(), key=lambda item: NUMBERS[item[0]])]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
