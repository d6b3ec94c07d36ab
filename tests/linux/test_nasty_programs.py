"""Programs that do several hard things at once: signals in loops with arrays and rotation, threads that fight for
locks, jumps out of handlers, stacks of every kind, code that changes."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest

from e2kemu.linux import frames
from e2kemu.linux.siginfo import SIZE as INFO_SIZE
from tests.cpu.vectors import DATA
from tests.linux.image import Image, machine_code
from tests.linux.program import Code, numbers, run
from tests.linux.test_signals import ONSTACK, RESTART, SIGINFO, handle, send

THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x100000 | 0x200000
"""CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _PARENT_SETTID, _CHILD_CLEARTID."""
CR0_HI = frames.layout(8).context - INFO_SIZE + 8
"""Where the interrupted address is in ucontext."""
SIGSEGV, SIGALRM, NODEFER = 11, 14, 0x40000000


def raw(code: Code, text: str) -> Code:
    """Lines as they are."""
    code.lines.extend(text.splitlines())
    return code


def add(code: Code, cell: str, operand: str | int) -> Code:
    """Add to a variable."""
    return code(f"{{ nop 4; ldd,0 0, {cell}, %dr30 }}")(f"addd,0 %dr30, {operand}, %dr30")(
        f"std,2 %dr30, [ 0 + {cell} ]")


def ticking(code: Code, microseconds: int) -> Code:
    """SIGALRM again and again, to "handler"."""
    handle(code, SIGALRM, SIGINFO | RESTART)
    return code.space("timer", 32, 0, microseconds, 0, microseconds).call("setitimer", 0, "timer", 0)


def recursive(code: Code) -> Code:
    """The function "deep": the sum of the numbers up to its argument, a call for each."""
    code.function("deep")("addd,0 0, %dr0, %dr7").branch("deepest", "cmpesb %r7, 0")("subd,0 %dr7, 1, %dr6")
    code.invoke("deep", "%dr6", result="%dr5")("addd,0 %dr5, %dr7, %dr5").leave("%dr5")
    return code("deepest:").leave(0)


def thread(code: Code, number: int, target: str) -> Code:
    """Begin thread ``number``, which goes to ``target``."""
    code.space(f"stack{number}", 0x8000).space(f"tid{number}", 16)
    code.call("clone", THREAD, f"stack{number}+0x8000", f"tid{number}", f"tid{number}", 0, result="%dr20")
    return code.branch(target, "cmpesb %r20, 0")


def joined(code: Code, number: int) -> Code:
    """Wait for its end."""
    again, over = f"join{number}", f"joined{number}"
    code(f"{again}:")(f"{{ nop 4; ldw,0 0, tid{number}, %dr1 }}").branch(over, "cmpesb %r1, 0")
    return code.call("futex", f"tid{number}", 0, "%dr1", 0, 0, 0).goto(again)(f"{over}:")


def array_sum(code: Code, name: str, table: str) -> Code:
    """A function: the sum of 64 doubles, read by an array prefetch program."""
    raw(code.function(name), f"""
{{ ldisp %ctpr2, {name}_program }}
{{ disp %ctpr1, {name}_turn
  addd,0 0, {table}, %dr1
  addd,1 0, 0, %dr10
  addd,2 0, 0, %dr11 }}
{{ nop 7
  rwd,0 (1 << 37) | 64, %lsr }}
{{ nop 4
  aaurwd,2 %dr1, %aad0 }}
{{ bap }}
{name}_turn:
{{ alc alcf=1, alct=1
  ct %ctpr1 ? %NOT_LOOP_END
  addd,0 %dr10, %dr11, %dr10
  movad,0 area=0, ind=0, am=1, be=0, %r11 }}
{{ eap }}
{{ addd,0 %dr10, %dr11, %dr10 }}""").leave("%dr10")
    return raw(code, f"""    .align 8
{name}_program:
{{ fapb ct=1, dcd=0, fmt=4, mrng=8, d=0, incr=0, ind=0, asz=5, abs=0, disp=0 }}""")


def pipeline(code: Code, name: str, source: str, target: str) -> Code:
    """A function: a loop of three stages, with rotation of %b and predicates, multiplies by 3; the sum of three."""
    raw(code.function(name), f"""
{{ setbn rbs=16, rsz=3, rcur=0
  setbp psz=3
  disp %ctpr2, {name}_turn
  addd,0 0, {source}, %dr1
  addd,1 0, {target}, %dr2 }}
{{ nop 7
  rwd,0 (1 << 53) | (2 << 48) | (1 << 37) | (2 << 32) | 20, %lsr }}
{{ addd,0 0, 0, %db[0]
  addd,1 0, 0, %db[2]
  addd,2 0, 0, %db[4]
  addd,3 0, 0, %db[6] }}
{name}_turn:
{{ loop_mode
  alc alcf=1, alct=1
  abn abnf=1, abnt=1
  abp abpf=1, abpt=1
  ct %ctpr2 ? %NOT_LOOP_END
  ldd,0,sm [ %dr1 + 0 ], %db[0]
  addd,1 %dr1, 8, %dr1
  std,2 %db[4], [ %dr2 + 0 ]
  muld,4,sm %db[2], 3, %db[2]
  addd,3 %dr2, 8, %dr2 ? %pcnt0 }}
{{ nop 4
  addd,0 0, {target}, %dr2 }}
{{ nop 4
  ldd,0 [ %dr2 + 0 ], %dr3
  ldd,2 [ %dr2 + 72 ], %dr4
  ldd,3 [ %dr2 + 144 ], %dr5 }}
{{ addd,0 %dr3, %dr4, %dr3 }}
{{ addd,0 %dr3, %dr5, %dr3 }}""")
    return code.leave("%dr3")


@pytest.mark.parametrize(("accel", "rounds"), [("jit", 3000), ("reference", 40)])
def test_signals_interrupt_loops_with_arrays_and_rotation_whose_handlers_have_such_loops(
        accel: str, rounds: int, tmp_path: Path) -> None:
    first, second = [n * n + 7 for n in range(64)], [5 * n + 1 for n in range(64)]
    code = ticking(Code().space("good", 8).space("bad", 8).space("outer", 256).space("inner", 256), 500)
    code.space("first", 576, *first).space("second", 576, *second)
    code(f"addd,0 0, {rounds}, %dr20")("addd,0 0, 0, %dr21")("{ nop 2; cmpedb,0 0, 0, %pred9 }")("again:")
    for function in ("sum", "pipe"):
        code.invoke(function, result="%dr22")("addd,0 %dr21, %dr22, %dr21")
    code("subd,0 %dr20, 1, %dr20").branch("over", "cmpesb %r20, 0").goto("again")
    code("over:")("addd,0 0, 0, %dr6")("addd,0 0, 1, %dr6 ? %pred9").number("%dr6").number("%dr21")
    code.load("bad", "%dr1").number("%dr1").load("good", "%dr1").number("%dr1").exit(0)
    pipeline(array_sum(code, "sum", "first"), "pipe", "first", "outer")
    pipeline(array_sum(code, "sum2", "second"), "pipe2", "second", "inner")
    code.function("handler").invoke("sum2", result="%dr5").invoke("pipe2", result="%dr6")
    code("{ addd,0 %dr5, %dr6, %dr5; cmpedb,1 0, 1, %pred9 }")
    code.branch("fine", f"cmpedb %dr5, {sum(second) + 3 * (second[0] + second[9] + second[18])}")
    add(code, "bad", 1).leave()
    add(code("fine:"), "good", 1).leave()
    kept, total, bad, good = numbers(run(code.build(tmp_path), options=("-accel", accel)).stdout)
    assert (kept, total, bad) == (1, rounds * (sum(first) + 3 * (first[0] + first[9] + first[18])), 0)
    assert good > 0


@pytest.mark.parametrize(("accel", "turns"), [("jit", 5000), ("reference", 100)])
def test_threads_that_fight_for_a_lock_lose_no_update(accel: str, turns: int, tmp_path: Path) -> None:
    code = Code().space("atom", 8).space("plain", 8).space("mutex", 8)
    for number in range(4):
        thread(code, number, "work")
    for number in range(4):
        joined(code, number)
    code.load("atom", "%dr1").number("%dr1").load("plain", "%dr1").number("%dr1").exit(0)
    code("work:").invoke("worker", turns).call("exit", 0)
    raw(code.function("worker")("addd,0 0, %dr0, %dr20"), """
