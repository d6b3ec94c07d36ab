"""Functions written in a small part of Python, compiled by LLVM: the decoder and the control of the interpreter.

Every value is an unsigned number of 64 bits. What is understood: assignments, ``if``, ``while``, ``break``, ``return``,
calls; ``+ - * // % & | ^ << >> ~``, comparisons (unsigned), ``and``, ``or``, ``not`` and ``x if c else y`` (both x and
y are evaluated); whole numbers that the function's module has names for; the functions of ``INTRINSICS``;
other functions of the same module of code.

A function is seen outside when its name begins with ``e2k_``. One marked ``handler`` has the parameters ``STATE`` and
uses the calling convention in which they stay in registers; its ``return other(...)`` of another handler, or of ``go``,
is a jump.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

STATE = ("s", "c", "u", "w", "t", "left", "mask", "h")
"""What handlers pass on: addresses of the CPU's state, its context, the record at hand, %r0, its tag; wide instructions
left; what is staged; the address of the wide instruction's first record."""

CONVENTION = "preserve_nonecc"
SIGNATURE = "(" + ", ".join(["i64"] * len(STATE)) + ")"

F = TypeVar("F", bound=Callable[..., int])


def handler(function: F) -> F:
    """Mark a function as a handler."""
    function.is_handler = True  # type: ignore[attr-defined]
    return function


def only_generated() -> NoReturn:
    """The body of a function that is declared and not written here: other IR of the module has it, or it is an
    intrinsic without a meaning in Python. Raises TypeError."""
    raise TypeError(f"{sys._getframe(1).f_code.co_name} is only there in generated code")


# --- what functions may call; in Python the same ---------------------------------------------------------

def load8(address: int) -> int:
    """A byte of memory."""
    return ctypes.c_uint8.from_address(address).value


def load16(address: int) -> int:
    """Two bytes."""
    return ctypes.c_uint16.from_address(address).value


def load32(address: int) -> int:
    """Four bytes."""
    return ctypes.c_uint32.from_address(address).value


def load64(address: int) -> int:
    """Eight bytes."""
    return ctypes.c_uint64.from_address(address).value


def store8(address: int, value: int) -> None:
    """Write a byte."""
    ctypes.c_uint8.from_address(address).value = value


def store16(address: int, value: int) -> None:
    """Write two bytes."""
    ctypes.c_uint16.from_address(address).value = value


def store32(address: int, value: int) -> None:
    """Write four bytes."""
    ctypes.c_uint32.from_address(address).value = value


def store64(address: int, value: int) -> None:
    """Write eight bytes."""
    ctypes.c_uint64.from_address(address).value = value


def watch(address: int) -> int:
    """Eight bytes that another thread may write."""
    return ctypes.c_uint64.from_address(address).value


def fence() -> None:
    """No access to memory is moved across this."""


def signed(value: int, bits: int) -> int:
    """The low 8, 16 or 32 bits of a number, sign-extended."""
    value &= (1 << bits) - 1
    return (value - (1 << bits) if value >> bits - 1 else value) & (1 << 64) - 1


def below(a: int, b: int) -> int:
    """a < b as signed numbers."""
    return int((a ^ 1 << 63) < (b ^ 1 << 63))


def ones(value: int) -> int:
    """How many bits are set."""
    return value.bit_count()


def lowest(value: int) -> int:
    """The number of the lowest bit set; the value is not 0."""
    return (value & -value).bit_length() - 1


def go(s: int, c: int, u: int, w: int, t: int, left: int, mask: int, h: int) -> int:
    """Go on with the handler of the record at ``u``."""
    only_generated()


def address_of(function: Callable[..., int]) -> int:
    """Where a function's code is."""
    only_generated()


INTRINSICS = {f.__name__ for f in (load8, load16, load32, load64, store8, store16, store32, store64, watch, fence,
                                   signed, below, ones, lowest, go, address_of)}

_OPERATORS = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "udiv", ast.Mod: "urem", ast.BitAnd: "and",
              ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl", ast.RShift: "lshr"}
_COMPARES = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "ult", ast.LtE: "ule", ast.Gt: "ugt", ast.GtE: "uge"}


