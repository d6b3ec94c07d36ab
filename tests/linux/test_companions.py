"""clone with CLONE_VM alone: processes share memory and run at the same time; what else they share the flags say."""

from __future__ import annotations

import errno
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cpu.vectors import DATA
from tests.linux.program import Code, numbers, run

VM, FS, FILES, SIGHAND, THREAD, CLEARTID, SIGCHLD = 0x100, 0x200, 0x400, 0x800, 0x10000, 0x200000, 17
STACK = "stack+65536"
MINUS = (1 << 64) - errno.EBADF


def start() -> Code:
    return Code().space("status", 8).space("cell", 32, 5, 6).space("stack", 65536).space("times", 16, 0, 30_000_000)


def companion(code: Code, flags: int = 0, child: str = "child", tid: str | int = 0) -> Code:
    """Make one that goes to ``child``; its pid is in %dr20."""
    return code.call("clone", VM | SIGCHLD | flags, STACK, 0, tid, 0, result="%dr20").branch(child, "cmpesb %r20, 0")


def waited(code: Code) -> Code:
    """Print the status of the child whose pid is in %dr20."""
    return show(code.call("wait4", "%dr20", "status", 0, 0), "status", "ldw")


def show(code: Code, cell: str, load: str = "ldd") -> Code:
    return code(f"{{ nop 4; {load},0 0, {cell}, %dr1 }}").number("%dr1")


def handed(code: Code, cell: str, *, value: int) -> Code:
    """Store a value and wake who waits for it."""
    return code.store(cell, value).call("futex", cell, 1, 1, 0, 0, 0)


def awaited(code: Code, cell: str, *, value: int) -> Code:
    """Wait until the cell has the value."""
    label, done = code.label("wait"), code.label("done")
    code(f"{label}:")(f"{{ nop 4; ldw,0 0, {cell}, %dr1 }}").branch(done, f"cmpesb %r1, {value}")
    return code.call("futex", cell, 0, "%dr1", 0, 0, 0).goto(label)(f"{done}:")


@pytest.mark.parametrize("accel", ["reference", "jit"])
def test_both_see_each_others_stores_and_mappings_while_they_run(accel: str, tmp_path: Path) -> None:
    code = companion(start())
    handed(awaited(code, "cell", value=1), "cell", value=2)
    awaited(code, "cell", value=3)
    code("{ nop 4; ldd,0 0, cell+8, %dr2 }")("{ nop 4; ldd,0 %dr2, 0x1008, %dr1 }").number("%dr1")
    waited(code)
    code.call("getpid", result="%dr1")("{ nop 4; ldd,0 0, cell+16, %dr2 }")
    code("subd,0 %dr2, %dr1, %dr1").number("%dr1")
    code("{ nop 4; ldd,0 0, cell+24, %dr2 }")("subd,0 %dr2, %dr20, %dr1").number("%dr1").exit(3)
    handed(code("child:"), "cell", value=1)
    awaited(code, "cell", value=2)
    code.call("mmap", 0, 0x3000, 3, 0x12, 0xFFFFFFFF, 0, result="%dr5").store("cell+8", "%dr5")
    code("addd,0 0, 99, %dr6")("std,2 %dr6, [ %dr5 + 0x1008 ]")
    code.call("getppid", result="%dr5").store("cell+16", "%dr5").call("getpid", result="%dr5").store("cell+24", "%dr5")
    handed(code, "cell", value=3).exit(9)
    done = run(code.build(tmp_path), options=("-accel", accel))
    assert (numbers(done.stdout), done.stderr, done.returncode) == ([99, 9 << 8, 0, 0], b"", 3)


def test_each_flag_shares_its_own_thing_only(tmp_path: Path) -> None:
    """The child opens descriptor 9, changes the directory, and ignores SIGUSR1; then the parent looks."""
    (tmp_path / "sub").mkdir()
    code = start().space("action", 32).space("path", 256).space("default", 32)
    flags = (FILES, FS, SIGHAND, 0)
    for index, shared in enumerate(flags):
        companion(code, shared, f"child{index}").call("wait4", "%dr20", 0, 0, 0)
        code.call("fcntl", 9, 1, 0, result="%dr1").number("%dr1")
        code.call("getcwd", "path", 256, result="%dr1").number("%dr1")
        code.call("rt_sigaction", 10, 0, "action", 8)
        show(code, "action").call("close", 9).call("chdir", code.text(str(tmp_path)))
        code.call("rt_sigaction", 10, "default", 0, 8)
    code.exit(0)
    for index, _ in enumerate(flags):
        code(f"child{index}:").call("dup2", 1, 9).call("chdir", code.text("sub")).store("action", 1)
        code.call("rt_sigaction", 10, "action", 0, 8).store("action", 0).exit(0)
    done = run(code.build(tmp_path), cwd=tmp_path)
    plain = len(str(tmp_path)) + 1
    assert numbers(done.stdout) == [
        word for shared in flags for word in (0 if shared == FILES else MINUS, plain + (4 if shared == FS else 0),
                                              int(shared == SIGHAND))], done.stderr


