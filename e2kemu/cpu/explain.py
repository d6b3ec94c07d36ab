"""One wide instruction, syllable by syllable and field by field: ``e2kemu-dis --explain``."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack

from e2kemu.cpu.bundle import Bundle, aas_indices, layout, split
from e2kemu.cpu.check import check
from e2kemu.cpu.decode import decode
from e2kemu.cpu.disasm import disassemble
from e2kemu.cpu.insn import AluInsn, Wide
from e2kemu.cpu.isa import formats as f
from e2kemu.errors import E2kError, OptionError

_CS1_FIELDS = {
    0: f.CS1_SETR,
    1: f.CS1_SETR,
    2: f.CS1_SETEI,
    3: f.CS1_WAIT,
    4: f.CS1_SETR,
    5: f.CS1_CALL,
    6: f.CS1_MAS,
    7: f.CS1_FLUSH,
    8: f.CS1_VFBG,
}


def parse_words(words: list[str]) -> bytes:
    """Hexadecimal words, with or without 0x -> bytes. Raises OptionError."""
    try:
        return pack(f"<{len(words)}I", *(int(word.rstrip(","), 16) for word in words))
    except Exception:
        bad = next((word for word in words if not _is_word(word)), words[0] if words else "")
        raise OptionError(f"'{bad}' is not a 32-bit word in hexadecimal") from None


def _is_word(word: str) -> bool:
    try:
        return 0 <= int(word.rstrip(","), 16) <= 0xFFFFFFFF
    except ValueError:
        return False


def explain(data: bytes, version: int, address: int = 0) -> list[str]:
    """The lines of the explanation. What cannot be decoded is explained as far as it can be cut."""
    bundle = split(data, version, address)
    wide: Wide | None = None
    lines = []
    try:
        wide = decode(data, version, address)
    except E2kError as error:
        lines.append(f"error: {error}")
    else:
        lines += ["{", *(f"  {line}" for line in disassemble(wide)), "}"]
        problem = check(wide)
        lines.append(f"illegal: {problem}" if problem else f"{wide.size} bytes, instruction set v{version}")
    return [*lines, *_syllables(bundle, version, wide)]


def _syllables(bundle: Bundle, version: int, wide: Wide | None) -> Iterator[str]:
    place = layout(bundle.hs, version)
    yield from _syllable("HS", 0, bundle.hs, f.HS)
    if bundle.ss is not None:
        yield from _syllable("SS", 4 * place.ss, bundle.ss, f.SS2 if bundle.ss >> 20 & 1 else f.SS1)
    insns = {insn.channel: insn for insn in wide.alu} if wide else {}
    for channel, word in enumerate(bundle.als):
        if word is not None:
            yield from _syllable(f"ALS{channel}", 4 * place.als[channel], word, f.ALS)
            yield from _operation(insns.get(channel))
    if bundle.cs0 is not None:
        prefetch = bundle.cs0 >> 28 == 1
        yield from _syllable("CS0", 4 * place.cs0, bundle.cs0, f.CS0, *(f.PREF,) * prefetch)
    if bundle.ales25 is not None:
        yield f"ALES2:5 {bundle.ales25:#010x}  offset {4 * place.ales25:#x}"
    if bundle.cs1 is not None:
        detail = _CS1_FIELDS.get(bundle.cs1 >> 28)
        yield from _syllable("CS1", 4 * place.cs1, bundle.cs1, f.CS1, *((detail,) if detail else ()))
        if bundle.cs1 >> 28 < 2 and bundle.middle:
            yield from _syllable("LTS0 of CS1", _lts_offset(bundle, 0), bundle.middle[-1], f.LTS0_SETWD)
    yield from _halves(bundle, 4 * place.halves)
    for n in reversed(range(min(len(bundle.middle), 4))):
        yield f"LTS{n} {bundle.middle[-1 - n]:#010x}  offset {_lts_offset(bundle, n):#x}"
    for n, word in enumerate(bundle.pls):
        yield from _syllable(f"PLS{n}", 4 * place.pls[n], word, f.PLS)
    for n, word in enumerate(bundle.cds):
        for half, where in ((word >> 16, 2), (word & 0xFFFF, 0)):
            if half:
                yield from _syllable(
                    f"CDS{n}.{'high' if where else 'low'}", 4 * place.cds[n] + where, half, f.CDS
                )


def _lts_offset(bundle: Bundle, n: int) -> int:
    return bundle.size - 4 * (len(bundle.pls) + len(bundle.cds) + n + 1)


def _halves(bundle: Bundle, start: int) -> Iterator[str]:
    found = [(f"ALES{n}", bundle.ales[n], f.ALES) for n in (0, 1, 3, 4) if bundle.ales[n] is not None]
    for n in aas_indices(f.SS1["aa"].of(bundle.ss or 0)):
        if bundle.aas[n] is not None:
            found.append((f"AAS{n}", bundle.aas[n], f.AAS_DST if n < 2 else f.AAS))
    for number, (name, half, syllable) in enumerate(found):
        offset = start + 4 * (number // 2) + (0 if number % 2 else 2)
        yield from _syllable(name, offset, half or 0, syllable)


def _syllable(name: str, offset: int, word: int, *tables: f.Syllable) -> Iterator[str]:
    digits = tables[0].bits // 4
    yield f"{name} {word:#0{digits + 2}x}  offset {offset:#x}  {tables[-1].doc}"
    for table in tables:
        for field in table:
            if table is not tables[-1] and field.name == "param":
                continue
            bits = f"{field.hi}:{field.lo}" if field.hi != field.lo else f"{field.hi}"
            yield f"  {field.name:8s} {bits:>6s} {field.of(word):#8x}  {field.doc}"


def _operation(insn: AluInsn | None) -> Iterator[str]:
    if insn is not None:
        doc = insn.op.doc.splitlines()[0] if insn.op.doc else "its meaning is not described"
        yield f"  = {insn.op.name} ({insn.op.fmt.name}): {doc}"