class _Compiler:
    """One function."""

    def __init__(self, function: Callable[..., int], handlers: set[str]) -> None:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        self.tree, self.names = tree, function.__globals__
        self.handlers = handlers
        self.lines: list[str] = []
        self.variables: dict[str, None] = {}
        self.loops: list[str] = []
        self.count = 0

    def text(self) -> str:
        """The definition as IR."""
        name = self.tree.name
        parameters = [a.arg for a in self.tree.args.args]
        is_handler = name in self.handlers
        for parameter in parameters:
            self.variables[parameter] = None
        self._block(self.tree.body)
        convention = f"{CONVENTION} " if is_handler else ""
        linkage = "" if is_handler or name.startswith("e2k_") else "internal "
        head = [f"define {linkage}{convention}i64 @{name}({', '.join(f'i64 %p_{p}' for p in parameters)}) nounwind {{",
                "entry:"]
        head += [f"%v_{v} = alloca i64" for v in self.variables]
        head += [f"store i64 %p_{p}, ptr %v_{p}" for p in parameters]
        return "\n".join([*head, *self.lines, "ret i64 0", "}"])

    def _new(self, instruction: str) -> str:
        self.count += 1
        self.lines.append(f"%x{self.count} = {instruction}")
        return f"%x{self.count}"

    def _label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    # -- statements ----------------------------------------------------------------------------------------

    def _block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            assert isinstance(target, ast.Name)
            self._set(target.id, self._value(node.value))
        elif isinstance(node, ast.AugAssign):
            assert isinstance(node.target, ast.Name)
            old = self._value(ast.Name(node.target.id))
            self._set(node.target.id, self._new(f"{_OPERATORS[type(node.op)]} i64 {old}, {self._value(node.value)}"))
        elif isinstance(node, ast.If):
            self._if(node)
        elif isinstance(node, ast.While):
            self._while(node)
        elif isinstance(node, ast.Break):
            self._leave(f"br label %{self.loops[-1]}")
        elif isinstance(node, ast.Return):
            assert node.value is not None
            self._return(node.value)
        elif isinstance(node, ast.Expr):
            if not isinstance(node.value, ast.Constant):
                self._value(node.value)
        else:
            raise TypeError(f"{self.tree.name}: {ast.unparse(node)}")

    def _leave(self, line: str) -> None:
        self.lines += [line, f"{self._label('dead')}:"]

    def _set(self, name: str, value: str) -> None:
        self.variables[name] = None
        self.lines.append(f"store i64 {value}, ptr %v_{name}")

    def _if(self, node: ast.If) -> None:
        then, other, join = self._label("then"), self._label("else"), self._label("join")
        self.lines += [f"br i1 {self._truth(node.test)}, label %{then}, label %{other}", f"{then}:"]
        self._block(node.body)
        self.lines += [f"br label %{join}", f"{other}:"]
        self._block(node.orelse)
        self.lines += [f"br label %{join}", f"{join}:"]

    def _while(self, node: ast.While) -> None:
        again, body, done = self._label("again"), self._label("body"), self._label("done")
        self.lines += [f"br label %{again}", f"{again}:"]
        self.lines += [f"br i1 {self._truth(node.test)}, label %{body}, label %{done}", f"{body}:"]
        self.loops.append(done)
        self._block(node.body)
        self.loops.pop()
        self.lines += [f"br label %{again}", f"{done}:"]

    def _return(self, value: ast.expr) -> None:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            name = value.func.id
            if name == "go" or (name in self.handlers and self.tree.name in self.handlers):
                arguments = [self._value(a) for a in value.args]
                target = f"@{name}"
                if name == "go":
                    target = self._new(f"load ptr, ptr {self._new(f'inttoptr i64 {arguments[2]} to ptr')}")
                given = ", ".join(f"i64 {a}" for a in arguments)
                self._leave(f"ret i64 {self._new(f'musttail call {CONVENTION} i64 {target}({given})')}")
                return
        self._leave(f"ret i64 {self._value(value)}")

    # -- expressions ---------------------------------------------------------------------------------------

    def _truth(self, node: ast.expr) -> str:
        """An i1."""
        if isinstance(node, ast.Compare):
            relation = _COMPARES[type(node.ops[0])]
            left, right = self._value(node.left), self._value(node.comparators[0])
            return self._new(f"icmp {relation} i64 {left}, {right}")
        if isinstance(node, ast.BoolOp):
            return self._bool(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._new(f"xor i1 {self._truth(node.operand)}, true")
        if isinstance(node, ast.Constant):
            return "true" if node.value else "false"
        return self._new(f"icmp ne i64 {self._value(node)}, 0")

    def _bool(self, node: ast.BoolOp) -> str:
        """``and`` and ``or``: what is behind the one that decides is not evaluated."""
        stops = isinstance(node.op, ast.Or)
        found, done = self._label("found"), self._label("decided")
        self.variables[found] = None
        for one in node.values[:-1]:
            truth, following = self._truth(one), self._label("next")
            self.lines += [f"store i64 {int(stops)}, ptr %v_{found}",
                           f"br i1 {truth}, label %{done if stops else following}, "
                           f"label %{following if stops else done}", f"{following}:"]
        last = self._new(f"zext i1 {self._truth(node.values[-1])} to i64")
        self.lines += [f"store i64 {last}, ptr %v_{found}", f"br label %{done}", f"{done}:"]
        return self._new(f"icmp ne i64 {self._new(f'load i64, ptr %v_{found}')}, 0")

    def _value(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.Name):
            if node.id in self.variables:
                return self._new(f"load i64, ptr %v_{node.id}")
            return str(int(self.names[node.id]))
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left), self._value(node.right)
            return self._new(f"{_OPERATORS[type(node.op)]} i64 {left}, {right}")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return self._new(f"xor i64 {self._value(node.operand)}, -1")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._new(f"sub i64 0, {self._value(node.operand)}")
        if isinstance(node, ast.IfExp):
            test, yes, no = self._truth(node.test), self._value(node.body), self._value(node.orelse)
            return self._new(f"select i1 {test}, i64 {yes}, i64 {no}")
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return self._call(node.func.id, node.args)
        if isinstance(node, ast.Attribute):
            assert isinstance(node.value, ast.Name)
            return str(int(getattr(self.names[node.value.id], node.attr)))
        return self._new(f"zext i1 {self._truth(node)} to i64")

    def _call(self, name: str, given: list[ast.expr]) -> str:
        if name == "int":
            return self._value(given[0])
        if name == "address_of":
            assert isinstance(given[0], ast.Name)
            return self._new(f"ptrtoint ptr @{given[0].id} to i64")
        arguments = [self._value(a) for a in given]
        if name not in INTRINSICS:
            convention = f"{CONVENTION} " if name in self.handlers else ""
            return self._new(f"call {convention}i64 @{name}({', '.join(f'i64 {a}' for a in arguments)})")
        if name == "fence":
            self.lines.append("fence seq_cst")
            return "0"
        if name == "signed":
            cut = self._new(f"trunc i64 {arguments[0]} to i{arguments[1]}")
            return self._new(f"sext i{arguments[1]} {cut} to i64")
        if name == "below":
            return self._new(f"zext i1 {self._new(f'icmp slt i64 {arguments[0]}, {arguments[1]}')} to i64")
        if name == "ones":
            return self._new(f"call i64 @llvm.ctpop.i64(i64 {arguments[0]})")
        if name == "lowest":
            return self._new(f"call i64 @llvm.cttz.i64(i64 {arguments[0]}, i1 true)")
        place = self._new(f"inttoptr i64 {arguments[0]} to ptr")
        if name == "watch":
            return self._new(f"load volatile i64, ptr {place}")
        bits = int(name.removeprefix("load").removeprefix("store"))
        if name.startswith("load"):
            value = self._new(f"load i{bits}, ptr {place}, align 1")
            return value if bits == 64 else self._new(f"zext i{bits} {value} to i64")
        value = arguments[1] if bits == 64 else self._new(f"trunc i64 {arguments[1]} to i{bits}")
        self.lines.append(f"store i{bits} {value}, ptr {place}, align 1")
        return "0"


def compile_functions(functions: list[Callable[..., Any]]) -> str:
    """The IR text of functions that may call one another."""
    handlers = {f.__name__ for f in functions if getattr(f, "is_handler", False)}
    texts = [_Compiler(f, handlers).text() for f in functions]
    return "\n".join(["declare i64 @llvm.ctpop.i64(i64)", "declare i64 @llvm.cttz.i64(i64, i1)", *texts]) + "\n"