def test_who_executes_a_program_leaves_the_shared_memory(tmp_path: Path) -> None:
    hello = tmp_path / "hello"
    hello.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    hello.chmod(0o755)
    code = companion(start().space("argv", 16), CLEARTID, tid="cell")
    path = code.text(str(hello))
    awaited(code, "cell", value=0)             # it is zeroed when the memory is left
    waited(code)
    companion(code, 0, "second")
    code.call("execve", path, "argv", 0).exit(126)
    code("child:").call("execve", path, "argv", 0).exit(126)
    code("second:").call("nanosleep", "times", 0).say("still here\n").exit(5)
    done = run(code.build(tmp_path))
    time.sleep(0.3)
    lines = done.stdout.splitlines()
    assert sorted(lines) == sorted([b"hello from e2k", b"%016x" % (7 << 8), b"hello from e2k", b"still here"]), done
    assert done.returncode == 7


def test_the_others_go_on_when_the_first_ends(tmp_path: Path) -> None:
    code = companion(start())
    code.exit(4)
    code("child:").call("nanosleep", "times", 0).say("child\n").exit(5)
    done = run(code.build(tmp_path))           # its output ends with its last process
    assert (done.stdout, done.returncode) == (b"child\n", 4), done.stderr


def test_fatal_signals_end_one_process_only(tmp_path: Path) -> None:
    code = waited(companion(start()))
    waited(companion(code, 0, "second").call("kill", "%dr20", 9))
    waited(companion(code, 0, "third"))
    waited(companion(code, 0, "fourth")).exit(0)
    code("child:")("{ nop 4; ldd,0 0, 8, %dr1 }").exit(1)
    code("second:").call("pause").exit(1)
    code("third:").call("getpid", result="%dr1").call("kill", "%dr1", 15).call("pause").exit(1)
    code("fourth:").call("fork", result="%dr20").branch("grandchild", "cmpesb %r20, 0")
    waited(code).exit(6)
    code("grandchild:").exit(7)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [11, 9, 15, 7 << 8, 6 << 8], done.stderr
    assert b"SIGSEGV" in done.stderr


def test_signals_from_other_programs_reach_it_by_its_pid(tmp_path: Path) -> None:
    code = companion(start().space("action", 32))
    waited(code.number("%dr20")).exit(0)
    code("child:").store("action", "handler").call("rt_sigaction", 10, "action", 0, 8).say("ready\n")
    code.call("pause").call("pause").exit(1)
    code.function("handler").say("signal\n").leave()
    command = [sys.executable, "-m", "e2kemu.run_cli", str(code.build(tmp_path))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = {process.stdout.readline(), process.stdout.readline()}
        assert b"ready\n" in first
        (pid,) = (int(line, 16) for line in first - {b"ready\n"})
        os.kill(pid, signal.SIGUSR1)
        assert process.stdout.readline() == b"signal\n"
        os.kill(pid, signal.SIGKILL)
        assert process.stdout.read() == b"%016x\n" % 9


def test_a_thread_without_clone_files_has_descriptors_of_its_own(tmp_path: Path) -> None:
    code = start().call("clone", VM | SIGHAND | THREAD | CLEARTID, STACK, 0, "cell", 0, result="%dr20")
    code.branch("child", "cmpesb %r20, 0")
    awaited(code, "cell", value=0).call("fcntl", 9, 1, 0, result="%dr1").number("%dr1").exit(0)
    code("child:").call("dup2", 1, 9).call("write", 9, code.text("thread\n"), 7).call("exit", 0)
    done = run(code.build(tmp_path))
    assert done.stdout.startswith(b"thread\n")
    assert numbers(done.stdout.removeprefix(b"thread\n")) == [MINUS], done.stderr
