"""The interpreter's host code: made once for a host CPU, kept on disk, loaded by every later start.

It is a row of object files: the runtime of translated code (``native.runtime``), control and decoder, and the handlers
of the operations in portions. Nothing in them is an address of this process: what generated code calls in Python it
finds in the context. ``cache`` keeps them.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import llvmlite.binding as llvm

from e2kemu.cpu.core import Core
from e2kemu.cpu.isa import table
from e2kemu.cpu.isa.models import MODELS
from e2kemu.cpu.isa.notation import Op
from e2kemu.cpu.native import runtime
from e2kemu.cpu.native.codegen import SHORT, define_symbol, optimise
from e2kemu.cpu.native.interp import cache, channels, control, decoder, finish, lowlevel
from e2kemu.cpu.native.interp.handlers import VARIANTS, Generator
from e2kemu.cpu.native.interp.lowlevel import CONVENTION, SIGNATURE
from e2kemu.cpu.state import CpuState
from e2kemu.native import host_machine, host_module

PORTION = 80
"""Handlers in one object file."""
PATIENCE = 1.0
"""Seconds after which a first build tells that it is under way."""

_FRAMES = """
define internal i64 @enter_frame(i64 %s, i64 %what) nounwind {
%p = inttoptr i64 %s to ptr
call void @e2k_enter(ptr %p, i64 %what)
ret i64 0
}
define internal i64 @leave_frame(i64 %s, i64 %c) nounwind {
%p = inttoptr i64 %s to ptr
%q = inttoptr i64 %c to ptr
call void @e2k_return(ptr %p, ptr %q)
ret i64 0
}
define internal i64 @call_region(i64 %f, i64 %s, i64 %c) nounwind {
%t = inttoptr i64 %f to ptr
%p = inttoptr i64 %s to ptr
%q = inttoptr i64 %c to ptr
%r = call i64 %t(ptr %p, ptr %q)
ret i64 %r
}
define ptr @e2k_handlers() nounwind {
ret ptr @handlers
}
"""
_DECLARED = """
declare {i64, i64} @e2k_load(ptr, i64, i64)
declare i64 @e2k_store(ptr, i64, i64, i64)
!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
"""


def _emit(text: str, level: int) -> bytes:
    """The object file of a module."""
    machine = host_machine(2)
    module = host_module(text, machine)
    if level > 1:
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=level))
        builder.getModulePassManager().run(module, builder)
    else:
        optimise(module, machine, SHORT)
    return bytes(machine.emit_object(module))


def build(before: cache.Parts | None, progress: Callable[[int, int], None]) -> cache.Parts:
    """Make it all: a description (JSON: handlers of each row), the object files. ``progress`` gets (done, all).

    ``before`` is what was made for this host from other sources: its parts that would be the same are taken.
    """
    state = CpuState(MODELS["e8c"])
    generator = Generator(cast(Core, SimpleNamespace(state=state)))
    rows: list[list[int]] = []
    order: dict[str, int] = {}
    for op in table.rows():
        found = [-1] * len(VARIANTS)
        for number, variant in enumerate(VARIANTS):
            name = None if op.alias_of else generator.of(op, variant)
            if name is not None:
                found[number] = order.setdefault(name, len(order))
        rows.append(found)
    names = list(order)
    portions = [names[i : i + PORTION] for i in range(0, len(names), PORTION)]
    known = {f.__name__ for f in (*control.HANDLERS, *finish.HANDLERS)}
    functions: list[Callable[..., int]] = [*control.FUNCTIONS, *finish.FUNCTIONS, *channels.FUNCTIONS,
                                           *decoder.FUNCTIONS]
    core = [runtime.module(state.offsets), _FRAMES, lowlevel.compile_functions(functions)]
    core += [f"declare {CONVENTION} i64 @{name}{SIGNATURE}" for name in names if name not in known]
    core.append(f"@handlers = constant [{len(names)} x ptr] [{', '.join(f'ptr @{name}' for name in names)}]")
    shared = "\n".join([_DECLARED, *(f"declare {CONVENTION} i64 @{name}{SIGNATURE}" for name in ("step", "fail")),
                        *sorted(generator.declarations)])
    texts = ["\n".join(core)] + ["\n".join([shared, *(generator.texts[name] for name in p)]) for p in portions]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    known_objects = dict(zip(json.loads(before[0])["texts"], before[1], strict=True)) if before else {}
    objects = []
    for number, (digest, text) in enumerate(zip(digests, texts, strict=True)):
        progress(number, len(texts))
        objects.append(known_objects.get(digest) or _emit(text, 1 if number else 2))
    progress(len(texts), len(texts))
    return json.dumps({"rows": rows, "handlers": len(names), "texts": digests}).encode(), objects


class _Progress:
    """Tells on stderr how far a build is, once it has taken a second."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.shown = False

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.began < PATIENCE:
            return
        line = f"e2kemu: preparing the interpreter for this host, once: {100 * done // total:3} %"
        if sys.stderr.isatty():
            print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or not self.shown:
            print(line, file=sys.stderr, flush=True)
        self.shown = True


class HostCode:
    """The code, loaded into this process. ``handlers`` are addresses, ``rows`` tell which are whose."""

    _lock = threading.Lock()
    _only: HostCode | None = None

    def __init__(self, description: bytes, objects: list[bytes]) -> None:
        import ctypes

        machine = host_machine(2)
        self.engine = llvm.create_mcjit_compiler(host_module("", machine), machine)
        for one in objects:
            self.engine.add_object_file(llvm.ObjectFileRef.from_data(one))
        self.engine.finalize_object()
        told = json.loads(description)
        where = ctypes.CFUNCTYPE(ctypes.c_uint64)(self.address("e2k_handlers"))()
        self.handlers = list((ctypes.c_uint64 * told["handlers"]).from_address(where))
        self.rows: list[list[int]] = told["rows"]
        self._numbers = {id(op): number for number, op in enumerate(table.rows())}
        for name in runtime.EXPORTED:
            define_symbol(name, self.address(name))

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self.engine.get_function_address(name))

    def find(self, op: Op, variant: str = "") -> int:
        """The address of an operation's handler, 0 when it has none."""
        number = self.rows[self._numbers[id(op)]][VARIANTS.index(variant)]
        return self.handlers[number] if number >= 0 else 0

    @classmethod
    def get(cls) -> HostCode:
        """The code of this process: loaded, and made before if it is not on disk."""
        with cls._lock:
            if cls._only is None:
                cls._only = cls(*cache.load_or_build(lambda before: build(before, _Progress())))
            return cls._only
