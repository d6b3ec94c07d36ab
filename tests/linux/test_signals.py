"""Signals: handlers on all three stacks, what comes back, restarted calls, alternate stacks, masks, timers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2kemu.linux import frames
from e2kemu.linux.siginfo import FAULTS, SIZE, SigInfo
from tests.framework import forked
from tests.linux.program import Code, numbers, run

EINTR = (1 << 64) - 4
SIGINFO, ONSTACK, RESTART, RESETHAND = 4, 0x08000000, 0x10000000, 0x80000000


def handle(code: Code, signo: int, flags: int = SIGINFO, handler: str = "handler", mask: int = 0) -> Code:
    """Install a handler."""
    name = f"act{signo}"
    code.space(name, 32)
    code.store(name, handler).store(f"{name} + 8", flags).store(f"{name} + 24", mask)
    return code.call("rt_sigaction", signo, name, 0, 8)


def send(code: Code, signo: int) -> Code:
    """Send a signal to the program itself."""
    return code.call("getpid", result="%dr29").call("kill", "%dr29", signo)


def test_a_handler_runs_and_everything_of_the_interrupted_window_comes_back(tmp_path: Path) -> None:
    code = handle(Code(), 10)
    code("addd,0 0, 0x55, %dg20")("addd,0 0, 0x66, %dr5")("{ nop 2; cmpedb,0 0, 0, %pred7 }")
    send(code, 10)
    code.number("%dg20").number("%dr5")("addd,0 0, 1, %dr6")("addd,0 0, 2, %dr6 ? %pred7").number("%dr6")
    code("{ getsp 0, %dr7 }").number("%dr7").exit(5)
    code.function("handler")("addd,0 0, %dr0, %dr20")("{ nop 4; ldw,0 %dr1, 0, %dr21; ldw,2 %dr1, 16, %dr22 }")
    code.number("%dr20").number("%dr21")("addd,0 0, 0x77, %dg20")("{ nop 2; cmpedb,0 0, 1, %pred7 }")
    code("{ getsp 0, %dr7 }").number("%dr7").leave()
    done = run(code.build(tmp_path))
    signo, from_info, handler_sp, kept_global, kept_local, predicate, sp = numbers(done.stdout)
    assert (done.returncode, signo, from_info) == (5, 10, 10)
    assert (kept_global, kept_local, predicate) == (0x55, 0x66, 2)
    assert sp - handler_sp == frames.layout(8).size + -frames.layout(8).size % 16


def test_a_fault_reaches_its_handler_with_its_address_on_the_alternate_stack(tmp_path: Path) -> None:
    code = Code().space("ss", 24).space("alt", 0x4000)
    code.store("ss", "alt").store("ss + 16", 0x4000).call("sigaltstack", "ss", 0)
    handle(code, 11, SIGINFO | ONSTACK)
    code.load("0x123458", "%dr1").exit(3)
    code.function("handler")("addd,0 0, %dr1, %dr21")("addd,0 0, %dr2, %dr22")
    code("{ nop 4; ldd,0 %dr21, 16, %dr23; ldw,2 %dr21, 8, %dr24 }").number("%dr23").number("%dr24")
    code("{ getsp 0, %dr24 }")("subd,0 %dr24, alt, %dr24").number("%dr24")
    # the handler chooses where the program goes on: CR0.hi in uc_mcontext
    code("addd,0 0, after, %dr24")("std,2 %dr24, [ %dr22 + 48 ]").leave()
    code("after:").say("after\n").exit(4)
    done = run(code.build(tmp_path))
    address, si_code, offset = numbers(done.stdout.replace(b"after\n", b""))
    assert (done.returncode, address, si_code) == (4, 0x123458, 1)
    assert 0 < offset < 0x4000
    assert done.stdout.endswith(b"after\n")


@pytest.mark.parametrize(("flags", "result"), [(SIGINFO | RESTART, 8), (SIGINFO, EINTR)])
def test_a_sleeping_call_goes_on_after_a_handler_or_is_interrupted(flags: int, result: int, tmp_path: Path) -> None:
    # again and again: the first alarm may come before the call sleeps
    code = Code().space("fds", 16).space("buffer", 16).space("it", 32, 0, 30_000, 0, 30_000)
    handle(code, 14, flags).call("pipe2", "fds", 0).call("setitimer", 0, "it", 0)
    code("{ nop 4; ldw,0 0, fds, %dr1 }").call("read", "%dr1", "buffer", 8).number("%dr16").exit(0)
    code.function("handler")
    if flags & RESTART:
        code("{ nop 4; ldw,0 0, fds + 4, %dr1 }").call("write", "%dr1", "buffer", 8)
    done = run(code.leave().build(tmp_path))
    assert numbers(done.stdout) == [result], done.stderr


def test_blocked_signals_wait_and_come_in_order_one_of_a_kind_below_32(tmp_path: Path) -> None:
    code = Code().space("all", 8, (1 << 64) - 1).space("none", 8).space("set", 8)
    for signo in (10, 12, 34):
        handle(code, signo)
    code.call("rt_sigprocmask", 0, "all", 0, 8)
    for signo in (34, 34, 12, 10, 10):
        send(code, signo)
    code.call("rt_sigpending", "set", 8).load("set", "%dr1").number("%dr1").say("now\n")
    code.call("rt_sigprocmask", 2, "none", 0, 8).exit(0)
    code.function("handler").number("%dr0").leave()
    before, after = run(code.build(tmp_path)).stdout.split(b"now\n")
    assert numbers(before) == [1 << 9 | 1 << 11 | 1 << 33]
    # each is put on top of the one before: the last one's handler runs first
    assert numbers(after) == [34, 34, 12, 10]


def test_sigsuspend_waits_for_a_handler_and_brings_the_mask_back(tmp_path: Path) -> None:
    code = Code().space("usr1", 8, 1 << 9).space("none", 8).space("old", 8)
    handle(code, 10).call("rt_sigprocmask", 0, "usr1", 0, 8)
    send(code, 10).say("blocked\n").call("rt_sigsuspend", "none", 8).number("%dr16")
    code.call("rt_sigprocmask", 0, 0, "old", 8).load("old", "%dr1").number("%dr1").exit(0)
    code.function("handler").say("handler\n").leave()
    done = run(code.build(tmp_path))
    text = done.stdout.replace(b"blocked\nhandler\n", b"")
    assert len(text) < len(done.stdout)
    assert numbers(text) == [EINTR, 1 << 9]


def test_a_signal_is_waited_for_and_taken_without_a_handler(tmp_path: Path) -> None:
    code = Code().space("usr1", 8, 1 << 9).space("info", 128).space("short", 16, 0, 1000)
    code.call("rt_sigprocmask", 0, "usr1", 0, 8)
    code.call("rt_sigtimedwait", "usr1", 0, "short", 8).number("%dr16")
    send(code, 10).call("rt_sigtimedwait", "usr1", "info", 0, 8).number("%dr16")
    code("{ nop 4; ldw,0 0, info, %dr1 }").number("%dr1").exit(0)
    assert numbers(run(code.build(tmp_path)).stdout) == [(1 << 64) - 11, 10, 10]


def test_a_broken_pipe_kills_or_fails(tmp_path: Path) -> None:
    code = Code().space("fds", 16).call("pipe2", "fds", 0)
    code("{ nop 4; ldw,0 0, fds, %dr1; ldw,2 0, fds + 4, %dr2 }").call("close", "%dr1")
    handle(code, 13, handler="1").call("write", "%dr2", "fds", 1).number("%dr16")
    handle(code, 13, handler="0").call("write", "%dr2", "fds", 1).exit(1)
    code.data = [line for index, line in enumerate(code.data) if line not in code.data[:index] or "act13" not in line]
    done = run(code.build(tmp_path))
    assert (done.returncode, numbers(done.stdout)) == (128 + 13, [(1 << 64) - 32])


def test_an_alarm_ends_a_program_that_computes(tmp_path: Path) -> None:
    code = Code().space("it", 32, 0, 0, 0, 50_000).call("setitimer", 0, "it", 0)
    code("spin:").goto("spin")
    assert run(code.build(tmp_path)).returncode == 128 + 14


def test_signals_of_the_host_are_the_programs(tmp_path: Path) -> None:
    code = handle(Code().space("usr1", 8, 1 << 9).space("none", 8), 10).call("rt_sigprocmask", 0, "usr1", 0, 8)
    code.say("ready\n").call("rt_sigsuspend", "none", 8).number("%dr16").call("pause").exit(1)
    code.function("handler").say("usr1\n").leave()
    program = code.build(tmp_path)
    with forked.Popen([sys.executable, "-m", "e2kemu.run_cli", str(program)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"usr1\n"
        assert numbers(process.stdout.readline()) == [EINTR]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + 15


def test_a_stopped_program_stops_the_emulator_and_goes_on(tmp_path: Path) -> None:
    code = send(Code().say("before\n"), 19).say("after\n").exit(2)
    program = code.build(tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "e2kemu.run_cli", str(program)], stdout=subprocess.PIPE)
    pid, status = os.waitpid(process.pid, os.WUNTRACED)
    assert (pid, os.WIFSTOPPED(status)) == (process.pid, True)
    for _ in range(3):
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.02)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, b"before\nafter\n")


@pytest.mark.parametrize("accel", ["jit", "interp", "reference"])
def test_a_handler_that_is_not_at_a_wide_instruction_raises_sigill(accel: str, tmp_path: Path) -> None:
    code = send(handle(Code(), 10, handler="handler + 4"), 10).exit(1)
    code.function("handler").leave()
    done = run(code.build(tmp_path), options=("-accel", accel))
    assert done.returncode == 128 + 4
    assert b"exc_illegal_instr_addr" in done.stderr


def test_what_a_handler_writes_into_the_low_bits_of_cr0_is_not_kept(tmp_path: Path) -> None:
    code = send(handle(Code(), 10), 10).exit(1)
    code.function("handler")("addd,0 0, after, %dr5")("addd,0 %dr5, 5, %dr5")("std,2 %dr5, [ %dr2 + 48 ]").leave()
    code(".align 8")("after:").exit(4)
    assert run(code.build(tmp_path)).returncode == 4


def test_handlers_nest_on_both_stacks_and_everything_comes_back(tmp_path: Path) -> None:
    code = Code().space("depth", 8).space("ss", 24).space("alt", 0x4000)
    code.store("ss", "alt").store("ss + 16", 0x4000).call("sigaltstack", "ss", 0)
    handle(handle(code, 10, SIGINFO | 0x40000000, "nest"), 12, SIGINFO | ONSTACK, "bottom")
    code("addd,0 0, 0x77, %dg18")
    send(code, 10).number("%dg18").load("depth", "%dr1").number("%dr1").exit(0)
    code.function("nest").load("depth", "%dr5")("addd,0 %dr5, 1, %dr5")("std,2 %dr5, [ 0 + depth ]")
    code("addd,0 0, %dr5, %dg18").branch("deepest", "cmpedb %dr5, 20")
    send(code, 10).leave()
    send(code("deepest:"), 12).leave()
    # the alternate stack cannot be changed while it is in use
    code.function("bottom").call("sigaltstack", "ss", 0).number("%dr16").leave()
    assert numbers(run(code.build(tmp_path)).stdout) == [(1 << 64) - 1, 0x77, 20]


@pytest.mark.parametrize(("what", "output", "status"), [
    ("{ getsp 0xffff0000, %dr1 }", b"handler\n", 7),
    ("addd,0 0, 0, %dr1", b"", 128 + 11),
])
def test_a_full_user_stack_reaches_its_handler_and_full_hardware_stacks_kill(what: str, output: bytes, status: int,
                                                                           tmp_path: Path) -> None:
    """The alternate stack is one for data: hardware stacks have none, and a handler's frame would have to go there."""
    code = Code().space("ss", 24).space("alt", 0x4000)
    code.store("ss", "alt").store("ss + 16", 0x4000).call("sigaltstack", "ss", 0)
    handle(code, 11, SIGINFO | ONSTACK).invoke("endless").exit(0)
    code.function("endless")(what).invoke("endless").leave()
    code.function("handler").say("handler\n").exit(7)
    done = run(code.build(tmp_path))
    assert (done.stdout, done.returncode) == (output, status)
    assert (b"procedure stack overflow" in done.stderr) == (status != 7)


def test_every_exception_of_the_cpu_has_a_signal_and_a_frame_has_its_layout() -> None:
    assert len(FAULTS) >= 25
    assert all(4 <= signo <= 11 for signo, _ in FAULTS.values())
    wide, narrow = frames.layout(8), frames.layout(4)
    # offsets of uapi/asm/ucontext.h: 40 bytes before sigcontext (24 with 4-byte pointers), which has 1576 bytes
    assert (wide.context - SIZE, narrow.context - SIZE) == (40, 24)
    assert wide.mask - wide.context == narrow.mask - narrow.context == 1576
    assert wide.extra - wide.mask == 128
    assert SigInfo(11, 1, "fault", (0x1234, 29)).pack(8)[16:24] == (0x1234).to_bytes(8, "little")
    assert SigInfo(17, 1, "child", (5, 6, 7)).pack(4)[16:28] == b"\5\0\0\0\6\0\0\0\7\0\0\0"
