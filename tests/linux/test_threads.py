"""Threads, futexes, child processes and exec, as real programs."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.cpu.vectors import DATA
from tests.linux.program import Code, numbers, run

THREAD = 0x3D0F00
"""What a thread library asks for: VM FS FILES SIGHAND THREAD SYSVSEM SETTLS PARENT_SETTID CHILD_CLEARTID."""
ANY = 0xFFFFFFFF


def start_thread(code: Code, name: str, body: str, tls: str | int = 0) -> Code:
    """Start a thread at ``body``; its tid word is ``name``_tid."""
    code.space(f"{name}_stack", 0x4000).space(f"{name}_tid", 16, 1)
    code.call("clone", THREAD, f"{name}_stack + 0x4000", f"{name}_tid", f"{name}_tid", tls)
    return code.branch(body, "cmpedb %dr16, 0")


def join_thread(code: Code, name: str) -> Code:
    """Wait until its tid word is zero."""
    again, done = code.label(), code.label()
    code(f"{again}:")(f"{{ nop 4; ldw,0 0, {name}_tid, %dr1 }}").branch(done, "cmpedb %dr1, 0")
    return code.call("futex", f"{name}_tid", 0, "%dr1", 0).goto(again)(f"{done}:")


def test_threads_share_memory_and_have_their_own_stacks_and_storage(tmp_path: Path) -> None:
    code = Code().space("sum", 16)
    start_thread(code, "one", "body", 0x1000)
    start_thread(code, "two", "body", 0x2000)
    join_thread(code, "one")
    join_thread(code, "two")
    code.load("sum", "%dr1").number("%dr1").load("sum + 8", "%dr1").number("%dr1").exit(0)
    code("body:")("addd,0 0, 0, %dr10")("{ getsp 0xffffffc0, %dr8 }")("std,2 %dg13, [ %dr8 + 0 ]")
    code("spin:")("addd,0 %dr10, 1, %dr10").branch("spun", "cmpedb %dr10, 20000").goto("spin")
    code("spun:")("{ nop 4; ldd,0 %dr8, 0, %dr11 }").load("sum", "%dr12")("addd,0 %dr12, %dr11, %dr12")
    code("std,2 %dr12, [ 0 + sum ]").load("sum + 8", "%dr12")("addd,0 %dr12, %dr10, %dr12")
    code("std,2 %dr12, [ 0 + sum + 8 ]").call("exit", 0)
    assert numbers(run(code.build(tmp_path)).stdout) == [0x3000, 40000]


def test_threads_take_turns_while_they_compute(tmp_path: Path) -> None:
    code = Code().space("flag", 8)
    start_thread(code, "one", "body")
    # no call in either loop: only the end of a time slice lets the other one run
    code("wait:").load("flag", "%dr1").branch("seen", "cmpedb %dr1, 1").goto("wait")
    code("seen:").store("flag", 2)
    join_thread(code, "one")
    code.exit(6)
    code("body:").store("flag", 1)("answer:").load("flag", "%dr1").branch("over", "cmpedb %dr1, 2").goto("answer")
    code("over:").call("exit", 0)
    assert run(code.build(tmp_path)).returncode == 6


def test_a_futex_wait_ends_by_its_value_its_time_or_a_wake_and_moves_to_another_word(tmp_path: Path) -> None:
    code = Code().space("word", 8, 5).space("other", 8).space("ts", 16, 0, 1_000_000).space("ready", 8)
    code.call("futex", "word", 0, 4, 0).number("%dr16").call("futex", "word", 0, 5, "ts").number("%dr16")
    start_thread(code, "one", "body")
    code("wait:").call("nanosleep", "ts", 0).load("ready", "%dr1").branch("asleep", "cmpedb %dr1, 1").goto("wait")
    code("asleep:").call("nanosleep", "ts", 0)
    # requeue: nobody is woken, one is moved; a wake of the old word wakes nobody
    code.call("futex", "word", 3, 0, 1, "other").number("%dr16").call("futex", "word", 1, 1).number("%dr16")
    code.call("futex", "other", 1, 1).number("%dr16")
    join_thread(code, "one")
    code.exit(0)
    code("body:").store("ready", 1).call("futex", "word", 0, 5, 0, result="%dr9").number("%dr9").call("exit", 0)
    values = numbers(run(code.build(tmp_path)).stdout)
    assert values == [(1 << 64) - 11, (1 << 64) - 110, 1, 0, 1, 0]


def test_a_dying_thread_releases_its_robust_locks(tmp_path: Path) -> None:
    # head: next, offset of the lock from the list entry, pending; the entry points back to the head
    code = Code().space("head", 24).space("entry", 16).space("lock", 8)
    code.store("entry", "head").store("head", "entry").store("head + 8", "lock - entry")
    start_thread(code, "one", "body")
    join_thread(code, "one")
    code("{ nop 4; ldw,0 0, lock, %dr1 }").number("%dr1").exit(0)
    code("body:").call("set_robust_list", "head", 24).number("%dr16").call("gettid", result="%dr9")
    code("stw,2 %r9, [ 0 + lock ]").call("exit", 0)
    assert numbers(run(code.build(tmp_path)).stdout) == [0, 0x40000000]


def test_a_signal_to_a_thread_runs_there(tmp_path: Path) -> None:
    code = Code().space("act", 32).space("seen", 8).space("ts", 16, 0, 1_000_000)
    code.store("act", "handler").store("act + 8", 4).call("rt_sigaction", 10, "act", 0, 8)
    start_thread(code, "one", "body")
    code("addd,0 0, %dr16, %dr8").call("getpid", result="%dr9").call("nanosleep", "ts", 0)
    code.call("tgkill", "%dr9", "%dr8", 10).number("%dr16")
    join_thread(code, "one")
    code.load("seen", "%dr1")("subd,0 %dr1, %dr8, %dr1").number("%dr1").exit(0)
    code.function("handler").call("gettid").store("seen", "%dr16").leave()
    code("body:").load("seen", "%dr1").branch("body", "cmpedb %dr1, 0").call("exit", 0)
    assert numbers(run(code.build(tmp_path)).stdout) == [0, 0]


def test_children_are_processes_with_a_copy_of_the_memory_and_are_waited_for(tmp_path: Path) -> None:
    code = Code().space("status", 8).space("value", 8, 1).space("fds", 8).space("buffer", 8)
    code.call("pipe2", "fds", 0)("{ nop 4; ldw,0 0, fds, %dr1; ldw,2 0, fds + 4, %dr2 }")
    code.call("fork", result="%dr8").branch("child", "cmpedb %dr8, 0")
    code.call("read", "%dr1", "buffer", 8).number("%dr16")
    code.call("wait4", ANY, "status", 0, 0)("subd,0 %dr16, %dr8, %dr16").number("%dr16")
    code("{ nop 4; ldw,0 0, status, %dr3 }").number("%dr3").load("value", "%dr3").number("%dr3")
    code.load("buffer", "%dr3").number("%dr3").call("wait4", ANY, "status", 0, 0).number("%dr16")
    code.call("fork", result="%dr8").branch("victim", "cmpedb %dr8, 0").call("kill", "%dr8", 9)
    code.call("wait4", "%dr8", "status", 0, 0)("{ nop 4; ldw,0 0, status, %dr3 }").number("%dr3").exit(0)
    code("child:").store("value", 2).call("write", "%dr2", "value", 8).exit(7)
    code("victim:").call("pause").exit(1)
    values = numbers(run(code.build(tmp_path)).stdout)
    assert values == [8, 0, 7 << 8, 1, 2, (1 << 64) - 10, 9]


def test_sigchld_tells_of_a_child(tmp_path: Path) -> None:
    code = Code().space("act", 32).space("chld", 8, 1 << 16).space("none", 8)
    code.store("act", "handler").store("act + 8", 4).call("rt_sigaction", 17, "act", 0, 8)
    code.call("rt_sigprocmask", 0, "chld", 0, 8).call("fork", result="%dr8").branch("child", "cmpedb %dr8, 0")
    code.call("rt_sigsuspend", "none", 8).exit(0)
    code("child:").exit(9)
    code.function("handler")("{ nop 4; ldw,0 %dr1, 24, %dr20; ldw,2 %dr1, 8, %dr21 }")
    code.number("%dr0").number("%dr20").number("%dr21").leave()
    assert numbers(run(code.build(tmp_path)).stdout) == [17, 9, 1]


def test_an_alarm_of_a_child_goes_off_whether_it_sleeps_or_computes(tmp_path: Path) -> None:
    code = Code().space("status", 8).space("it", 32, 0, 0, 0, 20_000)
    for body in ("sleeps", "computes"):
        code.call("fork", result="%dr8").branch(body, "cmpedb %dr8, 0").call("wait4", "%dr8", "status", 0, 0)
        code("{ nop 4; ldw,0 0, status, %dr3 }").number("%dr3")
    code.exit(0)
    code("sleeps:").call("setitimer", 0, "it", 0).call("pause").exit(1)
    code("computes:").call("setitimer", 0, "it", 0)("spin:").goto("spin")
    assert numbers(run(code.build(tmp_path)).stdout) == [14, 14]


def test_exec_replaces_the_program_and_keeps_the_process(tmp_path: Path) -> None:
    hello = tmp_path / "hello"
    hello.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    hello.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(f"#!{hello} -x\n")
    script.chmod(0o755)
    code = Code().space("argv", 16).store("argv", code_text := "argument")
    code.data.append('argument: .asciz "argument"')
    code.call("execve", code.text("/no/such"), "argv", 0).number("%dr16")
    code.call("execve", code.text("/bin/sh"), "argv", 0).number("%dr16")
    code.call("fork", result="%dr8").branch("child", "cmpedb %dr8, 0")
    code.space("status", 8).call("wait4", ANY, "status", 0, 0)("{ nop 4; ldw,0 0, status, %dr3 }").number("%dr3")
    code.call("execve", code.text(str(hello)), "argv", 0).exit(1)
    code("child:").call("execve", code.text(str(script)), "argv", 0).exit(1)
    done = run(code.build(tmp_path), options=("-strace",))
    greeting = b"hello from e2k\n"
    assert code_text in done.stderr.decode()
    assert done.returncode == 7
    assert done.stdout.count(greeting) == 2
    assert done.stdout.endswith(greeting)
    assert numbers(done.stdout.replace(greeting, b"")) == [(1 << 64) - 2, (1 << 64) - 8, 7 << 8]


def test_waitid_looks_first_and_takes_then(tmp_path: Path) -> None:
    """With WNOWAIT the child stays to be waited for; a group of its own is asked for by P_PGID."""
    code = Code().space("info", 128).space("usage", 144)
    code.call("fork", result="%dr20").branch("child", "cmpesb %r20, 0").call("setpgid", "%dr20", "%dr20")
    looks = ((1, "%dr20", 0x01000004), (2, "%dr20", 4), (1, "%dr20", 4), (0, 0, 5))
    for which, who, options in looks:
        code.call("waitid", which, who, "info", options, "usage", result="%dr21").number("%dr21")
        code("addd,0 0, info, %dr4")("{ nop 4; ldw,0 %dr4, 8, %dr1; ldw,2 %dr4, 24, %dr2; ldw,3 %dr4, 16, %dr3 }")
        code("subd,0 %dr3, %dr20, %dr3").number("%dr1").number("%dr2").number("%dr3")
    code.exit(0)("child:").call("nanosleep", "soon", 0).exit(9).space("soon", 16, 0, 50_000_000)
    done = run(code.build(tmp_path))
    gone = (1 << 64) - 10
    assert numbers(done.stdout) == [0, 1, 9, 0, 0, 1, 9, 0, gone, 1, 9, 0, gone, 1, 9, 0], done.stderr


def test_a_child_made_without_sigchld_is_waited_for_by_wclone_and_wall_only(tmp_path: Path) -> None:
    """Its end is told by the signal that clone was given, here SIGUSR1, and then by none."""
    code = Code().space("action", 32, 0).space("count", 8).store("action", "handler")
    code.call("rt_sigaction", 17, "action", 0, 8).call("rt_sigaction", 10, "action", 0, 8)
    for index, (exit_signal, option) in enumerate(((10, 0x80000000), (0, 0x40000000))):
        code.call("clone", exit_signal, 0, 0, 0, 0, result="%dr20").branch(f"child{index}", "cmpesb %r20, 0")
        for options in (0, option):
            code(f"again{index}{options}:").call("wait4", 0xFFFFFFFF, 0, options, 0, result="%dr21")
            code.branch(f"again{index}{options}", "cmpedb %dr21, -4")("subd,0 %dr21, %dr20, %dr22")
            code.number("%dr21" if not options else "%dr22")
    code.load("count", "%dr1").number("%dr1").exit(0)
    for index in range(2):
        code(f"child{index}:").exit(3)
    code.function("handler")("{ nop 4; ldd,0 0, count, %dr1 }")("shld,0 %dr1, 8, %dr1")("addd,0 %dr1, %dr0, %dr1")
    code("std,2 %dr1, [ 0 + count ]").leave()
    done = run(code.build(tmp_path))
    nobody = (1 << 64) - 10
    assert numbers(done.stdout) == [nobody, 0, nobody, 0, 10], done.stderr


def test_the_signal_of_a_childs_end_comes_before_wait_returns_and_once(tmp_path: Path) -> None:
    code = Code().space("action", 32, 0).space("count", 8).store("action", "handler")
    code.call("rt_sigaction", 17, "action", 0, 8)
    for index in range(20):
        code.call("fork", result="%dr20").branch("child", "cmpesb %r20, 0")
        code(f"again{index}:").call("wait4", "%dr20", 0, 0, 0, result="%dr21")
        code.branch(f"again{index}", "cmpedb %dr21, -4").load("count", "%dr1").number("%dr1")
    code.exit(0)("child:").exit(3)
    code.function("handler")("{ nop 4; ldd,0 0, count, %dr1 }")("addd,0 %dr1, 1, %dr1")("std,2 %dr1, [ 0 + count ]")
    code.leave()
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == list(range(1, 21)), done.stderr


@pytest.mark.parametrize("flags", ["ignored", "SA_NOCLDWAIT"])
def test_children_that_nobody_wants_to_hear_of_leave_nothing(flags: str, tmp_path: Path) -> None:
    """wait blocks until all have ended, and finds none."""
    code = Code().space("action", 32).space("count", 8).space("soon", 16, 0, 50_000_000)
    code.store("action", 1 if flags == "ignored" else "handler").store("action + 8", 0 if flags == "ignored" else 2)
    code.call("rt_sigaction", 17, "action", 0, 8)
    for name in ("first", "second"):
        code.call("fork", result="%dr20").branch(name, "cmpesb %r20, 0")
    code("again:").call("wait4", 0xFFFFFFFF, 0, 0, 0, result="%dr21").branch("again", "cmpedb %dr21, -4")
    code.number("%dr21").exit(0)
    code("first:").exit(3)("second:").call("nanosleep", "soon", 0).exit(4)
    code.function("handler").leave()
    assert numbers(run(code.build(tmp_path)).stdout) == [(1 << 64) - 10]