turn:
{ addd,0 0, atom, %dr8 }
bump:
{ nop 4
  ldd,0 [ %dr8 + 0 ], %dr9, mas=7 }
{ addd,0 %dr9, 1, %dr9 }
{ std,2 %dr9, [ %dr8 + 0 ], mas=2
  ibranch bump ? %MLOCK }
{ addd,0 0, mutex, %dr8
  addd,1 0, 1, %dr12 }
lock:
{ nop 4
  ldw,0 [ %dr8 + 0 ], %dr9, mas=7 }
{ nop 2
  cmpesb,0 %r9, 0, %pred1
  addd,1 0, %dr12, %dr10 }
{ addd,0 0, 2, %dr10 ? ~%pred1 }
{ stw,2 %r10, [ %dr8 + 0 ], mas=2
  ibranch lock ? %MLOCK }
{ ibranch locked ? %pred1 }""")
    code.call("futex", "mutex", 0, 2, 0, 0, 0)("addd,0 0, mutex, %dr8")("addd,0 0, 2, %dr12").goto("lock")
    raw(add(code("locked:"), "plain", 1), """
{ addd,0 0, mutex, %dr8
  addd,1 0, 0, %dr10 }
unlock:
{ nop 4
  ldw,0 [ %dr8 + 0 ], %dr9, mas=7 }
{ stw,2 %r10, [ %dr8 + 0 ], mas=2
  ibranch unlock ? %MLOCK }
{ nop 2
  cmpesb,0 %r9, 2, %pred1 }
{ ibranch next ? ~%pred1 }""")
    code.call("futex", "mutex", 1, 1, 0, 0, 0)("next:")("subd,0 %dr20, 1, %dr20")
    code.branch("end", "cmpesb %r20, 0").goto("turn")("end:").leave()
    done = run(code.build(tmp_path), options=("-accel", accel))
    assert numbers(done.stdout) == [4 * turns, 4 * turns], done.stderr


def test_a_long_jump_out_of_a_handler_leaves_the_alternate_stack(tmp_path: Path) -> None:
    code = Code().space("env", 64).space("ss", 24).space("alt", 0x8000).space("count", 8)
    code.store("ss", "alt").store("ss + 16", 0x8000).call("sigaltstack", "ss", 0)
    handle(code, SIGSEGV, SIGINFO | ONSTACK)
    code.invoke("setjmp", "env", result="%dr21")
    add(code, "count", 1).branch("done", "cmpedb %dr30, 6").invoke("bad", 8).exit(1)
    code("done:").number("%dr30").call("sigaltstack", 0, "ss").load("ss + 8", "%dr1")("andd,0 %dr1, 3, %dr1")
    code.number("%dr1").exit(6)
    code.function("bad").branch("now", "cmpedb %dr0, 0")("subd,0 %dr0, 1, %dr1").invoke("bad", "%dr1").leave()
    code("now:").load("0x20", "%dr1").leave()
    code.function("handler").call("e2k_longjmp2", "env", 1).exit(2)
    code(".align 8")("setjmp:")("{ setwd wsz=8, nfx=1; setbn rbs=4, rsz=3, rcur=0 }")
    for register, local in (("cr0.hi", 1), ("cr1.lo", 2), ("pcsp.lo", 3), ("pcsp.hi", 4), ("cr1.hi", 5), ("wd", 7)):
        code(f"{{ nop 4; rrd %{register}, %dr{local} }}")
    code("{ nop 4; rrs %pcshtp, %r8 }")("addd,0 0, 0x100, %dr6")         # the mask that says that there is one
    for offset, local in ((0, 6), (8, 1), (16, 2), (24, 3), (32, 4), (48, 6), (56, 7)):
        code(f"std,2 %dr{local}, [ %dr0 + {offset} ]")
    code("stw,2 %r8, [ %dr0 + 40 ]")("stw,2 %r5, [ %dr0 + 44 ]")("stw,2 %r6, [ %dr0 + 56 ]").leave(0)
    done = run(code.build(tmp_path))
    assert (done.returncode, numbers(done.stdout)) == (6, [6, 0]), done.stderr


def test_signals_come_in_deep_recursion_and_while_contexts_switch(tmp_path: Path) -> None:
    code = Code().space("main", 1400).space("co", 1400).space("stack", 0x8000).space("count", 8)
    code.space("args", 64).space("seen", 8)
    code.store("co + 16", "stack").store("co + 32", 0x8000).store("co + 8", "main")
    ticking(code.call("makecontext", "co", "helper", 40, "args", 8), 3000)
    code.invoke("deep", 3000).number("%dr16")("addd,0 0, 200, %dr20")("addd,0 0, 0, %dr21")
    code("again:").invoke("swap", "main", "co").invoke("deep", 30, result="%dr5")("addd,0 %dr21, %dr5, %dr21")
    code("subd,0 %dr20, 1, %dr20").branch("over", "cmpesb %r20, 0").goto("again")
    code("over:").number("%dr21").load("count", "%dr1").number("%dr1").load("seen", "%dr1").number("%dr1").exit(0)
    code.function("swap")("addd,0 0, %dr0, %dr20")("addd,0 0, %dr1, %dr21")
    code.call("swapcontext", "%dr20", "%dr21", 8).leave()
    add(code.function("helper")("more:").invoke("deep", 20, result="%dr5"), "count", "%dr5")
    code.invoke("swap", "co", "main").goto("more")
    add(code.function("handler").invoke("deep", 40, result="%dr5"), "seen", 1).leave()
    deep, total, count, seen = numbers(run(recursive(code).build(tmp_path)).stdout)
    assert (deep, total, count) == (3000 * 3001 // 2, 200 * 30 * 31 // 2, 200 * 20 * 21 // 2)
    assert seen > 0


def test_threads_fault_on_alternate_stacks_of_their_own_and_handlers_skip_the_instruction(tmp_path: Path) -> None:
    code = handle(Code().space("count", 8), SIGSEGV, SIGINFO | ONSTACK)
    for number in (1, 2):
        code.space(f"ss{number}", 24).space(f"alt{number}", 0x4000)
        code.store(f"ss{number}", f"alt{number}").store(f"ss{number} + 16", 0x4000)
        thread(code, number, f"work{number}")
    joined(joined(code, 1), 2).load("count", "%dr1").number("%dr1").exit(0)
    for number in (1, 2):
        code(f"work{number}:").call("sigaltstack", f"ss{number}", 0)("addd,0 0, 40, %dr20")
        code(f"turn{number}:")("{ nop 4; ldd,0 0, 16, %dr9 }").call("sched_yield")("subd,0 %dr20, 1, %dr20")
        code.branch(f"end{number}", "cmpesb %r20, 0").goto(f"turn{number}")(f"end{number}:").call("exit", 0)
    # the length of a wide instruction is in bits 6:4 of its first word, in double words
    code.function("handler")(f"{{ nop 4; ldd,0 %dr2, {CR0_HI}, %dr5 }}")("{ nop 4; ldw,0 %dr5, 0, %dr6 }")
    code("shrd,0 %dr6, 4, %dr6")("andd,0 %dr6, 7, %dr6")("addd,0 %dr6, 1, %dr6")("shld,0 %dr6, 3, %dr6")
    code("addd,0 %dr5, %dr6, %dr5")(f"std,2 %dr5, [ %dr2 + {CR0_HI} ]").call("sched_yield")
    add(code, "count", 1).leave()
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [80], done.stderr


def test_a_handler_gives_pages_back_and_the_store_is_done_again(tmp_path: Path) -> None:
    code = handle(Code().space("count", 8), SIGSEGV)
    code.call("mmap", 0, 0x10000, 0, 0x12, 0xFFFFFFFF, 0, result="%dr20")("addd,0 0, 0, %dr21")("addd,0 0, 0, %dr22")
    code("again:")("std,2 %dr21, [ %dr20 + %dr21 ]")("{ nop 4; ldd,0 %dr20, %dr21, %dr1 }")
    code("addd,0 %dr22, %dr1, %dr22")("addd,0 %dr21, 0x100, %dr21").branch("over", "cmpedb %dr21, 0x10000")
    code.goto("again")("over:").number("%dr22").load("count", "%dr1").number("%dr1")
    code.call("mprotect", "%dr20", 0x10000, 1).call("mprotect", "%dr20", 0x1000, 3)
    code("addd,0 0, _f64 0x1122334455667788, %dr5")("std,2 %dr5, [ %dr20 + 0xffc ]")     # half of it is forbidden
    code("{ nop 4; ldd,0 %dr20, 0xffc, %dr1 }").number("%dr1").load("count", "%dr1").number("%dr1").exit(0)
    code.function("handler")("{ nop 4; ldd,0 %dr1, 16, %dr20 }")("andd,0 %dr20, ~0xfff, %dr20")
    add(code.call("mprotect", "%dr20", 0x1000, 3), "count", 1).leave()
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [sum(range(0, 0x10000, 0x100)), 16, 0x1122334455667788, 17], done.stderr


def test_code_that_is_written_anew_each_time_is_executed_as_it_is(tmp_path: Path) -> None:
    code = Code().call("mmap", 0, 0x2000, 7, 0x12, 0xFFFFFFFF, 0, result="%dr20")
    code("addd,0 0, 0, %dr21")("addd,0 0, 0, %dr23")("again:")
    for offset in range(0, 64, 8):
        code(f"{{ nop 4; ldd,0 0, template + {offset}, %dr1 }}")(f"std,2 %dr1, [ %dr20 + {offset} ]")
    code("addd,0 0, literal, %dr2")("stw,2 %r21, [ %dr20 + %dr2 ]")("{ nop 7; movtd,0 %dr20, %ctpr1 }")
    code("{ call %ctpr1, wbs=16 }")("addd,0 %dr23, %db[0], %dr23")("addd,0 %dr21, 1, %dr21")
    code.branch("over", "cmpedb %dr21, 400").goto("again")("over:").number("%dr23").exit(0)
    raw(code, """    .align 8
