"""A guest that computes in generated code, moved from machine to machine through migration streams."""

from __future__ import annotations

from pathlib import Path

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble
from tests.cpu.native.test_jit import expected

HOPS = 100
TURNS = 1 << 20
CODE = 0x100000
LOOP = f"""
{{ setwd wsz=8, nfx=1; addd 0, 0, %dr0; addd 0, 0, %dr1; disp %ctpr1, turn }}
{{ addd 0, _f64 {TURNS}, %dr2; addd 0, _f64 0x200000, %dr5 }}
turn:
{{ addd %dr0, 1, %dr0; addd %dr1, %dr0, %dr1; disp %ctpr1, turn }}
{{ cmpedb %dr0, %dr2, %pred0; xord %dr1, %dr0, %dr1; std %dr0, [%dr5 + 0] }}
{{ ct %ctpr1 ? ~%pred0 }}
end:
{{ disp %ctpr1, end }}
{{ ct %ctpr1 }}
"""


def test_a_hundred_migrations_in_the_middle_of_a_hot_loop_change_nothing(tmp_path: Path) -> None:
    image = assemble(LOOP, version=4, base=CODE)
    machine = Machine.build(ram="32M", cpu="e8c")
    machine.write_mem(CODE, image.data)
    machine.write_reg("pc", CODE)
    native = 0
    total = 2 + 3 * TURNS
    for hop in range(HOPS):
        share = total // HOPS + (total % HOPS if hop == 0 else 0)
        translator = machine.cpus[0].translator
        translator.eager, translator.level = True, 0
        end = machine.cpus[0].executed + share
        while machine.cpus[0].executed < end:       # a request to stop may be left over from the migration
            assert machine.cpus[0].run(end - machine.cpus[0].executed) in ("limit", "exit")
        native += translator.statistics.executed
        stream = str(tmp_path / "stream")
        machine.save(stream)
        machine.close()
        machine = Machine.build(ram="32M", cpu="e8c", incoming=True)
        machine.load(stream)
    with machine:
        assert machine.read_reg("pc") == image.symbols["end"]
        assert (machine.read_reg("r0"), machine.read_reg("r1")) == expected(TURNS)
        assert int.from_bytes(machine.read_mem(0x200000, 8), "little") == TURNS
    assert native > 0
