"""vfork and clone with CLONE_VFORK: the child uses its parent's memory, and the parent stands still meanwhile."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.cpu.vectors import DATA
from tests.linux.program import Code, numbers, run

CLONE_VM, CLONE_VFORK, SIGCHLD = 0x100, 0x4000, 17
MINUS_ONE = 0xFFFFFFFF
EXECUTORS = ["reference", "interp", "jit"]


def waited(code: Code) -> Code:
    """Print the status of the child whose pid is in %dr20."""
    code.call("wait4", "%dr20", "status", 0, 0)("{ nop 4; ldw,0 0, status, %dr1 }")
    return code.number("%dr1")


def start() -> Code:
    return Code().space("status", 8).space("cell", 16, 5, 6).space("page", 8)


@pytest.mark.parametrize("accel", EXECUTORS)
@pytest.mark.parametrize("clone", [("vfork",), ("clone", CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)])
def test_the_parent_sees_what_the_child_stored_before_it_ended(clone: tuple[str | int, ...], accel: str, tmp_path: Path
                                                               ) -> None:
    code = start().store("cell", 1)
    code.call(*clone, result="%dr20").branch("child", "cmpesb %r20, 0")  # type: ignore[arg-type]
    code("{ nop 4; ldd,0 0, cell, %dr1 }").number("%dr1")
    code("{ nop 4; ldd,0 0, page, %dr2 }")("{ nop 4; ldd,0 %dr2, 0x1008, %dr1 }").number("%dr1")
    waited(code).exit(0)
    code("child:").call("nanosleep", "times", 0).store("cell", 77)
    code.call("mmap", 0, 0x3000, 3, 0x12, MINUS_ONE, 0, result="%dr5")("std,2 %dr5, [ 0 + page ]")
    code("addd,0 0, 99, %dr6")("std,2 %dr6, [ %dr5 + 0x1008 ]").exit(3)
    code.space("times", 16, 0, 50_000_000)
    done = run(code.build(tmp_path), options=("-accel", accel))
    assert (numbers(done.stdout), done.stderr) == ([77, 99, 0x300], b"")


@pytest.mark.parametrize("accel", EXECUTORS)
def test_the_parent_goes_on_when_the_child_executes_a_program(accel: str, tmp_path: Path) -> None:
    """As posix_spawn: what fails is told through the memory, what works is another process."""
    hello = tmp_path / "hello"
    hello.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    hello.chmod(0o755)
    code = start()
    path, missing = code.text(str(hello)), code.text("/no/such/program")
    code("addd,0 0, 0, %dr9")("again:")
    code.call("vfork", result="%dr20").branch("child", "cmpesb %r20, 0")
    waited(code)("{ nop 4; ldd,0 0, cell, %dr1 }").number("%dr1")
    code.store("cell", "path").branch("over", "cmpesb %r9, 1")("addd,0 0, 1, %dr9").goto("again")
    code("over:").exit(0)
    code("child:").branch("second", "cmpesb %r9, 1")
    code.call("execve", missing, "argv", 0).store("cell", "%dr16").exit(127)
    code("second:").call("execve", path, "argv", 0).exit(126)
    code.space("argv", 16).space("path", 8)
    done = run(code.build(tmp_path), options=("-accel", accel))
    printed = numbers(done.stdout.replace(b"hello from e2k\n", b""))
    assert printed[:2] == [127 << 8, (1 << 64) - 2], done.stderr
    assert printed[2] == 7 << 8
    assert b"hello from e2k" in done.stdout


def test_registers_and_hardware_stacks_stay_the_parents_own(tmp_path: Path) -> None:
    """The child calls deeply enough to spill its windows."""
    code = start()
    code("addd,0 0, 1234, %dr10").invoke("outer", 40).number("%dr16").number("%dr10").exit(0)
    code.function("outer")("addd,0 0, %dr0, %dr7").branch("bottom", "cmpesb %r7, 0")
    code("subd,0 %dr7, 1, %dr6").invoke("outer", "%dr6", result="%dr5")("addd,0 %dr5, %dr7, %dr5").leave("%dr5")
    code("bottom:").call("vfork", result="%dr20").branch("child", "cmpesb %r20, 0")
    waited(code).leave(0)
    code("child:").invoke("deep", 200, result="%dr3").store("cell", "%dr3").exit(5)
    code.function("deep")("addd,0 0, %dr0, %dr7").branch("deepest", "cmpesb %r7, 0")
    code("subd,0 %dr7, 1, %dr6").invoke("deep", "%dr6", result="%dr5")("addd,0 %dr5, 1, %dr5").leave("%dr5")
    code("deepest:").leave(0)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [5 << 8, 40 * 41 // 2, 1234], done.stderr


def test_a_child_that_is_killed_lets_its_parent_go_on(tmp_path: Path) -> None:
    code = start()
    code.call("vfork", result="%dr20").branch("child", "cmpesb %r20, 0")
    waited(code).exit(0)
    code("child:").call("getpid", result="%dr1").call("kill", "%dr1", 9).exit(5)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [9], done.stderr


def test_clone_vfork_without_the_memory_only_waits(tmp_path: Path) -> None:
    code = start().store("cell", 1)
    code.call("clone", CLONE_VFORK | SIGCHLD, 0, 0, 0, 0, result="%dr20").branch("child", "cmpesb %r20, 0")
    code("{ nop 4; ldd,0 0, cell, %dr1 }").number("%dr1")
    waited(code).exit(0)
    code("child:").call("nanosleep", "times", 0).say("child\n").store("cell", 77).exit(3)
    code.space("times", 16, 0, 50_000_000)
    done = run(code.build(tmp_path))
    assert done.stdout.startswith(b"child\n")
    assert numbers(done.stdout.removeprefix(b"child\n")) == [1, 0x300], done.stderr


def test_a_fork_in_a_vfork_child_is_an_ordinary_one(tmp_path: Path) -> None:
    code = start().store("cell", 1)
    code.call("vfork", result="%dr20").branch("child", "cmpesb %r20, 0")
    code("{ nop 4; ldd,0 0, cell, %dr1 }").number("%dr1")
    waited(code).exit(0)
    code("child:").call("fork", result="%dr20").branch("grandchild", "cmpesb %r20, 0").store("cell", 2)
    code.call("wait4", "%dr20", 0, 0, 0).exit(3)
    code("grandchild:").store("cell", 77).exit(4)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [2, 0x300], done.stderr


def test_a_vfork_in_a_vfork_child_reaches_the_first_parent(tmp_path: Path) -> None:
    code = start().store("cell", 1)
    code.call("vfork", result="%dr20").branch("child", "cmpesb %r20, 0")
    code("{ nop 4; ldd,0 0, cell, %dr1 }").number("%dr1")
    waited(code).exit(0)
    code("child:").call("vfork", result="%dr20").branch("grandchild", "cmpesb %r20, 0")
    code.call("wait4", "%dr20", 0, 0, 0).exit(3)
    code("grandchild:").store("cell", 77).exit(4)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [77, 0x300], done.stderr
