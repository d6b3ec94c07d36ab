"""Native functions from LLVM IR text: what Python is too slow for, without a C compiler at installation.

    kernels = compile_ir(TEXT, {"sum_bytes": Signature(c_uint64, c_void_p, c_uint64)})
    kernels["sum_bytes"](address, size)

The text is that of a module (opaque pointers, LLVM 20 or later; no target triple, no data layout: the host's are put
in), optimised at O2 for the very CPU it runs on. A function is called through ctypes, which gives up the interpreter
lock while it runs: the caller keeps the memory alive whose addresses it passes, and nothing checks those.

Compiling takes some tens of milliseconds and loading LLVM a tenth of a second, so nothing is loaded or compiled before
the first call; who uses it compiles when it is clear that the function will be needed, and once (``functools.cache``).
Functions stay valid as long as the ``Kernels`` they came from, or one of them, lives.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True, init=False)
class Signature:
    """The ctypes type of a function's result (None: void) and of its arguments."""

    result: Any
    arguments: tuple[Any, ...]

    def __init__(self, result: Any, *arguments: Any) -> None:
        object.__setattr__(self, "result", result)
        object.__setattr__(self, "arguments", arguments)


class Kernels:
    """The functions of one module, by name."""

    def __init__(self, engine: Any, signatures: Mapping[str, Signature]) -> None:
        self._functions: dict[str, Function] = {}
        for name, signature in signatures.items():
            address = engine.get_function_address(name)
            if not address:
                raise KeyError(name)
            function: Any = ctypes.CFUNCTYPE(signature.result, *signature.arguments)(address)
            function.engine = engine  # the code goes with the engine: a function keeps it
            self._functions[name] = function

    def __getitem__(self, name: str) -> Function:
        return self._functions[name]


@cache
def _llvm() -> Any:
    """LLVM, ready to make code for this host."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def host_machine(level: int) -> Any:
    """LLVM's target machine for the very CPU this runs on; an engine owns its machine, so each is for one engine."""
    llvm = _llvm()
    return llvm.Target.from_default_triple().create_target_machine(
        opt=level, jit=True, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )


def host_module(text: str, machine: Any) -> Any:
    """LLVM's module of an IR text that names no target. Raises RuntimeError when the text is wrong."""
    module = _llvm().parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return module


def compile_ir(text: str, signatures: Mapping[str, Signature]) -> Kernels:
    """The functions named in ``signatures`` from the module ``text``.

    Raises RuntimeError when the text is no valid module, KeyError for a function that is not in it: both are
    mistakes of the caller's, never of a user's.
    """
    llvm = _llvm()
    machine = host_machine(2)
    module = host_module(text, machine)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return Kernels(engine, signatures)
