"""Native functions from IR text: they compute, let other threads run, and cost nothing before they are needed."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
from ctypes import c_int64, c_void_p

import pytest

from e2kemu.native import Signature, compile_ir

ADD = """
define i64 @add(i64 %x, i64 %y) {
  %sum = add i64 %x, %y
  ret i64 %sum
}
define void @store(ptr %to, i64 %value) {
  store i64 %value, ptr %to
  ret void
}
"""

WAIT = """
define i64 @wait(ptr %flag, i64 %patience) {
entry:
  br label %look
look:
  %turn = phi i64 [ 0, %entry ], [ %turn1, %again ]
  %seen = load volatile i64, ptr %flag
  %set = icmp ne i64 %seen, 0
  br i1 %set, label %done, label %again
again:
  %turn1 = add i64 %turn, 1
  %more = icmp ult i64 %turn1, %patience
  br i1 %more, label %look, label %done
done:
  %answer = phi i64 [ %seen, %look ], [ 0, %again ]
  ret i64 %answer
}
"""


def test_functions_compute_and_store() -> None:
    both = {"add": Signature(c_int64, c_int64, c_int64), "store": Signature(None, c_void_p, c_int64)}
    kernels = compile_ir(ADD, both)
    assert kernels["add"](1 << 40, -5) == (1 << 40) - 5
    cell = c_int64(0)
    assert kernels["store"](ctypes.addressof(cell), 77) is None
    assert cell.value == 77


def test_a_function_outlives_the_kernels_it_came_from() -> None:
    add = compile_ir(ADD, {"add": Signature(c_int64, c_int64, c_int64)})["add"]
    gc.collect()
    assert add(2, 3) == 5


def test_python_goes_on_while_a_function_runs() -> None:
    """The function waits (for some ten seconds at most) for what another Python thread does."""
    wait = compile_ir(WAIT, {"wait": Signature(c_int64, c_void_p, c_int64)})["wait"]
    flag, begun = c_int64(0), threading.Event()

    def set_flag() -> None:
        begun.wait()
        flag.value = 9

    setter = threading.Thread(target=set_flag)
    setter.start()
    begun.set()
    assert wait(ctypes.addressof(flag), 20_000_000_000) == 9
    setter.join()


def test_text_that_is_no_module_is_refused() -> None:
    with pytest.raises(RuntimeError):
        compile_ir("define i64 @f( {", {})
    with pytest.raises(RuntimeError):
        compile_ir("define i64 @f() {\n ret i32 0\n}", {})


def test_a_function_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="multiply"):
        compile_ir(ADD, {"multiply": Signature(c_int64)})


def test_llvm_is_not_loaded_before_it_is_needed() -> None:
    program = "import sys, e2kemu.migration.service, e2kemu.native; print('llvmlite' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"
