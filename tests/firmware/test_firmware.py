"""The bundled firmware: its image is its source, and on a machine it does what its README says."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from e2kemu import Machine
from e2kemu.cpu.asm import assemble_file
from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.cpu.decode import check, decode

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "firmware" / "boot.s"
IMAGE = ROOT / "e2kemu" / "firmware_images" / "boot.bin"
SELFTESTS = {"alu": 110, "predicates": 130, "calls": 15, "loops": 15, "memory": 28}
MODELS = ("e2s", "e8c", "e8c2", "e16c")
START = 16 << 20
PAGE = 4096
GENERATIONS, DATA = 0x00100000, 0x00ED0000
M64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def boot(append: str, *, cpu: str = "e8c", kernel: Path | None = None, ram: str = "64M") -> Machine:
    return Machine.build(ram=ram, cpu=cpu, append=append, kernel=str(kernel) if kernel else None)


def make_kernel(path: Path, text: str, filename: str = "<text>") -> dict[str, int]:
    """Assemble and link a kernel at 16 MiB into ``path``; its symbols."""
    path.write_bytes(executable([assemble_object(text, cpu="v3", filename=filename)], START))
    with open(path, "rb") as stream:
        symbols = ELFFile(stream).get_section_by_name(".symtab").iter_symbols()
        return {symbol.name: symbol["st_value"] for symbol in symbols}


def mix(x: int) -> int:
    z = x + GOLDEN & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return z ^ z >> 31 | 1


def words(key: int, count: int) -> bytes:
    """The numbers of fill and verify, as the README has them."""
    a = mix(key)
    b = mix(a)
    out = []
    for _ in range(count // 2):
        out += [a ^ a >> 32, b ^ b >> 32]
        a, b = (s * 0xD1342543DE82EF95 & M64 for s in (a, b))
    return struct.pack(f"<{count}Q", *out)


# --- the image -------------------------------------------------------------------------------------


def test_the_image_is_the_assembled_source() -> None:
    image = assemble_file(SOURCE, version=3, base=0x1_0000_0000)
    assert image.data == IMAGE.read_bytes(), "firmware/boot.s has changed: run make firmware"
    assert image.entry == 0x1_0000_0000


@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_every_wide_instruction_is_legal_on_every_model(version: int) -> None:
    image = assemble_file(SOURCE, version=3, base=0x1_0000_0000)
    text = next(section for section in image.sections if section.name == ".text")
    at = count = 0
    while at < text.size:
        wide = decode(image.data, version, 0x1_0000_0000 + at, at)
        assert check(wide) is None, f"{at:#x}"
        assert wide.reserved == ()
        at += wide.size
        count += 1
    assert at == text.size
    assert count >= 800


# --- start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", MODELS)
def test_hello_says_hello_on_every_model_and_powers_off(cpu: str) -> None:
    with boot("workload=hello", cpu=cpu) as machine:
        assert machine.run(timeout=60) == "exit"
        assert machine.exit_status == 0
        lines = machine.console.text.splitlines()
    assert f"machine elbrus-2.0, CPU {cpu}, 64 MiB of RAM" in lines
    assert "memory test: 64 MiB ok" in lines
    assert lines[-1] == "hello from e2k firmware"


def test_without_a_workload_the_list_is_printed_and_the_machine_idles() -> None:
    with boot("console=ttyS0 quiet") as machine:
        assert machine.run(timeout=60, until=b"verify start=A end=B seed=S") == "until"
        assert machine.run(timeout=1) == "timeout"
        text = machine.console.text
    assert all(f"  {name} " in text for name in ("hello", "ticks", "pages", "fill", "verify"))


BAD = [
    ("workload=nothing", "no such workload: nothing"),
    ("workload=hellox", "no such workload: hellox"),
    ("workload=pages end=17M", "missing start="),
    ("workload=pages start=16M", "missing end="),
    ("workload=pages start=16Q end=17M", "bad value of start="),
    ("workload=pages start= end=17M", "bad value of start="),
    ("workload=pages start=0x end=17M", "bad value of start="),
    ("workload=pages start=18446744073726328832 end=20M", "bad value of start="),
    ("workload=pages start=17179869185G end=20M", "bad value of start="),
    ("workload=pages start=16M end=1a", "bad value of end="),
    ("workload=pages start=16M end=17M rate=fast", "bad value of rate="),
    ("workload=pages start=16M end=17M rate=0", "bad value of rate="),
    ("workload=fill start=16M end=17M seed=-1", "bad value of seed="),
    *(
        (f"workload={name} start={start} end={end}", "start..end must be whole pages of RAM above 16M")
        for name, start, end in (
            ("pages", "15M", "17M"),
            ("pages", "17M", "16M"),
            ("pages", "16M", "16M"),
            ("pages", "16M", "16777217"),
            ("fill", "16M", "65M"),
            ("verify", "4G", "5G"),
        )
    ),
]


@pytest.mark.parametrize(("append", "reason"), BAD, ids=[append for append, _ in BAD])
def test_a_bad_argument_is_one_line_and_status_2(append: str, reason: str) -> None:
    with boot(append) as machine:
        assert machine.run(timeout=60) == "exit"
        assert machine.exit_status == 2
        assert machine.console.text.endswith(f"\nfirmware: {reason}\n")


def test_a_trap_is_reported_with_its_place_and_status_3(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    text = (
        ".global _start\n_start: { setwd wsz=16, nfx=1 }\naddd 0, 0, %r3\nhere: sdivd %r3, %r3, %r4\naddd %r4, 1, %r5\n"
    )
    symbols = make_kernel(kernel, text)
    with boot("", kernel=kernel) as machine:
        assert machine.run(timeout=60) == "exit"
        assert machine.exit_status == 3
        expected = f"\nTRAP tir={1 << 34 | 1 << 44 + 5:016x} ip={symbols['here']:016x}\n"
        assert machine.console.text.endswith(expected)


def test_a_kernel_starts_with_the_boot_information_in_r0_and_r1_and_the_window_of_reset(
    tmp_path: Path,
) -> None:
    kernel = tmp_path / "kernel"
    text = """
        .text
        .global _start
    _start:
        { nop 5 ; rrd %wd, %r2 }
        { nop 5 ; rrd %br, %r3 }
        addd 0, found, %r4
        { std %r0, [ %r4 + 0 ] ; std %r1, [ %r4 + 8 ] }
        { std %r2, [ %r4 + 16 ] ; std %r3, [ %r4 + 24 ] }
        addd 0, 0x1010000f4, %r5
        addd 0, 42, %r6
        stw %r6, [ %r5 + 0 ]
    1:  ibranch 1b
        .bss
        .align 8
    found: .skip 32
    """
    symbols = make_kernel(kernel, text)
    with boot("", kernel=kernel) as machine:
        assert machine.run(timeout=60) == "exit"
        assert machine.exit_status == 42
        r0, r1, wd, br = struct.unpack("<4Q", machine.read_mem(symbols["found"], 32))
    assert (r0, r1) == (0x00FF0000, 0x00FF0000)
    assert (wd >> 16 & 0x7FF, wd >> 32 & 0x7FF) == (16 * 8, 8 * 8)
    assert br & 0xFFF == 4 | 3 << 6


# --- workloads -------------------------------------------------------------------------------------


def test_ticks_are_counted_every_100_ms_of_virtual_time() -> None:
    with boot("workload=ticks") as machine:
        machine.run(timeout=60, until=b"tick 1\n")
        first = machine.clock.now()
        machine.run(timeout=60, until=b"tick 6\n")
        assert machine.clock.now() - first >= 400_000_000
        numbers = re.findall(r"^tick (\d+)$", machine.console.text, re.MULTILINE)
    assert numbers == [str(n + 1) for n in range(len(numbers))]


@pytest.mark.parametrize(("pages", "rate"), [(37, ""), (64, ""), (3, ""), (37, " rate=2000"), (5, " rate=30")])
def test_pages_steps_the_first_byte_of_every_page_in_order(pages: int, rate: str) -> None:
    end = START + pages * PAGE
    with boot(f"workload=pages start=16M end={end:#x}{rate}") as machine:
        assert machine.run(timeout=60, until=b"ok\nABBB") == "until"
        for _ in range(5):
            machine.run(timeout=0.05)
            memory = machine.read_mem(START, (pages + 1) * PAGE)
            steps = list(memory[: pages * PAGE : PAGE])
            laps = machine.console.text.partition("ok\nA")[2].count("B")
            ahead = steps.index(steps[-1]) if steps[0] != steps[-1] else 0
            assert steps == [steps[-1] + 1 & 0xFF] * ahead + [steps[-1]] * (pages - ahead)
            assert steps[-1] in (laps & 0xFF, laps + 1 & 0xFF)
            assert not any(memory[pages * PAGE :])
            assert not any(memory[1:PAGE])


def test_pages_keeps_to_its_rate_in_virtual_time() -> None:
    pages, rate = 50, 1000
    with boot(f"workload=pages start=16M end={START + pages * PAGE} rate={rate}") as machine:
        machine.run(timeout=60, until=b"ok\nA")
        begin = machine.clock.now()
        machine.run(timeout=60, until=b"B" * 20)
        seconds = (machine.clock.now() - begin) / 1e9
        seen_late = 0.05  # the guest went on between its A and our look at the clock
        assert 20 * pages <= rate * (seconds + seen_late)


def test_fill_writes_the_documented_incompressible_numbers_once() -> None:
    size = 256 * PAGE
    with boot(f"workload=fill start=16M end={START + size:#x} seed=7") as machine:
        assert machine.run(timeout=60, until=b"ok\nB") == "until"
        memory = machine.read_mem(START, size + PAGE)
        machine.run(timeout=0.1)
        assert machine.console.text.endswith("ok\nB")
    assert memory[:size] == words(mix(7), size // 8)
    assert not any(memory[size:])
    assert len(zlib.compress(memory[:size])) > 0.99 * size
    assert len({memory[at : at + PAGE] for at in range(0, size, PAGE)}) == 256


def written(machine: Machine, pages: int, seed: int) -> Iterator[tuple[int, int]]:
    """(page address, generation) of pages that verify has written, but for the one it is writing."""
    start, end, busy, secret = struct.unpack("<4Q", machine.read_mem(DATA, 32))
    assert (start, end, secret) == (START, START + pages * PAGE, mix(seed) ^ GOLDEN)
    for n, generation in enumerate(struct.unpack(f"<{pages}I", machine.read_mem(GENERATIONS, 4 * pages))):
        if generation and START + n * PAGE != busy:
            yield START + n * PAGE, generation


def test_verify_keeps_every_page_as_its_address_and_generation_say() -> None:
    pages, seed = 16, 9
    with boot(f"workload=verify start=16M end={START + pages * PAGE:#x} seed={seed}") as machine:
        assert machine.run(timeout=60, until=b"V") == "until"
        checked = 0
        for address, generation in written(machine, pages, seed):
            key = address + generation * GOLDEN + (mix(seed) ^ GOLDEN) & M64
            assert machine.read_mem(address, PAGE) == words(key, PAGE // 8)
            checked += 1
    assert checked >= 10


def test_verify_finds_one_flipped_bit() -> None:
    with boot(f"workload=verify start=16M end={START + 16 * PAGE:#x} seed=9") as machine:
        assert machine.run(timeout=60, until=b"V") == "until"
        page, _ = max(written(machine, 16, 9), key=lambda pair: pair[1])
        # the page may be written anew before it is checked: flip until it is found
        for _ in range(50):
            right = int.from_bytes(machine.read_mem(page + 808, 8), "little")
            machine.write_mem(page + 808, (right ^ 0x40).to_bytes(8, "little"))
            if machine.run(timeout=0.3) == "exit":
                break
        assert machine.exit_status == 4
        match = re.search(r"FAULT 0x(\w+) 0x(\w+) 0x(\w+)\n$", machine.console.text)
    assert match is not None
    address, expected, found = (int(text, 16) for text in match.groups())
    assert address == page + 808
    assert expected ^ found == 0x40


# --- self-tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cpu", ["e2s", "e8c", "e16c"])
@pytest.mark.parametrize("name", SELFTESTS)
def test_the_self_tests_of_the_guest_pass(tmp_path: Path, name: str, cpu: str) -> None:
    kernel = tmp_path / name
    source = ROOT / "firmware" / "selftest" / f"{name}.s"
    make_kernel(kernel, source.read_text(), str(source))
    with boot("", cpu=cpu, kernel=kernel) as machine:
        assert machine.run(timeout=60) == "exit"
        text, status = machine.console.text, machine.exit_status
    assert "FAIL" not in text
    assert text.endswith("all passed\n")
    assert status == 0
    assert text.count("\nPASS ") >= SELFTESTS[name]


def test_a_self_test_reports_what_is_wrong(tmp_path: Path) -> None:
    source = ROOT / "firmware" / "selftest" / "wrong.s"
    text = '#include "selftest.inc"\n TEST wrong\n addd 0, 6, %r20\n CHECK "six", %r20, 7\n END_TEST\n'
    kernel = tmp_path / "wrong"
    make_kernel(kernel, text, str(source))
    with boot("", kernel=kernel) as machine:
        assert machine.run(timeout=60) == "exit"
        assert machine.exit_status == 1
        assert "FAIL got, expected: 0000000000000006 0000000000000007 six\nsome failed\n" in machine.console.text
