"""``docs/isa.md``, written from the description: ``python -m e2kemu.cpu.isa_doc > docs/isa.md``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from e2kemu.cpu.isa.aau import FAMILIES, MOVA
from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.cpu.isa.formats import SYLLABLES
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import VERSIONS, Op
from e2kemu.cpu.isa.plu import CLP_DOCS, CLP_NAMES, CONDITION_DOCS, elp_name
from e2kemu.cpu.isa.registers import STATE_REGISTERS
from e2kemu.cpu.isa.table import rows

_PREFIX = {"S": "%r", "D": "%dr", "Q": "%qr", "P": "%qpr"}
_PLACES = {"src1": "A", "src2": "B", "src3": "C", "src4": "V", "dst": "R"}

_INTRODUCTION = """# The e2k instruction set

Written by `python -m e2kemu.cpu.isa_doc` from `e2kemu/cpu/isa/`: change it there.

A wide instruction is 8 to 64 bytes of *syllables* and does up to six arithmetic-logic operations (channels,
ALC0..ALC5), a control transfer, window and rotation control, predicate logic and array reads at once. All
of its operations read what was there before it. In the assembler one wide instruction is written in braces,
one operation a line.
"""

_OPERANDS = """## Operands

One byte names an operand.

| code | src1 | src2 | src3, stored value | result |
|---|---|---|---|---|
| 00-7f | `%b[n]` | `%b[n]` | `%b[n]` | `%b[n]` |
| 80-bf | `%r(n-0x80)` | `%r` | `%r` | `%r` |
| c0-cf | 0..15 | 0..15 | - | cd `%tst`, ce `%tc`, cf `%tcd` |
| d0, d1 / d4, d5 | 16.. / 20.. | 16 bits: low / high half of LTS0, LTS1 | - | d1-d3 `%ctpr1..3` |
| d8-db | 24..27 | 32 bits: LTS0..3 | - | - |
| dc-de | 28..30 | 64 bits: LTSn low, LTS(n+1) high | - | de `%empty.lo`, df `%empty` |
| e0-ff | `%g(n-0xe0)` | `%g` | `%g` | `%g` |

