"""A decoded wide instruction: what decode produces, encode consumes, executors and printers read.

Three levels: ``bundle.Bundle`` is the syllables as words; ``Wide`` (here) is their meaning, one
object per operation; text is asm/disasm. Everything is immutable. Field names are those of the
syllables (encoding reference: HS, SS, ALS, ALES, CS0, CS1, PLS, CDS, AAS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar, dataclass_transform

from e2kemu.cpu.isa.notation import Op

C = TypeVar("C")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[C]) -> type[C]:
    """A dataclass with slots, compared and hashed by value, that nobody changes.

    The type checker says so; at run time nothing does, because frozen dataclasses take three times as long
    to make, and decoding is mostly making them.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


class Kind(Enum):
    """What an operand byte names."""

    B = "%b"          # rotatable window register, index relative to BR
    R = "%r"          # window register
    G = "%g"          # global register
    IMM = "imm"       # imm5 in src1, imm4 in src2: unsigned
    LIT16 = "lit16"   # half of an LTS, sign-extended
    LIT32 = "lit32"   # an LTS, sign-extended
    LIT64 = "lit64"   # two LTS
    CTPR = "%ctpr"    # dst only: value 1..3
    TST = "%tst"      # dst only
    TC = "%tc"        # dst only
    TCD = "%tcd"      # dst only
    EMPTY = "%empty"  # dst only: the result is thrown away (0xdf, "%empty.hi" of quad ops)
    EMPTY_LO = "%empty.lo"


@value
class Operand:
    """One operand. ``value`` is the register number, the immediate, or the literal's bits as an
    unsigned number of its own width (16, 32, 64); ``code`` the operand byte it was encoded as
    (None when not encoded yet: the encoder then chooses the literal's slot)."""

    kind: Kind
    value: int = 0
    code: int | None = None


@value
class Guard:
    """One condition of an operation (RLP) or of a merge (MRGC).

    ``is_pcnt`` false: predicate register ``index`` must be true; true: LSR.pcnt <= index.
    ``negated`` inverts it. All pred guards of an operation are OR-ed, all pcnt guards are OR-ed, the
    two results AND-ed; a missing group counts as true.
    """

    index: int
    is_pcnt: bool = False
    negated: bool = False


@value
class Aau:
    """The array operand of staa/ldaa/aaurw/aaurr (ALS[23:8] and its literal)."""

    opce1: int
    literal: int | None = None
    literal_slot: int | None = None


@value
class AluInsn:
    """One operation of an arithmetic-logic channel.

    ``mas`` is the 7-bit memory access specifier (0: default). ``sreg`` is the number of a state
    register (rws/rwd/rrs/rrd), ``pred`` the destination predicate of a compare. ``merge`` holds the
    MRGC guards of merges. ``pair_channel`` is the second channel of a quad operation.
    ``increment`` are the guards of a conditional address increment (AM) or None.
    """

    channel: int
    op: Op
    sm: bool = False
    src1: Operand | None = None
    src2: Operand | None = None
    src3: Operand | None = None
    src4: Operand | None = None
    dst: Operand | None = None
    pred: int | None = None
    sreg: int | None = None
    imm8: int | None = None
    aau: Aau | None = None
    mas: int = 0
    guards: tuple[Guard, ...] = ()
    merge: tuple[Guard, ...] = ()
    increment: tuple[Guard, ...] | None = None
    pair_channel: int | None = None


@value
class Condition:
    """SS ctcond: ``type`` 0..15 (encoding reference 2.1), ``psrc`` 5 bits."""

    type: int
    psrc: int = 0


