"""A CPU in generated code, and others who write where its code is: the host's memory is never taken from under it."""

from __future__ import annotations

import threading
import time

from e2kemu.api import Machine
from e2kemu.cpu.asm import assemble

CODE = 0x10_0000
COUNTER = 0x20_0000

LOOP = f"""
    addd,0 0, {COUNTER:#x}, %dr1
    addd,1 0, 0, %dr2
turn:
    addd,0 %dr2, 1, %dr2
    std,2 %dr2, [ %dr1 + 0 ]
    ibranch turn
"""


def test_code_that_another_thread_writes_while_it_is_executed_is_dropped_by_its_own_cpu() -> None:
    for accel in ("jit", "interp"):
        with Machine.build(ram="32M", cpu="e8c", accel=accel) as machine:
            code = assemble("{ setwd wsz=8, nfx=1 }\n" + LOOP, version=4, base=CODE).data
            machine.space.write_bytes(CODE, code)
            machine.write_reg("pc", CODE)
            cpu = machine.cpus[0]
            threads: set[int] = set()
            direct = cpu.invalidate

            def invalidate(address: int, size: int, direct: object = direct, threads: set[int] = threads) -> None:
                threads.add(threading.get_ident())
                direct(address, size)       # type: ignore[operator]

            cpu.invalidate = invalidate
            machine.cont()
            runner = machine.thread_id(0)
            assert runner
            end = time.monotonic() + 1
            while time.monotonic() < end:
                machine.space.write_bytes(CODE, code)       # a device's write of what is there already
            before = machine.space.read(COUNTER, 8)
            deadline = time.monotonic() + 30
            while machine.space.read(COUNTER, 8) == before and time.monotonic() < deadline:
                time.sleep(0.01)
            assert machine.space.read(COUNTER, 8) > before
            machine.stop()
            assert threads, "nobody noticed the writes"
            assert threading.get_ident() not in threads
