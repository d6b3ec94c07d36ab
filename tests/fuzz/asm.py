"""Grammar-based fuzz of the assembler: sources that are nearly right.

A source is a list of statements, each made by a rule of the grammar from the tables of the instruction set:
operations with operands of the right or a wrong kind, wide instructions, control and predicate logic,
directives, macros, expressions, preprocessor lines. Some tokens are then lost, doubled or exchanged. Whatever
comes out must assemble or give diagnostics with a place and a caret; what assembles must decode again.
"""

from __future__ import annotations

import random
import re
import sys
from collections import Counter
from functools import cache

from e2kemu.cpu.asm import assemble
from e2kemu.cpu.asm_elf import assemble_object
from e2kemu.cpu.asm_lexer import AsmError
from e2kemu.cpu.bundle import DecodeError
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.aau import MOVA, REGISTERS
from e2kemu.cpu.isa.cu import CS0_OPS, CS1_OPS
from e2kemu.cpu.isa.notation import VERSIONS, Op
from e2kemu.cpu.isa.registers import STATE_REGISTERS
from e2kemu.cpu.listing import wides
from e2kemu.errors import E2kError
from tests.fuzz.loop import main

ROWS = tuple(table.rows())
PREFIX = {"S": "", "D": "d", "X": "d", "Q": "q", "P": "qp"}
SYMBOLS = ("start", "value", ".Lx", "1f", "1b", "2f", ".", "outside", "N")
NUMBERS = ("0", "1", "7", "15", "16", "31", "32", "-1", "0x7fff", "0x8000", "0xffff", "0x12345678", "-0x80000000",
           "0xffffffff", "0x123456789abcdef0", "0b101", "017", "'a'", "1 << 40")  # fmt: skip
HEAD = "N = 3\n1: start: .Lx: nop\n"
TAIL = "\n.text\n.align 8\n1: 2: outside: value: nop\n"
TOKENS = re.compile(r"\s+|%?[\w.]+|.", re.DOTALL)


class Grammar(random.Random):
    """The generator of one source: its choices, and the instruction set that most of it is right for."""

    version = 4

    def below(self, limit: int) -> int:
        """A number below ``limit``, at times one too large."""
        return self.randrange(limit + 2 if self.random() < 0.03 else limit)


@cache
def rows(version: int) -> tuple[Op, ...]:
    """The operations of an instruction set."""
    return tuple(op for op in ROWS if op.channels[version])


def _rare(choose: random.Random, chance: float = 0.05) -> bool:
    return choose.random() < chance


def number(choose: Grammar) -> str:
    """A number, sometimes a large one."""
    return choose.choice(NUMBERS) if not _rare(choose) else str(choose.getrandbits(choose.randrange(1, 80)))