@value
class Stub:
    """The SS syllable, both formats; ``sf2`` tells which (then the advance fields are 0)."""

    sf2: bool = False
    ipd: int = 0
    eap: bool = False
    bap: bool = False
    srp: bool = False
    vfdi: bool = False
    crp: bool = False
    abgi: bool = False
    abgd: bool = False
    abnf: bool = False
    abnt: bool = False
    abpf: bool = False
    abpt: bool = False
    alcf: bool = False
    alct: bool = False
    aa: int = 0
    ctop: int = 0                      # 0 none, 1..3: ct/call through %ctprN
    condition: Condition = Condition(0)
    rpc: Guard | None = None           # condition of crp/srp
    ts_opc: int = 0                    # SF2: invts/flushts/...
    ctp_call: bool = False             # SF2, v7
    abgc: int = 0                      # SF2, v6+: abgc n (bits 15:13)
    abgc_condition: int = 0            # SF2, bits 24:23


@value
class Cs0:
    """The CS0 operation: ``name`` ibranch pref puttsd done iret hret glaunch disp ldisp sdisp gettsd
    return icall hcall; ``disp`` is a signed distance in bytes from the wide instruction."""

    name: str
    ctpr: int = 0
    disp: int = 0
    param: int = 0                     # the raw 28 bits (sdisp number in 4:0, pref fields)


@value
class Cs1:
    """One CS1 operation: setwd setbn setbp settr vfrpsz setei setsft wait call icall hcall mas
    flushr flushc fillr fillc vfbg, with its fields by the reference's names (wsz nfx dbl rbs rsz
    rcur psz rpsz wbs ...). One CS1 word may give several (setwd + setbn + setbp). ``mas`` has the
    memory access specifiers of channels without operation (alc0 alc2 alc3 alc5); the others are in
    ``AluInsn.mas``."""

    name: str
    fields: Mapping[str, int] = field(default_factory=dict)


@value
class Elp:
    """An elementary predicate @p0..@p3: ``source`` is the 7-bit ELP code."""

    source: int


@value
class Clp:
    """A logical operation @p4..@p6: ``opc`` 0 andp, 1 landp, 3 movep; ``dst`` None: not written."""

    opc: int
    arg0: int
    neg0: bool
    arg1: int
    neg1: bool
    dst: int | None


@value
class Mova:
    """An array read (AAS channel 0..3)."""

    channel: int
    opc: int
    area: int
    ind: int
    am: bool
    be: bool
    dst: Operand


@value
class Wide:
    """One wide instruction of ``size`` bytes at ``address``, decoded for instruction set ``version``.

    ``clps`` has up to three entries, index n writes @p(4+n). ``reserved`` names the bits that are set
    though the reference gives them no meaning (``check`` refuses them; an encoder drops them).
    """

    version: int
    size: int
    address: int = 0
    nop: int = 0
    loop_mode: bool = False
    set_mark: bool = False
    alu: tuple[AluInsn, ...] = ()
    stub: Stub | None = None
    cs0: Cs0 | None = None
    cs1: tuple[Cs1, ...] = ()
    elps: tuple[Elp | None, ...] = ()
    clps: tuple[Clp | None, ...] = ()
    movas: tuple[Mova, ...] = ()
    reserved: tuple[str, ...] = ()

    def at(self, address: int) -> Wide:
        """The same wide instruction at another address."""
        return Wide(
            self.version,
            self.size,
            address,
            self.nop,
            self.loop_mode,
            self.set_mark,
            self.alu,
            self.stub,
            self.cs0,
            self.cs1,
            self.elps,
            self.clps,
            self.movas,
            self.reserved,
        )


@value
class Fapb:
    """One half of an instruction of the array prefetch program; fields as in the APS syllable.

    ``flag`` is ct of the left half (last instruction) and dpl of the right one (both halves are one
    double-length load). ``fmt`` 0 is no operation.
    """

    flag: bool = False
    si: bool = False
    dcd: int = 0
    fmt: int = 0
    mrng: int = 0
    d: int = 0
    incr: int = 0
    ind: int = 0
    asz: int = 0
    abs: int = 0
    disp: int = 0                      # 32 bits, unsigned


@value
class Apb:
    """A 16-byte instruction of the array prefetch program."""

    left: Fapb
    right: Fapb
    address: int = 0