template:
{ setwd wsz=8, nfx=1
  return %ctpr3 }
value:
{ nop 5
  addd,0 0, _f32s 0x12345678, %dr0 }
{ ct %ctpr3 }
    .equ literal, value + 12 - template""")
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [sum(range(400))], done.stderr


def test_a_thread_forks_and_another_one_executes_a_program(tmp_path: Path) -> None:
    hello = tmp_path / "hello"
    hello.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    hello.chmod(0o755)
    code = Code().space("argv", 16).space("status", 8).space("cell", 8, 1)
    path = code.text(str(hello))
    thread(thread(joined(thread(code, 1, "forks"), 1), 2, "spins"), 3, "executes")
    code("wait:").call("pause").goto("wait")
    code("spins:").call("sched_yield").goto("spins")
    code("forks:").call("fork", result="%dr21").branch("child", "cmpesb %r21, 0").call("wait4", "%dr21", "status", 0, 0)
    code("{ nop 4; ldw,0 0, status, %dr1 }").number("%dr1").load("cell", "%dr1").number("%dr1").call("exit", 0)
    code("child:").store("cell", 99).call("gettid", result="%dr5").call("getpid", result="%dr6")
    code("subd,0 %dr5, %dr6, %dr5").number("%dr5").call("exit", 7)
    code("executes:").call("execve", path, "argv", 0).exit(99)
    done = run(code.build(tmp_path))
    assert done.returncode == 7, done.stderr
    assert done.stdout.endswith(b"hello from e2k\n")
    assert numbers(done.stdout.removesuffix(b"hello from e2k\n")) == [0, 0x700, 1]


def test_signals_nest_as_their_masks_say_in_programs_of_both_widths(tmp_path: Path) -> None:
    code = handle(handle(Code().space("log", 8), 10, SIGINFO, "first", 1 << 11), 12, SIGINFO | NODEFER, "second")
    send(code, 10).load("log", "%dr1").number("%dr1").exit(0)
    send(code.function("first"), 12).invoke("note", 1).leave()
    code.function("second").invoke("note", 2).leave()
    code.function("note")("{ nop 4; ldd,0 0, log, %dr1 }")("shld,0 %dr1, 4, %dr1")("addd,0 %dr1, %dr0, %dr1")
    code("std,2 %dr1, [ 0 + log ]").leave()
    assert numbers(run(code.build(tmp_path)).stdout) == [0x12]
    narrow = Code(entry=1)
    narrow.data += ["    .align 16", "action: .word handler, 4, 0, 0, 0, 0, 0, 0", "count: .dword 0",
                    "tid1: .word 0, 0, 0, 0", "    .align 16", "stack1: .skip 0x4000"]
    narrow.call("rt_sigaction", 10, "action", 0, 8).call("getpid", result="%dr20").call("kill", "%dr20", 10)
    narrow.call("clone", THREAD, "stack1+0x4000", "tid1", "tid1", 0, result="%dr20").branch("work", "cmpesb %r20, 0")
    joined(narrow, 1).load("count", "%dr1").number("%dr1").exit(0)
    narrow("work:").invoke("handler", 5).call("exit", 0)
    add(narrow.function("handler"), "count", "%dr0").leave()
    done = run(Image(machine_code(narrow), bits=32).write(tmp_path, "narrow"))
    assert numbers(done.stdout) == [15], done.stderr


def test_a_group_of_processes_is_killed_with_the_grandchildren(tmp_path: Path) -> None:
    code = Code().space("status", 8).space("soon", 16, 0, 400_000_000).space("late", 16, 5, 0).space("ignore", 32, 1)
    code.call("setpgid", 0, 0).call("fork", result="%dr20").branch("child", "cmpesb %r20, 0")
    code.call("nanosleep", "soon", 0).call("rt_sigaction", 15, "ignore", 0, 8).call("kill", 0, 15)
    code.call("wait4", "%dr20", "status", 0, 0)("{ nop 4; ldw,0 0, status, %dr1 }").number("%dr1").exit(0)
    code("child:").call("fork", result="%dr21").branch("grandchild", "cmpesb %r21, 0").call("wait4", "%dr21", 0, 0, 0)
    code.exit(3)("grandchild:").call("nanosleep", "late", 0).number(0xDEAD).exit(4)
    done = run(code.build(tmp_path))           # its output ends with its last process
    assert (numbers(done.stdout), done.stderr) == ([15], b"")


@pytest.mark.parametrize("accel", ["jit", "reference"])
def test_a_child_has_shared_mappings_in_common_with_its_parent(accel: str, tmp_path: Path) -> None:
    """Both add to a number at the same time, wait for each other by futex, and keep what is private apart."""
    turns = 300 if accel == "reference" else 20_000
    code = Code().space("status", 8).space("private", 8, 5)
    code.call("mmap", 0, 0x3000, 3, 0x11, 0xFFFFFFFF, 0, result="%dr20")("addd,0 %dr20, 0x1000, %dr21")
    code("addd,0 0, 40, %dr5")("std,2 %dr5, [ %dr21 + 16 ]")                    # stored before the fork
    code.call("fork", result="%dr22").branch("child", "cmpesb %r22, 0")
    code.invoke("bump", "%dr21", turns)
    code("wait:")("{ nop 4; ldw,0 %dr21, 8, %dr1 }").branch("told", "cmpesb %r1, 1")
    code("addd,0 %dr21, 8, %dr2").call("futex", "%dr2", 0, "%dr1", 0, 0, 0).goto("wait")
    code("told:").call("wait4", "%dr22", "status", 0, 0)
    for offset in (0, 16):
        code(f"{{ nop 4; ldd,0 %dr21, {offset}, %dr1 }}").number("%dr1")
    code.load("private", "%dr1").number("%dr1")
    # what is unmapped and mapped again is neither common nor old
    code.call("munmap", "%dr20", 0x3000).call("mmap", "%dr20", 0x3000, 3, 0x112, 0xFFFFFFFF, 0)
    code("{ nop 4; ldd,0 %dr21, 0, %dr1 }").number("%dr1")
    # a file's
    code.call("openat", -100 & 0xFFFFFFFF, code.text("file"), 0o102, 0o600, result="%dr23")
    code.call("ftruncate", "%dr23", 0x1000).call("mmap", 0, 0x1000, 3, 1, "%dr23", 0, result="%dr20")
    code.call("fork", result="%dr22").branch("writer", "cmpesb %r22, 0").call("wait4", "%dr22", "status", 0, 0)
    code("{ nop 4; ldd,0 %dr20, 8, %dr1 }").number("%dr1").exit(0)
    code("writer:")("addd,0 0, _f64 0x4142434445464748, %dr5")("std,2 %dr5, [ %dr20 + 8 ]").exit(0)
    code("child:").store("private", 6).invoke("bump", "%dr21", turns)
    code("{ nop 4; ldd,0 %dr21, 16, %dr5 }")("addd,0 %dr5, 2, %dr5")("std,2 %dr5, [ %dr21 + 16 ]")
    code.call("nanosleep", "soon", 0)("addd,0 0, 1, %dr5")("stw,2 %r5, [ %dr21 + 8 ]")
    code("addd,0 %dr21, 8, %dr2").call("futex", "%dr2", 1, 1, 0, 0, 0).exit(0).space("soon", 16, 0, 100_000_000)
    raw(code.function("bump"), """
