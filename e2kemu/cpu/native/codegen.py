"""LLVM: IR text to host code in memory, and giving the memory back.

Every module gets an execution engine of its own, because that is what LLVM frees: dropping a ``Code`` frees
its host code. Optimisation is a short list of passes; what is not on it costs more than it brings for
code of this kind (see docs/engine.md).
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from e2kemu.native import host_machine, host_module

SHORT = ("sroa", "instruction_combine", "simplify_cfg", "new_gvn")
"""Passes for the handlers of the interpreter."""
FOR_REGIONS = (*SHORT, "instruction_combine", "simplify_cfg")


@dataclass(slots=True)
class Code:
    """Host code of one module, ``size`` bytes of it; it lives as long as this object is kept and not freed."""

    engine: Any
    size: int

    def address(self, name: str) -> int:
        """Where a function is."""
        return int(self.engine.get_function_address(name))

    def free(self) -> None:
        """Give the code back; nobody may be executing it."""
        self.engine.close()


def define_symbol(name: str, address: int) -> None:
    """Modules compiled from now on may call ``name``."""
    llvm.add_symbol(name, address)


def optimise(module: Any, machine: Any, names: Sequence[str]) -> None:
    """Run these passes of LLVM over the functions of a module."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    for name in names:
        getattr(passes, f"add_{name}_pass")()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def compile_ir(text: str, *, level: int = 1) -> Code:
    """Compile a module. Raises RuntimeError when the text is no valid IR (a defect of the translator)."""
    machine = host_machine(level)
    module = host_module(text, machine)
    optimise(module, machine, FOR_REGIONS)
    engine = llvm.create_mcjit_compiler(module, machine)
    sizes: list[int] = []
    engine.set_object_cache(notify_func=lambda _, data: sizes.append(_text_size(data)))
    engine.finalize_object()
    return Code(engine, sum(sizes))


def _text_size(data: bytes) -> int:
    """Bytes of host code in an object file."""
    with llvm.ObjectFileRef.from_data(data) as file:
        return sum(section.size() for section in file.sections() if section.is_text())


def disassemble(address: int, size: int) -> list[str]:
    """Host code as text, a line each instruction: address, mnemonic, operands."""
    import capstone  # only for -d out_asm: it takes its time to load

    modes = {"x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
             "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)}
    machine = platform.machine()
    if machine not in modes:
        return [f"{address:#x}: {size} bytes of {machine} code"]
    engine = capstone.Cs(*modes[machine])
    return [f"{one.address:#x}:  {one.mnemonic} {one.op_str}".rstrip()
            for one in engine.disasm(ctypes.string_at(address, size), address)]
