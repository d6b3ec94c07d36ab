"""Atomic operations on host memory for executors in Python: the same host instructions that native code uses.

    exchange_if(address, size, old, new) -> bool    1, 2, 4, 8 or 16 bytes, aligned to their size
    fence()                                         nothing is reordered across it

Other CPUs run native code meanwhile, which no lock of Python's keeps away: what shall be atomic for them has to be
one instruction of the host. Compiled when it is needed first.
"""

from __future__ import annotations

import ctypes
from functools import cache

from e2kemu.native import Kernels, Signature, compile_ir

_M64 = (1 << 64) - 1

_FENCE = """
define void @fence() nounwind {
fence seq_cst
ret void
}
"""


def _exchange_text(size: int) -> str:
    bits = 8 * size
    wide = size == 16
    parameters = "i64 %o, i64 %oh, i64 %n, i64 %nh" if wide else "i64 %o, i64 %n"
    lines = [f"define i64 @exchange{size}(ptr %p, {parameters}) nounwind {{"]
    for name in "on":
        if wide:
            lines += [f"%{name}l = zext i64 %{name} to i128", f"%{name}z = zext i64 %{name}h to i128",
                      f"%{name}s = shl i128 %{name}z, 64", f"%{name}v = or i128 %{name}l, %{name}s"]
        elif size < 8:
            lines.append(f"%{name}v = trunc i64 %{name} to i{bits}")
        else:
            lines.append(f"%{name}v = or i64 %{name}, 0")
    lines += [f"%r = cmpxchg ptr %p, i{bits} %ov, i{bits} %nv seq_cst seq_cst, align {size}",
              f"%b = extractvalue {{i{bits}, i1}} %r, 1", "%x = zext i1 %b to i64", "ret i64 %x", "}"]
    return "\n".join(lines) + "\n"


@cache
def _kernels() -> Kernels:
    word, pointer = ctypes.c_uint64, ctypes.c_void_p
    signatures = {f"exchange{size}": Signature(word, pointer, word, word) for size in (1, 2, 4, 8)}
    text = _FENCE + "".join(_exchange_text(size) for size in (1, 2, 4, 8))
    return compile_ir(text, {**signatures, "fence": Signature(None)})


@cache
def _wide() -> Kernels:
    """Apart: not every host has an instruction for 16 bytes."""
    word = ctypes.c_uint64
    return compile_ir(_exchange_text(16), {"exchange16": Signature(word, ctypes.c_void_p, word, word, word, word)})


def exchange_if(address: int, size: int, old: int, new: int) -> bool:
    """Write ``new`` to the host's memory if ``old`` is there, as one step; whether it was. ``address`` is a multiple of
    ``size``."""
    if size == 16:
        return bool(_wide()["exchange16"](address, old & _M64, old >> 64, new & _M64, new >> 64))
    return bool(_kernels()[f"exchange{size}"](address, old, new))


def fence() -> None:
    """No access to memory is moved across this, by compiler or host."""
    _kernels()["fence"]()
