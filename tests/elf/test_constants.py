"""The numbers of ELF for e2k agree with the reference table and with files of foreign tools."""

from __future__ import annotations

import csv
import io
import lzma
from pathlib import Path

import pytest

from e2kemu.elf.constants import (
    EM_E2K,
    EM_E2K_OLD,
    MACHINES,
    PT_E2K_TAG,
    RELOC_BY_NAME,
    RELOC_KINDS,
    Field,
    Flag,
    machine_named,
    machine_of_flags,
    merge_flags,
)
from e2kemu.elf.relocations import NOT_STATIC
from e2kemu.errors import ImageError, OptionError

from .objects import DATA, elf, foreign_program

ROWS = list(csv.DictReader(io.StringIO(lzma.decompress((DATA / "elf.csv.xz").read_bytes()).decode())))


def test_every_relocation_kind_of_the_reference_is_there_with_its_number_and_field() -> None:
    fields = {
        "word32": Field.WORD32,
        "word64": Field.WORD64,
        "lit64": Field.LIT64,
        "28 bits [27:0]": Field.DISP28,
        "24 bits [27:4]": Field.PDISP24,
        "8 bits [23:16]": Field.SRC1,
        "none": Field.NONE,
        "copy": Field.NONE,
        "128-bit": Field.DESCRIPTOR,
        "64/128-bit": Field.DESCRIPTOR,
    }
    rows = [row for row in ROWS if row["kind"] == "reloc"]
    assert len(rows) == 43
    assert len(RELOC_KINDS) >= 43
    for row in rows:
        kind = RELOC_BY_NAME[row["name"]]
        assert kind.number == int(row["value"]), row
        assert kind.field is fields[row["field"]], row


def test_flags_and_machines_of_the_reference_are_there() -> None:
    numbers = {
        row["name"]: int(row["value"]) for row in ROWS if row["kind"] in ("e_machine", "e_flags", "phdr")
    }
    assert numbers["EM_MCST_ELBRUS"] == EM_E2K
    assert numbers["EM_E2K_OLD"] == EM_E2K_OLD
    assert numbers["PT_E2K_TAG"] == PT_E2K_TAG
    for flag in ("IPD", "X86APP", "INCOMPAT", "PM", "PACK_SEGMENTS"):
        assert numbers[f"EF_E2K_{flag}"] == Flag[flag]
    assert numbers["EF_E2K_4MB_PAGES"] == Flag.PAGES_4MB
    machines = [int(row["value"]) for row in ROWS if row["kind"] == "mach"]
    assert len(machines) >= 12
    assert set(machines) <= {machine.number for machine in MACHINES.values()}


def test_the_flags_of_a_foreign_program_for_elbrus_8c_are_ours() -> None:
    header = elf(foreign_program()).header
    assert header["e_machine"] == "EM_MCST_ELBRUS"
    assert header["e_flags"] == machine_named("e8c").flags


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_found_again_from_its_flags(name: str) -> None:
    assert machine_of_flags(MACHINES[name].flags) == MACHINES[name]
    assert machine_named(name) == MACHINES[name]


def test_an_instruction_set_has_three_spellings() -> None:
    assert machine_named(4) == machine_named("v4") == machine_named("elbrus-v4")
    assert machine_named(0) == machine_named("generic")


def test_old_files_keep_the_machine_in_bits_30_to_28() -> None:
    assert machine_of_flags(3 << 28, EM_E2K_OLD).name == "v3"


def test_unknown_machines_are_named() -> None:
    with pytest.raises(OptionError, match="unknown e2k machine 'e99'"):
        machine_named("e99")
    with pytest.raises(ImageError, match="unknown e2k machine 99"):
        machine_of_flags(99 << 24)


@pytest.mark.parametrize(
    ("files", "result"),
    [
        (["generic"], "generic"),
        (["v3", "v5", "v4"], "v5"),
        (["e8c", "v4"], "e8c"),
        (["v2", "e8c", "generic"], "e8c"),
        (["e16c", "e16c"], "e16c"),
        (["v3", "e2s"], "e2s"),
    ],
)
def test_a_program_is_for_the_oldest_machine_that_runs_all_its_objects(files: list[str], result: str) -> None:
    assert merge_flags((name, MACHINES[name].flags) for name in files) == MACHINES[result].flags


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (["e8c", "e2s"], "e2s: code for e2s does not run with e8c, which is for e8c"),
        (["v5", "e8c"], "e8c: code for e8c does not run with v5, which is for v5"),
        (["e8c", "v5"], "v5: code for v5 does not run with e8c, which is for e8c"),
    ],
)
def test_objects_that_no_machine_runs_together_are_refused(files: list[str], text: str) -> None:
    with pytest.raises(ImageError, match=text):
        merge_flags((name, MACHINES[name].flags) for name in files)


def test_protected_mode_does_not_mix_with_ordinary_mode() -> None:
    flags = machine_named("v5").flags
    assert merge_flags([("a.o", flags | Flag.PM), ("b.o", flags | Flag.PM)]) == flags | Flag.PM
    with pytest.raises(ImageError, match=r"b\.o: protected and ordinary mode do not mix \(see a\.o\)"):
        merge_flags([("a.o", flags), ("b.o", flags | Flag.PM)])


def test_the_documentation_has_every_kind_and_machine_as_it_is() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "linker.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    kinds = {row[1]: row for row in rows if row[1].startswith("`R_E2K_")}
    assert len(kinds) == len(RELOC_KINDS)
    for kind in RELOC_KINDS.values():
        number, _, field, value = kinds[f"`{kind.name}`"]
        assert (int(number), field) == (kind.number, kind.field.value[0])
        assert value.removeprefix("refused: ") == kind.value.value.replace("|", "or")
        assert value.startswith("refused: ") == (kind.value in NOT_STATIC)
    machines = {row[0]: row for row in rows if len(row) == 4 and row[0] in MACHINES}
    assert len(machines) == len(MACHINES)
    for name, machine in MACHINES.items():
        assert machines[name][1:] == [str(machine.number), f"v{machine.version}", f"{machine.flags:#010x}"]
