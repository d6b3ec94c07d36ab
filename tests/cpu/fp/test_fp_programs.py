"""Programs that compute with floating point, from source to output."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2kemu.cpu.asm_elf import assemble_object, executable
from tests.cpu.guest import Guest
from tests.cpu.test_programs import Program
from tests.cpu.vectors import lines


def test_random_programs_print_every_register_as_expected(tmp_path: Path) -> None:
    """About forty wide instructions of all kinds each; the flags are printed as well, but for denormal operands."""
    count = 0
    for program in lines("programs.jsonl"):
        if "expected" not in program:
            continue
        path = tmp_path / program["name"]
        path.write_bytes(executable([assemble_object(program["source"], cpu=program["cpu"], filename=program["name"])]))
        guest = Program(model=program["cpu"])
        guest.load_file(path)
        assert guest.cpu.run() == "exit", guest.cpu.fatal_message
        assert (guest.output.decode(), guest.status) == (program["expected"], 0), program["name"]
        count += 1
    assert count >= 14


@pytest.mark.slow
def test_a_product_of_matrices_of_doubles() -> None:
    """56 million wide instructions, of which 4 million compute with doubles."""
    guest = Guest()
    guest.load_elf("matmul-small")
    assert guest.cpu.run() == "exit"
    assert (guest.output, guest.status) == (b"matmul 128 x 128, 1 times: -884623652\n", 0)
