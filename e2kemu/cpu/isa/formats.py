"""The syllables of a wide instruction, field by field: the one table of bit positions.

A wide instruction is a row of little-endian 32-bit words and 16-bit halves ("syllables"). Each
``Syllable`` here lists its fields with their bits and meaning; decoding, encoding, ``--explain`` and
the reference document all read this table. Facts: the encoding reference (HS 1.1, APB 1.4, SS 2,
ALS/ALES 3, CS0/CS1 4, CDS/PLS 5, AAS 6), checked against the vendor's assembler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """Bits ``hi:lo`` (LSB 0) of a syllable."""

    name: str
    hi: int
    lo: int
    doc: str

    def of(self, word: int) -> int:
        """The value of this field in ``word``."""
        return word >> self.lo & (1 << self.hi - self.lo + 1) - 1

    def put(self, value: int) -> int:
        """``value`` at its place. Raises ValueError when it does not fit."""
        if not 0 <= value < 1 << self.hi - self.lo + 1:
            raise ValueError(f"{value:#x} does not fit in {self.name} (bits {self.hi}:{self.lo})")
        return value << self.lo

    @property
    def mask(self) -> int:
        """The bits of this field in the syllable."""
        return (1 << self.hi + 1) - (1 << self.lo)


class Syllable:
    """A kind of syllable: its name, width in bits and fields."""

    def __init__(self, name: str, bits: int, doc: str, *fields: Field) -> None:
        self.name, self.bits, self.doc = name, bits, doc
        self.fields = fields
        self._by_name = {field.name: field for field in fields}
        self.known = 0
        for field in fields:
            self.known |= field.mask

    def __getitem__(self, name: str) -> Field:
        return self._by_name[name]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def unknown_bits(self, word: int) -> int:
        """The bits set in ``word`` that belong to no field."""
        return word & ~self.known


HS = Syllable(
    "HS", 32, "header: which syllables follow, and the length",
    Field("mdl", 3, 0, "offset of the half-words = 4 * (mdl + 1)"),
    Field("lng", 6, 4, "size of the wide instruction = 8 * (lng + 1) bytes"),
    Field("nop", 9, 7, "cycles to wait after issue"),
    Field("lm", 10, 10, "loop_mode"),
    Field("x", 11, 11, "unused, must be 0"),
    Field("ss", 12, 12, "SS present"),
    Field("sw", 13, 13, "set_mark"),
    Field("cs0", 14, 14, "CS0 present"),
    Field("cs1", 15, 15, "CS1 present"),
    Field("cds", 17, 16, "number of CDS words"),
    Field("pls", 19, 18, "number of PLS words"),
    Field("ales", 25, 20, "bit n: the operation of ALC n is a long one"),
    Field("als", 31, 26, "bit n: ALC n has an operation"),
)

SS1 = Syllable(
    "SS (SF1)", 32, "stub: control transfer, rotation, loop counters",
    Field("ipd", 31, 30, "prefetch depth of the CTPR operations"),
    Field("eap", 29, 29, "end the array prefetch program"),
    Field("bap", 28, 28, "begin the array prefetch program"),
    Field("srp", 27, 27, "recovery point, high bit: 2 srp, 3 slrp"),
    Field("vfdi", 26, 26, "verify the deferred floating point interrupt"),
    Field("crp", 25, 25, "recovery point, low bit: 1 crp"),
    Field("abgi", 24, 24, "rotate globals: increment"),
    Field("abgd", 23, 23, "rotate globals: decrement"),
    Field("abnf", 22, 22, "advance the %b base when the condition is false"),
    Field("abnt", 21, 21, "... when it is true"),
    Field("type", 20, 20, "0: this format (SF1)"),
    Field("abpf", 19, 19, "advance the predicate base when the condition is false"),
    Field("abpt", 18, 18, "... when it is true"),
    Field("alcf", 17, 17, "advance the loop counters when the condition is false"),
    Field("alct", 16, 16, "... when it is true"),
    Field("aa", 15, 12, "bit i: array channel i has a mova"),
    Field("ctop", 11, 10, "0: no CTPR transfer, 1..3: ct or call through %ctpr1..3"),
    Field("ctcond", 8, 5, "type of the condition"),
    Field("psrc", 4, 0, "predicate or ALC selection of the condition"),
)

SS2 = Syllable(
    "SS (SF2)", 32, "stub, second format",
    Field("ipd", 31, 30, "prefetch depth of the CTPR operations"),
    Field("ts_hi", 29, 28, "type-table operation, bits 2:1"),
    Field("srp", 27, 27, "recovery point, high bit"),
    Field("ts_lo", 26, 26, "type-table operation, bit 0"),
    Field("crp", 25, 25, "recovery point, low bit"),
    Field("abgc_cond", 24, 23, "when abgc acts: 1 always, 2 if the predicate, 3 if not"),
    Field("type", 20, 20, "1: this format (SF2)"),
    Field("abgc", 15, 13, "new rotation of globals (v6 and later)"),
    Field("ctp_call", 12, 12, "the prepared transfer will be a call (v7)"),
    Field("ctop", 11, 10, "0: no CTPR transfer, 1..3: ct or call through %ctpr1..3"),
    Field("ctcond", 8, 5, "type of the condition"),
    Field("psrc", 4, 0, "predicate or ALC selection of the condition"),
)

ALS = Syllable(
    "ALS", 32, "operation of one arithmetic-logic channel",
    Field("sm", 31, 31, "speculative mode"),
    Field("cop", 30, 24, "operation code"),
    Field("src1", 23, 16, "first operand, or opce, or a state register (reads)"),
    Field("src2", 15, 8, "second operand"),
    Field("dst", 7, 0, "result, stored value, compare (opce 7:5, predicate 4:0) or state register (writes)"),
)

ALES = Syllable(
    "ALES", 16, "extension of an ALS",
    Field("opc2", 15, 8, "second operation code"),
    Field("lo", 7, 0, "third operand, 8-bit literal or third operation code"),
)

AAU = Syllable(
    "ALS[23:8] of array operations", 16, "the array operand",
    Field("d", 15, 11, "%aad"),
    Field("ind", 10, 7, "%aasti, or index of the register"),
    Field("code", 6, 2, "register code of aaurw and aaurr"),
    Field("incr", 6, 4, "%aaincr"),
    Field("am", 2, 2, "advance the index by %aaincr"),
    Field("lt", 1, 0, "0: no literal, n: displacement in LTS(n-1)"),
)

CS0 = Syllable(
    "CS0", 32, "control transfer preparation",
    Field("ctpr", 31, 30, "%ctpr1..3, or 0"),
    Field("opc", 29, 28, "operation"),
    Field("param", 27, 0, "displacement (8-byte units), number or type"),
)

PREF = Syllable(
    "CS0 of pref", 28, "code prefetch",
    Field("disp", 27, 4, "displacement in cache lines"),
    Field("ipd", 3, 3, "prefetch depth"),
    Field("ipr", 2, 0, "%ipr"),
)

CS1 = Syllable(
    "CS1", 32, "window and memory control",
    Field("opc", 31, 28, "operation"),
    Field("param", 27, 0, "its fields"),
)

CS1_SETR = Syllable(
    "CS1 of SETR0, SETR1, SETBR", 28, "register windows and rotation",
    Field("setbp", 27, 27, "setbp is there"),
    Field("setbn", 26, 26, "setbn is there"),
    Field("settr", 25, 25, "settr is there"),
    Field("psz", 22, 18, "setbp: size of the rotating predicates - 1"),
    Field("rcur", 17, 12, "setbn: current rotation"),
    Field("rsz", 11, 6, "setbn: size in quads - 1"),
    Field("rbs", 5, 0, "setbn: first quad"),
)

CS1_SETEI = Syllable(
    "CS1 of SETEI", 28, "event identifier",
    Field("sft", 27, 27, "1: setsft, 0: setei"),
    Field("eir", 7, 0, "event identifier"),
)

CS1_WAIT = Syllable(
    "CS1 of WAIT", 28, "barriers",
    Field("mem_mod", 13, 13, "memory model (v6 and later)"),
    Field("int", 12, 12, "interrupts (v6 and later)"),
    Field("mt", 11, 11, "multithreading (v6 and later)"),
    Field("lal", 10, 10, "load after load (v6 and later)"),
    Field("las", 9, 9, "load after store (v6 and later)"),
    Field("sal", 8, 8, "store after load (v5 and later)"),
    Field("sas", 7, 7, "store after store (v5 and later)"),
    Field("trap", 6, 6, "all previous traps"),
    Field("ma_c", 5, 5, "all memory accesses"),
    Field("fl_c", 4, 4, "all cache flushes"),
    Field("ld_c", 3, 3, "all loads"),
    Field("st_c", 2, 2, "all stores"),
    Field("all_e", 1, 1, "all operations, exceptions known"),
    Field("all_c", 0, 0, "all operations complete"),
)

CS1_CALL = Syllable(
    "CS1 of CALL", 28, "call",
    Field("ctopc", 9, 7, "0 call, 1 icall, 2 hcall"),
    Field("wbs", 6, 0, "new window base - old one, in quads"),
)

CS1_MAS = Syllable(
    "CS1 of MAS", 28, "memory access specifiers",
    Field("alc0", 27, 21, "of ALC0"),
    Field("alc2", 20, 14, "of ALC2"),
    Field("alc3", 13, 7, "of ALC3"),
    Field("alc5", 6, 0, "of ALC5"),
)

CS1_FLUSH = Syllable(
    "CS1 of FLUSHR", 28, "spill and fill of windows",
    Field("flushr", 0, 0, "spill the register windows"),
    Field("flushc", 1, 1, "spill the chain windows"),
    Field("fillr", 2, 2, "fill the register windows (v6 and later)"),
    Field("fillc", 3, 3, "fill the chain windows (v6 and later)"),
)

CS1_VFBG = Syllable(
    "CS1 of BG", 28, "verify global registers",
    Field("chkm4", 16, 16, "check mode"),
    Field("dmask", 15, 8, "mask"),
    Field("umask", 7, 0, "mask"),
)

LTS0_SETWD = Syllable(
    "LTS0 of SETR0 and SETR1", 32, "window size",
    Field("type", 31, 17, "settr: type"),
    Field("rpsz", 16, 12, "vfrpsz: parameters in quads"),
    Field("wsz", 11, 5, "size in quads"),
    Field("nfx", 4, 4, "extended halves are not kept"),
    Field("dbl", 3, 3, "v3 and later"),
    Field("mcn", 2, 2, "v7"),
)

PLS = Syllable(
    "PLS", 32, "predicate logic",
    Field("elp0", 30, 24, "source of @p0 (PLS0) or @p2 (PLS1)"),
    Field("elp1", 22, 16, "source of @p1 (PLS0) or @p3 (PLS1)"),
    Field("opc", 15, 14, "0 andp, 1 landp, 3 movep"),
    Field("neg0", 13, 13, "invert the first argument"),
    Field("arg0", 12, 10, "first argument @p0..@p6"),
    Field("neg1", 9, 9, "invert the second argument"),
    Field("arg1", 8, 6, "second argument"),
    Field("vdst", 5, 5, "the result is written to pdst"),
    Field("pdst", 4, 0, "%pred"),
)

CDS = Syllable(
    "CDS half", 16, "condition of operations",
    Field("opc", 15, 14, "0 RLP of ALC0-2, 1 RLP of ALC3-5, 2 MRGC of ALC0-2, 3 MRGC of ALC3-5"),
    Field("am", 13, 13, "RLP: condition of the address increment; MRGC of ALC0-2: of crp, srp, slrp"),
    Field("mask", 12, 10, "bit i: ALC 3*cluster+i"),
    Field("neg", 9, 7, "bit i inverts for that ALC; bit 2 also for am"),
    Field("pred", 6, 0, "0x60+n %predN, 0x40+n %pcntN"),
)

AAS = Syllable(
    "AAS2..AAS5", 16, "array read of channel 0..3",
    Field("be", 15, 15, "big endian"),
    Field("opc", 14, 12, "1 movab, 2 movah, 3 movaw, 4 movad, 5 movaq, 7 movaqp"),
    Field("area", 10, 6, "area of the array prefetch buffer"),
    Field("ind", 5, 1, "offset within the element"),
    Field("am", 0, 0, "advance the area"),
)

AAS_DST = Syllable(
    "AAS0, AAS1", 16, "destinations of the array reads",
    Field("even", 15, 8, "of channel 0 or 2"),
    Field("odd", 7, 0, "of channel 1 or 3"),
)

LTS = Syllable("LTS", 32, "literal", Field("value", 31, 0, "literal bits"))

APS = Syllable(
    "APS", 32, "half of an instruction of the array prefetch program",
    Field("ct", 31, 31, "left: last instruction; right (dpl): both halves are one double-length load"),
    Field("si", 30, 30, "format select of v1"),
    Field("dcd", 29, 28, "counter"),
    Field("fmt", 27, 25, "1 byte, 2 half, 3 word, 4 double, 5 quad, 0 no operation"),
    Field("mrng", 24, 20, "bytes transferred, 0 means 32"),
    Field("d", 19, 15, "%aad"),
    Field("incr", 14, 12, "%aaincr"),
    Field("ind", 11, 8, "%aaind"),
    Field("asz", 7, 5, "area size"),
    Field("abs", 4, 0, "area base"),
)

SYLLABLES = (HS, SS1, SS2, ALS, ALES, AAU, CS0, PREF, CS1, CS1_SETR, CS1_SETEI, CS1_WAIT, CS1_CALL, CS1_MAS,
             CS1_FLUSH, CS1_VFBG, LTS0_SETWD, PLS, CDS, AAS, AAS_DST, LTS, APS)
"""All of them, in the order of the reference."""

ALES_DEFAULT = 0x01C0
"""Value of ALES2 and ALES5 when their word is absent: opc2 EXT, opce NONE."""

NONE = 0xC0
"""The operand byte of a slot that an operation does not use."""

MAS_AAU = 0x3F
"""The memory access specifier that turns array stores and loads into accesses to array registers."""