Literals of 16 and 32 bits are sign-extended, the short numbers are not. In the tables `A` and `B` are the
first and second source (register, short number; `B` also a literal), `C` the third source, `V` the stored
value and `R` the result, all registers; `%rN` stands for 32 bits, `%drN` 64 (also the 80-bit view), `%qrN` a
pair of registers, `%qprN` a 128-bit register, each of `%r`, `%b[]` or `%g`. `,N` is the channel; `,sm`
after it asks for speculative mode.
"""

_ENCODING = """Encoding: the format, then the fixed codes in hexadecimal: `cop` ALS[30:24], `opc2` ALES[15:8],
`lo` ALES[7:0], `opce` ALS[23:16], `cmp` ALS[7:5], `mas` the memory access specifier. Channels: by the
instruction sets that have them. "-" means that the description has no meaning for the operation yet; it
then raises exc_illegal_opcode when executed.
"""


def _chapters() -> tuple[tuple[str, Callable[[Op], bool]], ...]:
    """Title -> which rows belong there; the first that agrees has the row."""
    return (
        ("Any logic function of three operands", lambda op: "plog_" in op.name),
        ("Array access", lambda op: op.fmt.name in ("ALOPF10", "ALOPF19", "ALOPF20")),
        ("State registers", lambda op: op.fmt.name in ("ALOPF15", "ALOPF16")),
        ("Memory", lambda op: op.mas or bool(op.load or op.store) or op.fmt.name in ("ALOPF3", "ALOPF13")),
        ("Floating point, 80 bits", lambda op: op.family == "fp80"),
        ("Floating point", lambda op: op.family == "fp"),
        ("Packed, 128 bits", lambda op: op.family in ("packed128", "fp-packed128") or op.name == "qpmrgp"),
        ("Packed, 64 bits", lambda op: op.family in ("packed64", "fp-packed64") or op.name == "pmrgp"),
        ("Integer compares into predicates", lambda op: op.fmt.name in ("ALOPF7", "ALOPF8")),
        ("Integer, moves, tags and the rest", lambda op: True),
    )


def channels_text(op: Op) -> str:
    """``v1-v3 0134, v4+ 012345``."""
    spans: list[tuple[int, int, str]] = []
    for version in VERSIONS:
        channels = op.channels[version]
        if spans and spans[-1][2] == channels:
            spans[-1] = (spans[-1][0], version, channels)
        else:
            spans.append((version, version, channels))
    texts = []
    for first, last, channels in spans:
        if channels:
            until = "+" if last == VERSIONS[-1] else f"-v{last}" if last != first else ""
            texts.append(f"v{first}{until} {channels}")
    pair = f" (pairs {op.pair})" if op.pair else ""
    return ", ".join(texts) + pair


def syntax(op: Op) -> str:
    """``addd,N %drA, %drB, %drR``."""
    sizes = op.syntax_sizes
    operands = []
    for slot in op.fmt.slots:
        if slot == "pred":
            operands.append("%predR")
        elif slot == "sreg":
            operands.append("%name")
        elif slot in ("aau", "aaldi"):
            operands.append("%aaname" if op.mas_code is not None else "%aadN [ %aastiM ]")
        else:
            if slot == "dst" and op.imm8:
                operands.append("imm8")
            operands.append(_PREFIX[sizes[slot]] + _PLACES[slot])
    if op.name.startswith("ldaa"):
        operands = ["%aadN [ %aastiM ]", _PREFIX[op.sizes[0]] + "R"]
    return f"{op.name},N {', '.join(operands)}"


def encoding(op: Op) -> str:
    """``ALOPF11 cop 10 opc2 01 lo c0``."""
    codes = (
        ("cop", op.cop),
        ("opc2", op.opc2),
        ("lo", op.ales_lo),
        ("opce", op.opce),
        ("cmp", op.cmpopce),
        ("mas", op.mas_code),
    )
    return op.fmt.name + "".join(f" {name} {value:02x}" for name, value in codes if value is not None)


def _meaning(op: Op) -> str:
    text = " ".join(op.doc.split("\n\n")[0].split()) or "-"
    return text.replace("|", "\\|")


def _operations() -> Iterator[str]:
    yield "## Operations of the channels\n"
    yield _ENCODING
    left = list(rows())
    for title, belongs in _chapters():
        chosen = [op for op in left if belongs(op)]
        left = [op for op in left if not belongs(op)]
        yield f"### {title}\n"
        if "plog" in chosen[0].name:
            yield from _logic(chosen)
            continue
        yield "| syntax | encoding | channels | meaning |\n|---|---|---|---|"
        for op in sorted(chosen, key=lambda op: (op.name, op.fmt.name)):
            meaning = f"another name of `{op.alias_of}`" if op.alias_of else _meaning(op)
            yield f"| `{syntax(op)}` | {encoding(op)} | {channels_text(op)} | {meaning} |"
        yield ""


def _logic(ops: list[Op]) -> Iterator[str]:
    yield "Bit i of the result is bit (4a + 2b + c) of the table; a, b, c are bits i of the three sources.\n"
    yield "| syntax | encoding | channels |\n|---|---|---|"
    for name in ("plog", "qplog"):
        first = next(op for op in ops if op.name == f"{name}_0x00")
        line = syntax(first).replace("0x00", "0xTT")
        yield (
            f"| `{line}`, TT = 00..ff, also in decimal | {first.fmt.name} cop = TT[6:0], "
            f"opc2 = {first.opc2:02x} + TT[7] | {channels_text(first)} |"
        )
    aliases = [op for op in ops if op.alias_of and not op.name.split("_")[1].isdigit()]
    named = [(op.name, op.alias_of) for op in aliases]
    yield "\nNamed tables: " + ", ".join(f"`{name}` = `{table}`" for name, table in named) + ".\n"


def _syllables() -> Iterator[str]:
    yield "## Syllables\n"
    yield "In the order in which they are stored; bits are numbered from the least significant one.\n"
    for syllable in SYLLABLES:
        yield f"### {syllable.name}\n\n{syllable.doc[0].upper()}{syllable.doc[1:]}; {syllable.bits} bits.\n"
        yield "| bits | field | meaning |\n|---|---|---|"
        for field in syllable:
            bits = f"{field.hi}:{field.lo}" if field.hi != field.lo else f"{field.hi}"
            yield f"| {bits} | {field.name} | {field.doc} |"
        yield ""


def _control() -> Iterator[str]:
    yield "## Control\n\n### Conditions (SS ctcond)\n"
    yield "| type | true when |\n|---|---|"
    for kind, doc in CONDITION_DOCS.items():
        escaped = doc.replace("|", "\\|")
        yield f"| {kind} | {escaped} |"
    yield "\n### CS0\n\n| operation | %ctpr | opc | parameter | since | meaning |\n|---|---|---|---|---|---|"
    for cs0 in CS0_OPS:
        what = f"type {cs0.type}" if cs0.type is not None else cs0.kind
        ctprs = ", ".join(map(str, cs0.ctprs))
        yield f"| `{cs0.name}` | {ctprs} | {cs0.opc} | {what} | v{cs0.since} | {cs0.doc} |"
    yield "\n### CS1\n\n| operation | opc | fields | since | meaning |\n|---|---|---|---|---|"
    for cs1 in CS1_OPS:
        yield f"| `{cs1.name}` | {cs1.opc} | {' '.join(cs1.fields)} | v{cs1.since} | {cs1.doc} |"
    yield "\n### Predicate logic\n\n| opc | operation | meaning |\n|---|---|---|"
    for opc, name in CLP_NAMES.items():
        yield f"| {opc} | `{name}` | {CLP_DOCS[name]} |"
    yield (
        "\nSources of @p0..@p3: "
        + ", ".join(
            f"{low:#04x}..{high:#04x} `{elp_name(low)}`..`{elp_name(high)}`"
            if low != high
            else f"{low:#04x} `{elp_name(low)}`"
            for low, high in ((0, 0), (1, 0x3F), (0x40, 0x40), (0x41, 0x4F), (0x60, 0x7F))
        )
        + ".\n"
    )


def _registers() -> Iterator[str]:
    yield "## Registers of the array access unit\n\n| name | code | index in |\n|---|---|---|"
    for family in FAMILIES:
        name = f"{family.name}0..{family.count - 1}" if family.index else family.name
        yield f"| `{name}` | {family.code:#04x} | {family.index or '-'} |"
    yield "\nArray reads (AAS): " + ", ".join(f"{opc} `{name}`" for opc, name in MOVA.items()) + ".\n"
    yield "## State registers\n\n| number | name | access | versions | meaning |\n|---|---|---|---|---|"
    for register in STATE_REGISTERS:
        until = "+" if register.until == VERSIONS[-1] else f"-v{register.until}"
        yield (
            f"| {register.number:#04x} | `%{register.name}` | {register.access} | v{register.since}{until} "
            f"| {register.doc} |"
        )
    yield ""


def _models() -> Iterator[str]:
    yield "## Models\n\n| -cpu | instruction set | what it is |\n|---|---|---|"
    for model in MODELS.values():
        yield f"| `{model.name}` | v{model.version} | {model.description} |"
    yield ""


def document() -> str:
    """The text of docs/isa.md."""
    parts = [_INTRODUCTION, *_models(), *_syllables(), _OPERANDS, *_control(), *_operations(), *_registers()]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
