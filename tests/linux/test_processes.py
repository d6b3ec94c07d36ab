"""Programs as processes: start-up, exit statuses, memory, stacks, faults, and what e2kemu-run prints."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import pytest

from tests.cpu.vectors import DATA
from tests.linux.program import Code, environment, numbers, run

MINUS_ONE = 0xFFFFFFFF
PROGRAMS = {
    "hello": (7, b"hello from e2k\n"),
    "alu-small": (0, b"36de24a510e19c08\n"),
    "call-small": (0, b"89be5361a5bb2d4d\n"),
}


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_prints_and_ends_as_it_must(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    program.write_bytes(lzma.decompress((DATA / f"{name}.elf.xz").read_bytes()))
    done = run(program)
    assert (done.returncode, done.stdout, done.stderr) == (*PROGRAMS[name], b"")


def walk_stack(code: Code) -> Code:
    """Print the strings of argv and envp, and the auxiliary vector as pairs of numbers."""
    code("{ getsp 0, %dr8 }")("{ nop 4; ldd,0 %dr8, 0, %dr9 }").number("%dr9")
    code("addd,0 %dr8, 8, %dr8")
    for name in ("argv", "envp"):
        code(f"{name}:")("{ nop 4; ldd,0 %dr8, 0, %dr1 }")("addd,0 %dr8, 8, %dr8")
        code.branch(f"{name}_end", "cmpedb %dr1, 0").invoke("puts", "%dr1").goto(name)
        code(f"{name}_end:").say("--\n")
    code("auxv:")("{ nop 4; ldd,0 %dr8, 0, %dr1; ldd,2 %dr8, 8, %dr2 }")("addd,0 %dr8, 16, %dr8")
    code.number("%dr1").number("%dr2").branch("over", "cmpedb %dr1, 0").goto("auxv")
    code("over:").exit(0)
    code.function("puts")("addd,0 0, 0, %dr20")
    code("length:")("{ nop 4; ldb,0 %dr0, %dr20, %dr21 }").branch("known", "cmpedb %dr21, 0")
    code("addd,0 %dr20, 1, %dr20").goto("length")
    code("known:").call("write", 1, "%dr0", "%dr20").say("\n").leave()
    return code


def test_arguments_environment_and_auxiliary_vector_are_on_the_stack(tmp_path: Path) -> None:
    program = walk_stack(Code()).build(tmp_path)
    done = run(program, "one", "two words", "", options=("-E", "ADDED=yes"), env=environment(HERE="1"))
    first, arguments, variables, rest = re.fullmatch(
        rb"(\w+)\n(.*?)--\n(.*?)--\n(.*)", done.stdout, re.DOTALL).groups()  # type: ignore[union-attr]
    assert int(first, 16) == 4
    assert arguments.split(b"\n") == [str(program).encode(), b"one", b"two words", b"", b""]
    assert {b"HERE=1", b"ADDED=yes"} <= set(variables.split(b"\n"))
    words = numbers(rest)
    vector = dict(zip(words[::2], words[1::2], strict=True))
    assert vector[6] == 4096
    assert vector[9] == 0x10000 + int.from_bytes(program.read_bytes()[24:32], "little") - 0x10000
    assert vector[3] == 0x10000 + 64
    assert (vector[4], vector[7]) == (56, 0)
    assert {25, 31, 15} <= set(vector)
    assert 33 not in vector                # no vDSO


def test_memory_is_mapped_protected_moved_and_unmapped(tmp_path: Path) -> None:
    code = Code()
    code.call("mmap", 0, 0x3000, 3, 0x12, MINUS_ONE, 0, result="%dr1")("addd,0 0, 77, %dr2")
    code("std,2 %dr2, [ %dr1 + 0x1000 ]").call("mprotect", "%dr1", 0x3000, 1).number("%dr16")
    code.call("mremap", "%dr1", 0x3000, 0x6000, 1, result="%dr3")("{ nop 4; ldd,0 %dr3, 0x1000, %dr4 }").number("%dr4")
    code.call("mprotect", "%dr3", 0x6000, 3).call("munmap", "%dr3", 0x2000).number("%dr16")
    code.call("mmap", "%dr3", 0x2000, 3, 0x112, MINUS_ONE, 0)("subd,0 %dr16, %dr3, %dr16").number("%dr16")
    code("{ nop 4; ldd,0 %dr3, 0x1000, %dr4 }").number("%dr4")
    code.call("brk", 0, result="%dr5")("addd,0 %dr5, 0x5000, %dr6").call("brk", "%dr6")("subd,0 %dr16, %dr6, %dr16")
    code.number("%dr16")("std,2 %dr2, [ %dr5 + 8 ]")("{ nop 4; ldd,0 %dr5, 8, %dr4 }").number("%dr4")
    code.call("mmap", 0, 0x1000, 3, 0x10, MINUS_ONE, 0).number("%dr16")
    code.exit(0)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [0, 77, 0, 0, 0, 0, 77, (1 << 64) - 22], done.stderr


@pytest.mark.parametrize(("access", "reason"), [
    ("ldd,0 %dr1, 8, %dr2", "load from"),
    ("std,2 %dr2, [ %dr1 + 8 ]", "store to"),
])
def test_forbidden_memory_is_a_segmentation_fault_with_a_report(access: str, reason: str, tmp_path: Path) -> None:
    code = Code()
    code.call("mmap", 0, 0x1000, 0, 0x12, MINUS_ONE, 0, result="%dr1").number("%dr1")("addd,0 0, 0, %dr2")
    code.invoke("culprit", "%dr1").exit(0)
    code.function("culprit")("addd,0 0, %dr0, %dr1")("addd,0 0, 0, %dr2")(f"{{ nop 4; {access} }}").leave()
    done = run(code.build(tmp_path))
    address = numbers(done.stdout)[0] + 8
    text = done.stderr.decode()
    assert done.returncode == 128 + 11
    assert text.startswith("e2kemu: prog[")
    assert f"Segmentation fault (SIGSEGV) at {re.search('pc=0*([0-9a-f]+)', text)[1]:s}" in text.replace("0x", "")  # type: ignore[index]
    assert f"exc_data_page: {reason} {address:#x}" in text
    assert "<culprit+" in text
    assert access.split(",")[0] in text.partition("Wide instruction:")[2]
    chain = text.partition("Call chain:")[2]
    assert "#1" in chain
    assert "<_start+" in chain


@pytest.mark.parametrize("accel", ["reference", "jit"])
@pytest.mark.parametrize(("change", "reason"), [
    (("mprotect", "%dr7", 0x1000, 1), "exc_data_page: store to"),
    (("munmap", "%dr7", 0x1000), "exc_data_page: store to"),
    (("mprotect", "stub_page", 0x1000, 3), "exc_instr_page_prot"),
])
def test_rights_that_are_taken_away_are_gone_for_code_that_has_run_hot(
    accel: str, change: tuple[str | int, ...], reason: str, tmp_path: Path
) -> None:
    code = Code().call("mmap", 0, 0x1000, 3, 0x12, MINUS_ONE, 0, result="%dr7")
    code("addd,0 0, stub, %dr6")("{ nop 4; andnd,0 %dr6, 0xfff, %dr6 }").call("mprotect", "%dr6", 0x1000, 7)
    code.invoke("stub", "%dr7").number("%dr16")
    code.call(*(("mprotect", "%dr6", 0x1000, 3) if "stub_page" in change else change))  # type: ignore[arg-type]
    code.number("%dr16").invoke("stub", "%dr7").say("not reached\n").exit(0)
    code(".align 4096")
    code.function("stub")("addd,0 0, 0, %dr10")
    code("{ nop 4; disp %ctpr1, turn }")("turn:")("std,2 %dr10, [ %dr0 + 8 ]")("{ nop 4; ldd,0 %dr0, 8, %dr11 }")
    code("{ nop 2; addd,0 %dr10, 1, %dr10; cmpedb,1 %dr10, 9999, %pred0 }")("{ ct %ctpr1 ? ~%pred0 }").leave("%dr11")
    code(".align 4096")("nop 0")
    done = run(code.build(tmp_path), options=("-accel", accel))
    assert numbers(done.stdout) == [9999, 0], done.stderr
    assert done.returncode == 128 + 11
    assert reason in done.stderr.decode()


def test_deep_recursion_grows_the_hardware_stacks_and_an_endless_one_ends(tmp_path: Path) -> None:
    code = Code().invoke("sum", 3000).number("%dr16").invoke("endless").exit(0)
    code.function("sum")("addd,0 0, %dr0, %dr20").branch("bottom", "cmpedb %dr0, 0")("subd,0 %dr0, 1, %dr1")
    code.invoke("sum", "%dr1")("addd,0 %dr16, %dr20, %dr0")("{ nop 5; return %ctpr3 }")("{ ct %ctpr3 }")
    code("bottom:").leave(0)
    code.function("endless")("{ getsp 0xffff0000, %dr1 }").invoke("endless").leave()
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [3000 * 3001 // 2]
    assert done.returncode == 128 + 11
    assert b"exc_user_stack_bounds" in done.stderr


def test_returning_from_the_first_function_is_a_fault(tmp_path: Path) -> None:
    done = run(Code().leave().build(tmp_path))
    assert done.returncode == 128 + 11
    assert b"exc_chain_stack_bounds" in done.stderr


def test_an_unknown_call_fails_with_enosys_and_is_named(tmp_path: Path) -> None:
    code = Code().call("mq_open", 1).number("%dr16")("addd,0 0, 0, %db[1]")
    program = code.exit(0).build(tmp_path)
    done = run(program, options=("-d", "unimp"))
    assert numbers(done.stdout) == [(1 << 64) - 38]
    assert b"system call mq_open: not implemented" in done.stderr


def test_arguments_without_numeric_tags_are_no_arguments(tmp_path: Path) -> None:
    # only the number is written: the other registers of the frame are empty; descriptor 0 is duplicated
    code = Code()("{ nop 4; sdisp %ctpr1, 3 }")("addd,0 0, 41, %db[0]")("{ call %ctpr1, wbs=16 }")
    code("addd,0 0, %db[0], %dr16").number("%dr16")
    # no number at all
    code("{ nop 4; sdisp %ctpr1, 3 }")("{ setwd wsz=16, nfx=1 }")("{ setwd wsz=24, nfx=1 }")("{ call %ctpr1, wbs=16 }")
    code("addd,0 0, %db[0], %dr16").number("%dr16").exit(0)
    done = run(code.build(tmp_path))
    assert numbers(done.stdout) == [3, (1 << 64) - 38]


def test_the_result_leaves_the_rest_of_the_frame_empty(tmp_path: Path) -> None:
    code = Code().call("getpid")("addd,0 0, %db[1], %dr17").exit(0)
    done = run(code.build(tmp_path))
    assert done.returncode == 128 + 4
    assert b"exc_diag_operand" in done.stderr


def test_a_wrong_entry_is_an_illegal_instruction(tmp_path: Path) -> None:
    code = Code()("{ nop 4; sdisp %ctpr1, 9 }")("addd,0 0, 4, %db[0]")("{ call %ctpr1, wbs=16 }").exit(0)
    done = run(code.build(tmp_path))
    assert done.returncode == 128 + 4
    assert b"system call entry 9" in done.stderr


def test_fast_entries_tell_the_time(tmp_path: Path) -> None:
    code = Code(entry=6)
    code.space("ts", 16).space("tv", 16)
    for number, arguments in ((1, (1, "ts")), (0, ("tv", 0)), (9, (0, 0))):
        code("{ nop 4; sdisp %ctpr1, 6 }")
        for index, argument in enumerate((number, *arguments)):
            code(f"addd,0 0, {argument}, %db[{index}]")
        code("{ call %ctpr1, wbs=16 }")("addd,0 0, %db[0], %dr16")
        code.entry = 3
        code.number("%dr16")
        code.entry = 6
    code.entry = 3
    code.load("ts + 8", "%dr1").number("%dr1").load("tv", "%dr1").number("%dr1").exit(0)
    values = numbers(run(code.build(tmp_path)).stdout)
    assert values[:3] == [0, 0, (1 << 64) - 38]
    assert 0 <= values[3] < 1_000_000_000
    assert values[4] > 1_700_000_000


def test_strace_shows_calls_results_and_signals(tmp_path: Path) -> None:
    code = Code().say("hi\n").call("openat", MINUS_ONE - 99, "missing", 0, 0).call("getpid", result="%dr9")
    code.call("kill", "%dr9", 15).exit(0)
    code.data.append('missing: .asciz "/no/such"')
    done = run(code.build(tmp_path), options=("-strace",))
    lines = [line.partition("] ")[2] for line in done.stderr.decode().splitlines()]
    assert done.returncode == 128 + 15
    assert lines[0] == 'write(1, "hi\\n", 3) = 3'
    assert re.fullmatch(r'openat\(.*"/no/such", O_RDONLY.*\) = -1 ENOENT \(No such file or directory\)', lines[1])
    assert re.fullmatch(r"kill\(\d+, SIGTERM\) = 0", lines[3])
    assert lines[4].startswith("--- SIGTERM {si_code=0")
    assert lines[5] == "+++ killed by SIGTERM +++"


def test_stats_count_what_was_executed(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_bytes(lzma.decompress((DATA / "hello.elf.xz").read_bytes()))
    done = run(program, options=("-stats",))
    found = dict(re.findall(r"(?m)^([a-z ]+?)  +(\d+)", done.stderr.decode()))
    assert int(found["system calls"]) == 2
    assert int(found["traps"]) == 0
    assert int(found["wide instructions"]) >= 10
    assert int(found["operations"]) >= int(found["wide instructions"]) // 2


def test_a_program_reads_its_input_and_ends_at_its_end(tmp_path: Path) -> None:
    code = Code().space("buffer", 64)
    code("again:").call("read", 0, "buffer", 64, result="%dr1").branch("over", "cmpedb %dr1, 0")
    code.call("write", 1, "buffer", "%dr1").goto("again")
    code("over:").exit(3)
    done = run(code.build(tmp_path), stdin=b"some text that is longer than the buffer of the program is, " * 3)
    assert (done.returncode, done.stdout) == (3, b"some text that is longer than the buffer of the program is, " * 3)


def test_long_jump_leaves_functions_at_once(tmp_path: Path) -> None:
    code = Code().space("env", 64)
    code.invoke("setjmp", "env").number("%dr16").branch("second", "cmpedb %dr16, 0x2a").invoke("deeper", 50).exit(1)
    code("second:").exit(6)
    code.function("deeper").branch("now", "cmpedb %dr0, 0")("subd,0 %dr0, 1, %dr1").invoke("deeper", "%dr1").leave()
    code("now:").call("e2k_longjmp2", "env", "0x2a").exit(2)
    code(".align 8")("setjmp:")("{ setwd wsz=8, nfx=1; setbn rbs=4, rsz=3, rcur=0 }")
    for register, local in (("cr0.hi", 1), ("cr1.lo", 2), ("pcsp.lo", 3), ("pcsp.hi", 4), ("cr1.hi", 5), ("wd", 7)):
        code(f"{{ nop 4; rrd %{register}, %dr{local} }}")
    code("{ nop 4; rrs %pcshtp, %r8 }")("addd,0 0, 0, %dr6")
    for offset, local in ((0, 6), (8, 1), (16, 2), (24, 3), (32, 4), (48, 6), (56, 7)):
        code(f"std,2 %dr{local}, [ %dr0 + {offset} ]")
    code("stw,2 %r8, [ %dr0 + 40 ]")("stw,2 %r5, [ %dr0 + 44 ]")("stw,2 %r6, [ %dr0 + 56 ]")
    code.leave(0)
    done = run(code.build(tmp_path))
    assert (done.returncode, numbers(done.stdout)) == (6, [0, 0x2A]), done.stderr


def test_contexts_run_in_turns_and_the_last_one_goes_on_at_its_link(tmp_path: Path) -> None:
    code = Code().space("main", 1400).space("co", 1400).space("stack", 0x8000)
    code.space("args", 64, 0x11, 0x22, 0x33, 0x44, 0x55)
    code.store("co + 16", "stack").store("co + 32", "0x8000").store("co + 8", "main")
    code.call("makecontext", "co", "helper", 40, "args", 8).number("%dr16")
    code.invoke("swap", "main", "co").say("main\n").invoke("swap", "main", "co").say("end\n")
    code.call("freecontext", "co").number("%dr16").exit(0)
    code.function("swap")("addd,0 0, %dr0, %dr20")("addd,0 0, %dr1, %dr21")
    code.call("swapcontext", "%dr20", "%dr21", 8).leave()
    code.function("helper")("addd,0 %dr0, %dr4, %dr20").number("%dr20")
    code.invoke("swap", "co", "main").say("again\n").leave()
    done = run(code.build(tmp_path))
    zero = b"0000000000000000\n"
    assert done.stdout == zero + b"0000000000000066\nmain\nagain\nend\n" + zero, done.stderr


def test_a_program_sees_its_callers_on_the_hardware_stacks(tmp_path: Path) -> None:
    code = Code().space("buffer", 0x400).space("size", 8).space("frame", 8)
    code.invoke("inner").exit(0)
    code.function("inner").call("access_hw_stacks", 4, 0, 0, 0, "size").load("size", "%dr1").number("%dr1")
    code.call("access_hw_stacks", 6, "frame", "buffer", "%dr1", 0).number("%dr16").load("buffer + 0x28", "%dr2")
    code.number("%dr2").call("get_backtrace", "buffer", 8, 0, 0).number("%dr16").load("buffer", "%dr2").number("%dr2")
    code.leave()
    size, ok, from_chain, count, from_trace = numbers(run(code.build(tmp_path)).stdout)
    assert (size, ok, count) == (64, 0, 1)
    assert from_chain == from_trace > 0x10000
