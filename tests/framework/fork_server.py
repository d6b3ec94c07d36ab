"""The process that whole-process tests fork their emulators from: it has imported everything already.

A start of the interpreter, numpy, llvmlite and our modules is most of what a short test costs, and there are a
thousand of them. Here they are imported once for each worker of pytest. What runs in a test is a process of its own
as ever, with the descriptors, the directory, the environment and the arguments that it was given; tests of the command
line itself start it the long way.

Asked over a SOCK_SEQPACKET socket (standard input): one message of JSON ``{"module", "arguments", "cwd", "environment",
"numbers"}`` with descriptors: the first is a pipe for the answer, each other one becomes that of ``numbers`` in the
child. Written to the pipe: the child's pid, and its wait status when it has ended; 4 bytes each, little-endian.
The server ends when nobody asks any more.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import sys
import threading
from typing import NoReturn

MODULES = {"e2kemu": "e2kemu.cli", "e2kemu.run_cli": "", "e2kemu.cpu.asm_cli": "", "e2kemu.cpu.disasm_cli": "",
           "e2kemu.elf.ld_cli": "", "e2kemu.migration.stream_cli": ""}  # fmt: skip
"""What can be asked for, and the module with its ``main`` where that is another."""

LONGEST = 1 << 18
"""Bytes of a message."""
DESCRIPTORS = 64
"""Descriptors of a message."""


class Child(Exception):
    """In the child, out of the server's loop: what it is to be."""

    def __init__(self, module: str) -> None:
        self.module = module


def main() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    for name, at in MODULES.items():
        importlib.import_module(at or name)
    from e2kemu.cpu.native.interp.build import HostCode

    HostCode.get()
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1
    asked = socket.socket(fileno=0)
    try:
        serve(asked)
    except Child as child:
        module = child.module
    sys.exit(importlib.import_module(MODULES[module] or module).main())


def serve(asked: socket.socket) -> None:
    """Raises Child in each child; ends the server with SystemExit."""
    children: dict[int, tuple[int, int]] = {}  # pidfd -> (pid, pipe)
    poll = select.poll()
    poll.register(asked.fileno(), select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                pid, pipe = children.pop(fd)
                poll.unregister(fd)
                tell(pipe, os.waitpid(pid, 0)[1])
                os.close(pipe)
                os.close(fd)
                continue
            message, fds, _, _ = socket.recv_fds(asked, LONGEST, DESCRIPTORS)
            if not message:
                sys.exit(0)
            pid = os.fork()
            if not pid:
                asked.detach()
                become(json.loads(message), fds)
            for given in fds[1:]:
                os.close(given)
            tell(fds[0], pid)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = (pid, fds[0])
            poll.register(pidfd, select.POLLIN)


def tell(pipe: int, number: int) -> None:
    try:
        os.write(pipe, number.to_bytes(4, "little"))
    except BrokenPipeError:
        pass  # the test does not want to know any more


def become(wanted: dict[str, object], fds: list[int]) -> NoReturn:
    """Take descriptors, directory, environment and arguments; raises Child."""
    numbers, arguments, environment = wanted["numbers"], wanted["arguments"], wanted["environment"]
    assert isinstance(numbers, list)
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    place(dict(zip(numbers, fds[1:], strict=True)))
    os.chdir(str(wanted["cwd"]))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(wanted["module"]), *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
    raise Child(str(wanted["module"]))


def place(wanted: dict[int, int]) -> None:
    """Descriptor ``wanted[n]`` becomes n; all others are closed."""
    import fcntl

    above = max(*wanted, 2) + 1
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, above) for number, fd in wanted.items()}
    for number, copy in copies.items():
        os.dup2(copy, number)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in wanted:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing


if __name__ == "__main__":
    main()
