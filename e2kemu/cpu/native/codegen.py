"""LLVM: IR text to host code in memory, and giving the memory back.

Every module gets an execution engine of its own, because that is what LLVM frees: dropping a ``Code`` frees
its host code. Optimisation is a short list of passes; what is not on it costs more than it brings for
code of this kind (see docs/engine.md).
"""

from __future__ import annotations

import ctypes
import platform
import threading
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

_lock = threading.Lock()
_machines: dict[int, Any] = {}


def _target_machine(level: int) -> Any:
    """A target machine for this host; its engine owns it, so each is used once."""
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(opt=level, jit=True, cpu=llvm.get_host_cpu_name(),
                                        features=llvm.get_host_cpu_features().flatten())


def initialise() -> None:
    """Make LLVM ready; may be called again."""
    with _lock:
        if not _machines:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            _machines[0] = _target_machine(1)


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


def optimise(module: Any, machine: Any) -> None:
    """The passes for a region."""
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes = llvm.create_new_function_pass_manager()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_new_gvn_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)


def compile_ir(text: str, *, level: int = 1) -> Code:
    """Compile a module. Raises RuntimeError when the text is no valid IR (a defect of the translator)."""
    initialise()
    module = llvm.parse_assembly(text)
    machine = _target_machine(level)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    optimise(module, machine)
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
