"""The small operating system in every tier, with one and several CPUs: it passes, and nothing was left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu.cpu.asm_elf import assemble_object, executable
from e2kemu.kernel_disk import kernel_image
from tests.kernel.tiers import COUNTED, run
from tests.kernel.verdict import checks, make_disk, run_kernel

ROOT = Path(__file__).parents[2]
SOURCE = "firmware/kernel/kernel.s"
IMAGES = {"kernel-v4.elf": "v4", "kernel-v6.elf": "v6"}
BASE = 0x0100_0000
PHASES, SELF_TESTS = 47, 95
"""Checks with one CPU and a disk: of the processes, and more with ``traps``."""

MUST_DIE = {
    "load from the kernel's half": "exc_data_page at 10",
    "store where nothing is": "exc_data_page at 8001400000",
    "store to read-only memory": "exc_data_page at 8000800000",
    "load of kernel code": "exc_data_page at 1000000",
    "store to its procedure stack": "exc_data_page at 8040000000",
    "store to a device": "exc_data_page at 1010000f4",
    "execute data": "exc_instr_page_prot at 8001000000",
    "execute nothing": "exc_instr_page_miss at 8000000000",
    "execute the kernel": "exc_instr_page_prot at 1000000",
}
"""Processes and what the kernel must say of their end, where the address is one of docs/kernel.md."""


@pytest.mark.parametrize("image", IMAGES)
def test_the_bundled_kernel_is_its_source(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)     # the image has the name of its source as make gives it
    made = executable([assemble_object(Path(SOURCE).read_text(), cpu=IMAGES[image], filename=SOURCE)], BASE)
    assert made == kernel_image(image).read_bytes(), "firmware/kernel has changed: run make firmware"


@pytest.mark.parametrize(("accel", "smp"), [("jit", 2), ("jit", 4), ("interp", 2)])
def test_the_kernel_passes(accel: str, smp: int, tmp_path: Path) -> None:
    count, lines = run_kernel("", accel=accel, smp=smp, disk=make_disk(tmp_path / "disk"))
    assert count == PHASES
    assert sum("online" in line for line in lines) == smp - 1
    for name, end in MUST_DIE.items():
        assert any(f" {name} killed: {end}" in line for line in lines), name
    assert len(MUST_DIE) >= 9


@pytest.mark.parametrize(("cpu", "image", "smp"), [
    ("e2s", "kernel-v4.elf", 2), ("e8c2", "kernel-v4.elf", 2), ("e16c", "kernel-v6.elf", 2)])
def test_the_kernel_passes_on_other_models(cpu: str, image: str, smp: int, tmp_path: Path) -> None:
    count, _ = run_kernel("traps", accel="jit", smp=smp, disk=make_disk(tmp_path / "disk"), cpu=cpu, image=image)
    assert count == PHASES + SELF_TESTS


def test_without_a_disk_only_its_own_checks_are_left_out(tmp_path: Path) -> None:
    _, with_disk = run_kernel("", accel="jit", disk=make_disk(tmp_path / "disk"))
    _, without = run_kernel("", accel="jit")
    missing = [name for name in checks(with_disk) if name not in checks(without)]
    assert missing == ["pages from the disk"] * 2


def test_a_disk_with_one_wrong_byte_is_noticed(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk")
    data = bytearray(disk.read_bytes())
    data[15 * 4096] ^= 1        # a word that both processes look at
    disk.write_bytes(data)
    with pytest.raises(AssertionError, match="BAD pages from the disk"):
        run_kernel("", accel="jit", disk=disk)


def test_the_kernel_finds_the_machine_as_the_documents_say_and_counts_the_same_in_every_tier(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk")
    first, *others = (run(accel, 1, "traps", disk, icount=COUNTED) for accel in ("jit", "interp", "reference"))
    count, names = first.verdict
    assert count == PHASES + SELF_TESTS
    assert len(set(names)) >= 115
    assert others == [first, first]


def test_counted_runs_on_two_cpus_are_the_same_run(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk")
    first, *others = (run(accel, 2, "", disk, icount=COUNTED) for accel in ("jit", "jit", "interp"))
    assert first.verdict[0] == PHASES
    assert min(first.executed) > 1_000_000
    assert others == [first, first]