again:
{ nop 4
  ldd,0 [ %dr0 + 0 ], %dr9, mas=7 }
{ addd,0 %dr9, 1, %dr9 }
{ std,2 %dr9, [ %dr0 + 0 ], mas=2
  ibranch again ? %MLOCK }
{ subd,0 %dr1, 1, %dr1 }""")
    code.branch("enough", "cmpedb %dr1, 0").goto("again")("enough:").leave()
    done = run(code.build(tmp_path), options=("-accel", accel), cwd=tmp_path)
    assert (numbers(done.stdout), done.stderr) == ([2 * turns, 42, 5, 0, 0x4142434445464748], b"")
    assert (tmp_path / "file").read_bytes()[8:16] == b"HGFEDCBA"


def test_exceptions_of_floating_point_tell_their_kind_and_the_flags_stay(tmp_path: Path) -> None:
    """Division by 0, 0 / 0, an overflow, which is inexact, and a division of 80 bits: none of these is masked.
    FPE_FLTDIV is 3, FPE_FLTINV 7, FPE_FLTRES 6."""
    cases = (("fdivd,5", 1.0, 0.0, 3), ("fdivd,5", 0.0, 0.0, 7), ("fmuld,0", 1e300, 1e300, 6),
             ("fxdivdd,5", 1.0, 0.0, 3))
    code = handle(Code().space("code", 8), 8)
    code("{ nop 7; rws 0x1000, %pfpfr }")("{ nop 7; rws 0x340, %fpcr }")
    for index, (operation, first, second, _) in enumerate(cases):
        bits = [int.from_bytes(struct.pack("<d", value), "little") for value in (first, second)]
        code(f"addd,0 0, _f64 {bits[0]:#x}, %dr5")(f"addd,0 0, _f64 {bits[1]:#x}, %dr6")("addd,0 0, 0x77, %dr7")
        code(f"addd,0 0, skip{index}, %dg20")(f"{{ nop 7; {operation} %dr5, %dr6, %dr7 }}")(f"skip{index}:")
        code.number("%dr7").load("code", "%dr1").number("%dr1")
        code("{ nop 7; rws 0x1000, %pfpfr }")
    code("{ nop 7; rrs %fpsr, %r1 }")("andd,0 %dr1, 0xff, %dr1").number("%dr1").exit(0)
    code.function("handler")("{ nop 4; ldw,0 %dr1, 8, %dr5 }")("std,2 %dr5, [ 0 + code ]")
    code(f"std,2 %dg20, [ %dr2 + {CR0_HI} ]").leave()
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [word for *_, kind in cases for word in (0x77, kind)] + [0x84], done.stderr