def expression(choose: Grammar, depth: int = 0) -> str:
    """An expression over numbers and symbols."""
    if depth > 3 or choose.random() < 0.8:
        return number(choose) if choose.random() < 0.8 else choose.choice(SYMBOLS)
    if choose.random() < 0.2:
        return choose.choice("-~!+") + expression(choose, depth + 1)
    op = choose.choice(("+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "==", "<", "&&", "||"))
    return f"({expression(choose, depth + 1)} {op} {expression(choose, depth + 1)})"


def register(choose: Grammar, size: str) -> str:
    """A general register by its size letter."""
    prefix = PREFIX.get(size, "")
    kind = choose.randrange(3)
    if kind == 0:
        return f"%{prefix}b[{choose.below(128)}]"
    return f"%{prefix}{'r' if kind == 1 else 'g'}{choose.below(64 if kind == 1 else 32)}"


def guard(choose: Grammar) -> str:
    """A condition of an operation."""
    return choose.choice(("", "~")) + choose.choice(("%pred", "%pcnt")) + str(choose.below(32))


def operand(choose: Grammar, slot: str, size: str, op: Op) -> str:
    """An operand for a slot."""
    if slot == "pred":
        return f"%pred{choose.below(32)}"
    if slot == "sreg":
        return "%" + choose.choice(STATE_REGISTERS).name
    if slot in ("aau", "aaldi"):
        array = choose.choice(tuple(REGISTERS))
        return array if choose.random() < 0.5 else f"{array} [ %aasti{choose.randrange(17)} + {expression(choose)} ]"
    if slot == "src1" and choose.random() < 0.3:
        return str(choose.below(32))
    if slot == "src2" and choose.random() < 0.5:
        forced = choose.choice(("", "", "", "_f16s ", "_f32s ", "_f64 ", "_f32s,_lts1 ", "_f16s,_lts0hi "))
        return forced + expression(choose)
    if slot == "dst" and _rare(choose):
        return choose.choice(("%ctpr1", "%tst", "%tc", "%empty", "%empty.lo"))
    return register(choose, size)


def operation(choose: Grammar) -> str:
    """An operation of the arithmetic-logic channels."""
    op = choose.choice(ROWS if _rare(choose, 0.02) else rows(choose.version))
    sizes = op.syntax_sizes
    parts = [operand(choose, slot, sizes.get(slot, "S"), op) for slot in op.fmt.slots]
    if op.imm8 and len(parts) > 1:
        parts.insert(len(parts) - 1, str(choose.below(256)))
    if (op.load or op.store) and len(parts) == 3 and choose.random() < 0.5:
        value = parts.pop()
        address = f"[ {parts[0]} + {parts[1]} ]"
        parts = [value, address] if op.store else [address, value]
    channel = choose.choice(op.channels[choose.version] or "6")
    text = op.name + choose.choice(("", f",{channel}")) + choose.choice(("", "", ",sm"))
    text += " " + ", ".join(parts)
    if op.mas and choose.random() < 0.3:
        text += f", mas = {choose.below(128)}"
    if op.merges:
        text += ", " + guard(choose)
    if _rare(choose, 0.3):
        text += " ? " + ", ".join(guard(choose) for _ in range(choose.randrange(1, 3)))
    return text


def condition(choose: Grammar) -> str:
    """The condition of a transfer."""
    n = choose.below(32)
    return choose.choice(("", "", f" ? %pred{n}", f" ? ~%pred{n}", " ? %LOOP_END", f" ? %pred{n} || %LOOP_END",
                          " ? #NOT_LOOP_END", " ? %MLOCK || %dt_al03", " ? %MLOCK || %cmp0 || ~%cmp1"))  # fmt: skip


def control(choose: Grammar) -> str:
    """A control operation."""
    kind = choose.randrange(5)
    if kind == 0:
        op = choose.choice(CS0_OPS)
        target = f" %ctpr{choose.randrange(1, 4)}," if op.ctprs != (0,) else ""
        return f"{op.name}{target} {expression(choose)}{condition(choose)}"
    if kind == 1:
        cs1 = choose.choice(CS1_OPS)
        limits = {"wsz": 128, "wbs": 128, "rbs": 64, "rsz": 64, "psz": 32}
        values = [f"{name} = {choose.below(limits.get(name, 2))}" for name in cs1.fields if choose.random() < 0.95]
        return f"{cs1.name} {', '.join(values)}"
    if kind == 2:
        text = choose.choice((f"ct %ctpr{choose.randrange(1, 4)}", f"call %ctpr1, wbs = {choose.below(128)}"))
        return text + condition(choose)
    if kind == 3:
        source = choose.choice((f"%pred{choose.below(32)}", "%lcntex", "%spred0,1", "%rndpred3", "@p4"))
        return choose.choice((f"pass {source}, @p{choose.randrange(4)}", f"pass @p4, %pred{choose.below(32)}",
                              f"andp @p{choose.randrange(3)}, ~@p1, @p{choose.randrange(4, 8)}"))  # fmt: skip
    return choose.choice((
        f"nop {choose.randrange(9)}", "loop_mode", "set_mark", f"ipd {choose.randrange(5)}", "eap", "bap", "crp",
        "abn abnf=1, abnt=1", "alc alcf=1, alct=1", "abp abpf=0, abpt=1", "abg 1", "vfdi", "slrp ? %pred3",
        "invts", "flushts", "abgc 3", "ctp_call", "ctcond 9, 3", "mas alc0 = 3",
        f"{choose.choice(tuple(MOVA.values()))},{choose.below(4)} area = 1, ind = 0, am = 1, be = 0, "
        + register(choose, "D"),
        f"incr,{choose.choice((2, 5))} %aaincr{choose.randrange(9)}",
        f"fapb ct = 1, fmt = {choose.randrange(9)}, disp = {expression(choose)}"))  # fmt: skip


def wide(choose: Grammar) -> str:
    """A wide instruction in braces."""
    lines = [choose.choice((operation, operation, control))(choose) for _ in range(choose.randrange(5))]
    return "{" + choose.choice(("\n", " ")) + choose.choice(("\n", "; ")).join(lines) + "\n}"


def directive(choose: Grammar) -> str:
    """A directive that is over at the end of its line."""
    small = str(choose.randrange(40))
    return choose.choice((
        lambda: f"{choose.choice(('.byte', '.short', '.word', '.quad', '.octa', '.long'))} "
        + ", ".join(expression(choose) for _ in range(choose.randrange(4))),
        lambda: choose.choice((".text", ".data", ".bss", ".rodata", ".previous", '.section .x, "aw", @progbits')),
        lambda: f".align {choose.choice((1, 2, 4, 8, 16, 3, small))}",
        lambda: f".skip {small}, {number(choose)}",
        lambda: f".fill {small}, {choose.randrange(10)}, {number(choose)}",
        lambda: f".org {choose.choice(('.', 'start'))} + {small}",
        lambda: f"{choose.choice(('.set', '.equ', '.equiv'))} {choose.choice(SYMBOLS)}, {expression(choose)}",
        lambda: f"{choose.choice(SYMBOLS)} = {expression(choose)}",
        lambda: f".ascii \"{choose.choice(('a', '', chr(92) + 'n', chr(92) + 'x41', 'é'))}\"",
        lambda: f"{choose.choice(('.global', '.local', '.weak', '.type', '.size'))} {choose.choice(SYMBOLS)}"
        + choose.choice(("", ", @function", ", . - start")),
        lambda: f".comm {choose.choice(SYMBOLS)}, {small}, 8",
        lambda: choose.choice((".ignore ld_st_style", f".push_iset {choose.randrange(1, 9)}", ".pop_iset")),
        lambda: choose.choice(("#define N 5", "#undef N", "#define M(a, b) ((a) + b)", "#ifdef N", "#else", "#endif",
                               "#if N > 3", "# 7 \"x.c\"", "! comment", "/* a */", ".incbin \"none\"", ".end")),
    ))()  # fmt: skip


def block(choose: Grammar, depth: int = 0) -> str:
    """Statements within .rept, .macro, .if and the like."""
    inner = "\n".join(statement(choose, depth + 1) for _ in range(choose.randrange(3)))
    name = choose.choice(("ma", "mb"))
    return choose.choice((
        f".rept {choose.randrange(4)}\n{inner}\n.endr",
        f".irp x, 1, 2, %r3\n.quad \\x\n{inner}\n.endr",
        f".irpc c, 12\n.byte \\c\n{inner}\n.endr",
        f".macro {name} a, b=3\n.quad \\a, \\b\n{inner}\n.endm\n{name} 1, 2",
        f"{name} {expression(choose)}",
        f".if {expression(choose)}\n{inner}\n.else\n{inner}\n.endif",
        f".ifdef {choose.choice(SYMBOLS)}\n{inner}\n.endif"))  # fmt: skip


def statement(choose: Grammar, depth: int = 0) -> str:
    """One statement, with a label at times."""
    label = choose.choice(("1: ", "2: ", f"l{choose.randrange(9999)}: ")) if _rare(choose, 0.2) else ""
    kind = choose.random()
    if kind < 0.1 and depth < 3:
        return label + block(choose, depth)
    rule = operation if kind < 0.4 else control if kind < 0.55 else wide if kind < 0.8 else directive
    return label + rule(choose)


def damaged(choose: Grammar, text: str) -> str:
    """``text`` with a token lost, doubled, or another one in its place."""
    tokens = TOKENS.findall(text)
    for _ in range(choose.choice((0, 0, 0, 1, 2, 4)) if tokens else 0):
        at = choose.randrange(len(tokens))
        other = choose.choice("{};,?%[]()~@#\\\"'!$§\0")
        tokens[at] = choose.choice(("", tokens[at] * 2, choose.choice(tokens), other))
    return "".join(tokens)


def case(seed: random.Random, seen: Counter[str]) -> None:
    """One source."""
    choose = Grammar(seed.getrandbits(64))
    version = choose.version = choose.choice(VERSIONS)
    body = "\n".join(statement(choose) for _ in range(choose.randrange(1, 5)))
    text = HEAD + damaged(choose, body) + TAIL
    try:
        if choose.random() < 0.2:
            assemble_object(text, cpu=f"v{version}").to_bytes()
            seen["objects"] += 1
            return
        image = assemble(text, version=version, base=0x1000)
    except AsmError as error:
        lines = error.render().split("\n")
        assert len(lines) >= 3, lines
        assert all(re.match(r".*:\d+:\d+: error: .", line) for line in lines[::3]), lines
        assert all(line.strip() == "^" for line in lines[2::3]), lines
        seen["diagnostics"] += len(error.diagnostics)
        return
    except E2kError as error:
        assert "\n" not in str(error)  # noqa: PT017
        seen["other refusals"] += 1
        return
    seen["images"] += 1
    for found in wides(image.data, version, 0x1000):
        seen["no wide instruction" if isinstance(found, DecodeError) else "wide instructions"] += 1


if __name__ == "__main__":
    sys.exit(main(case, __doc__ or ""))
