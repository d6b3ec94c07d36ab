"""The numbers of ELF for e2k: machines in ``e_flags``, relocation kinds, and the few general numbers we
write.

``e_flags`` (e_machine 175)::

    31:24  machine: 0 any, 1..7 the instruction set, 19.. one CPU model
    6      PACK_SEGMENTS   protected mode, packed segments
    5      PM              protected mode (128-bit pointers)
    4      INCOMPAT        runs on exactly this machine; with 2, 3 and 5 it makes 2C+, 4C and 8C2 of v2, v3
    and v5 3      4MB_PAGES 2      X86APP          of the binary compiler 1:0    IPD

Old toolchains wrote e_machine 49 and the machine in bits 30:28. The numbers are those of MCST's binutils
(``elf/e2k.h``); 24..26 stand only in its header of 2025. A relocation kind is one row of :data:`RELOC_KINDS`:
number, name, the field it patches, the value it puts there, and which values fit.

P, the place, is the address of the 32-bit syllable that is patched, or of the first word of the pair for a
64-bit literal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag

from e2kemu.errors import ImageError, OptionError

EM_E2K = 175
EM_E2K_OLD = 49
PT_E2K_TAG = 0x70000000
"""Program header of memory tags in core files."""

ET_REL, ET_EXEC = 1, 2
PT_LOAD, PT_TLS = 1, 7
SHN_LORESERVE = 0xFF00


class Special(IntEnum):
    """Where a symbol is when it is in no section: its st_shndx."""

    UNDEFINED = 0
    ABSOLUTE = 0xFFF1
    COMMON = 0xFFF2


class SectionType(IntEnum):
    """sh_type."""

    NULL = 0
    PROGBITS = 1
    SYMTAB = 2
    STRTAB = 3
    RELA = 4
    NOTE = 7
    NOBITS = 8
    REL = 9
    INIT_ARRAY = 14
    FINI_ARRAY = 15
    PREINIT_ARRAY = 16
    GROUP = 17
    SYMTAB_SHNDX = 18


class SectionFlag(IntFlag):
    """sh_flags."""

    WRITE = 1
    ALLOC = 2
    EXEC = 4
    MERGE = 0x10
    STRINGS = 0x20
    INFO_LINK = 0x40
    LINK_ORDER = 0x80
    GROUP = 0x200
    TLS = 0x400
    COMPRESSED = 0x800
    EXCLUDE = 0x80000000


class SegmentFlag(IntFlag):
    """p_flags."""

    EXEC = 1
    WRITE = 2
    READ = 4


class Binding(IntEnum):
    """Binding of a symbol, st_info[7:4]."""

    LOCAL = 0
    GLOBAL = 1
    WEAK = 2


class SymbolType(IntEnum):
    """Type of a symbol, st_info[3:0]."""

    NOTYPE = 0
    OBJECT = 1
    FUNC = 2
    SECTION = 3
    FILE = 4
    COMMON = 5
    TLS = 6
    GNU_IFUNC = 10


class Visibility(IntEnum):
    """Visibility of a symbol, st_other[1:0]."""

    DEFAULT = 0
    INTERNAL = 1
    HIDDEN = 2
    PROTECTED = 3


# --- e_flags ---


class Flag(IntFlag):
    """e_flags without the machine."""

    IPD = 3
    X86APP = 4
    PAGES_4MB = 8
    INCOMPAT = 16
    PM = 32
    PACK_SEGMENTS = 64


@dataclass(frozen=True, slots=True)
class Machine:
    """What a file is for: an instruction set and all later ones, or exactly one CPU model (``model``)."""

    name: str
    number: int
    version: int
    model: bool

    @property
    def flags(self) -> int:
        """e_flags of a file for this machine."""
        return self.number << 24 | (Flag.INCOMPAT if self.model else 0)


MACHINES = {
    machine.name: machine
    for machine in (
        Machine("generic", 0, 0, False),
        *(Machine(f"v{version}", version, version, False) for version in range(1, 8)),
        Machine("e2c+", 2, 2, True),
        Machine("e2s", 3, 3, True),
        Machine("e8c", 19, 4, True),
        Machine("e1cp", 20, 4, True),
        Machine("e8c2", 5, 5, True),
        Machine("e12c", 21, 6, True),
        Machine("e16c", 22, 6, True),
        Machine("e2c3", 23, 6, True),
        Machine("e48c", 24, 7, True),
        Machine("e8v7", 25, 7, True),
        Machine("maket32c", 26, 7, True),
    )
}
"""Machines by name: ``vN`` for an instruction set, the names of ``-cpu`` for models."""

_BY_NUMBER = {(machine.number, machine.model): machine for machine in MACHINES.values()}


def machine_named(cpu: str | int) -> Machine:
    """The machine called ``cpu`` (``"e8c"``, ``"v4"``, ``"elbrus-v4"``, 4). Raises OptionError for an unknown
    name.
    """
    name = f"v{cpu}" if isinstance(cpu, int) and cpu else str(cpu or "generic").removeprefix("elbrus-")
    try:
        return MACHINES[name]
    except KeyError:
        raise OptionError(f"unknown e2k machine '{cpu}': known are {', '.join(MACHINES)}") from None


def machine_of_flags(e_flags: int, e_machine: int = EM_E2K) -> Machine:
    """The machine that ``e_flags`` of a file name. Raises ImageError for a number nobody has given away."""
    number = e_flags >> 28 & 7 if e_machine == EM_E2K_OLD else e_flags >> 24 & 0xFF
    model = bool(e_flags & Flag.INCOMPAT) or number >= 19
    machine = _BY_NUMBER.get((number, model))
    if machine is None and model:
        # v1, v4, v6, v7 and "any" with INCOMPAT: no model has such a number, so the instruction set is what
        # it is for.
        plain = _BY_NUMBER.get((number, False))
        machine = Machine(plain.name, number, plain.version, True) if plain else None
    if machine is None:
        raise ImageError(f"e_flags {e_flags:#x} name the unknown e2k machine {number}")
    return machine


def merge_flags(files: Iterable[tuple[str, int]]) -> int:
    """e_flags of a program made of ``files`` (name, e_flags): the oldest machine that runs them all.

    Raises ImageError naming the two files that cannot run together: two CPU models, code newer than the model
    of another file, protected mode beside ordinary mode.
    """
    result: tuple[str, Machine] | None = None
    mode: tuple[str, int] | None = None
    rest = 0
    for name, e_flags in files:
        machine = machine_of_flags(e_flags)
        if mode is not None and mode[1] != e_flags & Flag.PM:
            raise ImageError(f"{name}: protected and ordinary mode do not mix (see {mode[0]})")
        mode = name, e_flags & Flag.PM
        ipd = max(rest & Flag.IPD, e_flags & Flag.IPD)
        rest = (rest | e_flags) & (Flag.X86APP | Flag.PAGES_4MB | Flag.PM | Flag.PACK_SEGMENTS) | ipd
        if result is None:
            result = name, machine
            continue
        old_name, old = result
        newer, older = (machine, old) if machine.version >= old.version else (old, machine)
        if machine == old:
            continue
        if (machine.model and old.model) or (older.model and newer.version > older.version):
            raise ImageError(
                f"{name}: code for {machine.name} does not run with {old_name}, which is for {old.name}"
            )
        if machine.model or (not old.model and machine is newer):
            result = name, machine
    return (result[1].flags if result else 0) | rest


# --- relocations ---


class Field(Enum):
    """What a relocation patches; the value is the number of bytes it touches from r_offset on."""

    NONE = ("none", 0)
    WORD32 = ("word32", 4)
    WORD64 = ("word64", 8)
    LIT64 = ("lit64", 8)  # the LTS pair of a 64-bit literal: high word first
    DISP28 = ("disp[27:0]", 4)  # CS0 of disp, ldisp, ibranch, icall
    PDISP24 = ("pdisp[27:4]", 4)  # CS0 of pref
    SRC1 = ("src1[23:16]", 4)  # ALS
    DESCRIPTOR = ("descriptor", 16)

    @property
    def size(self) -> int:
        """Bytes touched."""
        return self.value[1]


class Value(Enum):
    """What a relocation puts in its field: the formula.

    S address of the symbol, A addend, P place, Z size of the symbol, B load base (0 in a static program), GOT
    address of ``_GLOBAL_OFFSET_TABLE_``, TLS start of the thread image, TP what the thread pointer %g13
    holds, relative to that image.
    """

    NOTHING = "nothing"
    SYMBOL = "S + A"
    PLACE = "S + A - P"
    BRANCH = "(S + A - P) >> 3"
    PREFETCH = "(((S + A) & ~127) - ((P - offset of CS0 in its wide instruction) & ~127)) >> 7"
    SIZE = "Z + A"
    BASE = "B + A"
    GOT_OFFSET = "S + A - GOT"
    GOT_SLOT = "slot(S) + A - GOT"
    GOT_MODULE = "slot(module id) + A - GOT"
    GOT_DTPREL = "slot(S - TLS) + A - GOT"
    GOT_TPREL = "slot(S - TP) + A - GOT"
    MODULE = "1: the id of the program itself"
    DTPREL = "S + A - TLS"
    TPREL = "S + A - TP"
    LOCAL = "1 if S is defined in the program, else 0"
    LOCAL_SRC1 = "0xc0 | (1 if S is defined in the program, else 0)"
    SAME_OBJECT = "S + A if S is defined in the same object, else 0"
    RESOLVER = "result of the resolver at B + A"
    COPY = "a copy of the variable of a shared library"
    TAGGED = "a tagged descriptor of protected mode"


class Fits(Enum):
    """Which values fit the field."""

    ANY = "any"
    BITFIELD = "signed or unsigned"
    SIGNED = "signed"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class RelocKind:
    """A kind of relocation."""

    number: int
    name: str
    field: Field
    value: Value
    fits: Fits = Fits.ANY


_F, _V, _S, _U, _B = Field, Value, Fits.SIGNED, Fits.UNSIGNED, Fits.BITFIELD

RELOC_KINDS: dict[int, RelocKind] = {
    kind.number: kind
    for kind in (
        RelocKind(0, "R_E2K_32_ABS", _F.WORD32, _V.SYMBOL, _B),
        RelocKind(2, "R_E2K_32_PC", _F.WORD32, _V.PLACE, _S),
        RelocKind(3, "R_E2K_AP_GOT", _F.WORD32, _V.TAGGED),
        RelocKind(4, "R_E2K_PL_GOT", _F.WORD32, _V.TAGGED),
        RelocKind(8, "R_E2K_32_JMP_SLOT", _F.WORD32, _V.SYMBOL, _B),
        RelocKind(9, "R_E2K_32_COPY", _F.NONE, _V.COPY),
        RelocKind(10, "R_E2K_32_RELATIVE", _F.WORD32, _V.BASE, _B),
        RelocKind(11, "R_E2K_32_IRELATIVE", _F.WORD32, _V.RESOLVER),
        RelocKind(12, "R_E2K_32_SIZE", _F.WORD32, _V.SIZE, _U),
        RelocKind(13, "R_E2K_32_DYNOPT", _F.WORD32, _V.SAME_OBJECT, _B),
        RelocKind(50, "R_E2K_64_ABS", _F.WORD64, _V.SYMBOL, _B),
        RelocKind(51, "R_E2K_64_ABS_LIT", _F.LIT64, _V.SYMBOL, _B),
        RelocKind(54, "R_E2K_64_PC_LIT", _F.LIT64, _V.PLACE, _S),
        RelocKind(63, "R_E2K_64_JMP_SLOT", _F.WORD64, _V.SYMBOL, _B),
        RelocKind(64, "R_E2K_64_COPY", _F.NONE, _V.COPY),
        RelocKind(65, "R_E2K_64_RELATIVE", _F.WORD64, _V.BASE, _B),
        RelocKind(66, "R_E2K_64_RELATIVE_LIT", _F.LIT64, _V.BASE, _B),
        RelocKind(67, "R_E2K_64_IRELATIVE", _F.WORD64, _V.RESOLVER),
        RelocKind(68, "R_E2K_64_SIZE", _F.WORD64, _V.SIZE, _U),
        RelocKind(69, "R_E2K_64_GOTOFF", _F.WORD64, _V.GOT_OFFSET, _S),
        RelocKind(70, "R_E2K_TLS_GDMOD", _F.WORD32, _V.GOT_MODULE, _S),
        RelocKind(71, "R_E2K_TLS_GDREL", _F.WORD32, _V.GOT_DTPREL, _S),
        RelocKind(74, "R_E2K_TLS_IE", _F.WORD32, _V.GOT_TPREL, _S),
        RelocKind(75, "R_E2K_32_TLS_LE", _F.WORD32, _V.TPREL, _S),
        RelocKind(76, "R_E2K_64_TLS_LE", _F.LIT64, _V.TPREL, _S),
        RelocKind(80, "R_E2K_TLS_32_DTPMOD", _F.WORD32, _V.MODULE),
        RelocKind(81, "R_E2K_TLS_32_DTPREL", _F.WORD32, _V.DTPREL, _S),
        RelocKind(82, "R_E2K_TLS_64_DTPMOD", _F.WORD64, _V.MODULE),
        RelocKind(83, "R_E2K_TLS_64_DTPREL", _F.WORD64, _V.DTPREL, _S),
        RelocKind(84, "R_E2K_TLS_TPOFF32", _F.WORD32, _V.TPREL, _S),
        RelocKind(85, "R_E2K_TLS_TPOFF64", _F.WORD64, _V.TPREL, _S),
        RelocKind(100, "R_E2K_AP", _F.DESCRIPTOR, _V.TAGGED),
        RelocKind(101, "R_E2K_PL", _F.DESCRIPTOR, _V.TAGGED),
        RelocKind(108, "R_E2K_GOT", _F.WORD32, _V.GOT_SLOT, _S),
        RelocKind(109, "R_E2K_GOTOFF", _F.WORD32, _V.GOT_OFFSET, _S),
        RelocKind(110, "R_E2K_DISP", _F.DISP28, _V.BRANCH, _S),
        RelocKind(111, "R_E2K_PREF", _F.PDISP24, _V.PREFETCH, _S),
        RelocKind(112, "R_E2K_NONE", _F.NONE, _V.NOTHING),
        RelocKind(114, "R_E2K_GOTPLT", _F.WORD32, _V.GOT_SLOT, _S),
        RelocKind(115, "R_E2K_ISLOCAL", _F.SRC1, _V.LOCAL_SRC1),
        RelocKind(118, "R_E2K_ISLOCAL32", _F.WORD32, _V.LOCAL),
        RelocKind(119, "R_E2K_ALIGN_RELAX", _F.NONE, _V.NOTHING),
        RelocKind(120, "R_E2K_MCSTBUG_140436_RELAX", _F.NONE, _V.NOTHING),
        RelocKind(256, "R_E2K_64_GOTOFF_LIT", _F.LIT64, _V.GOT_OFFSET, _S),
        RelocKind(257, "R_E2K_64_DYNOPT", _F.WORD64, _V.SAME_OBJECT, _B),
        RelocKind(258, "R_E2K_64_PC", _F.WORD64, _V.PLACE, _S),
    )
}
"""All kinds by number. The RELAX kinds mark what a linker that shortens code may change; ours does not."""

RELOC_BY_NAME = {kind.name: kind for kind in RELOC_KINDS.values()}
