"""The Python face, on guests assembled here: build, run, step, look inside, save and load, reset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_loader import elf

from e2kemu import Machine
from e2kemu.cpu.asm import assemble
from e2kemu.errors import ChannelError, ImageError, OptionError, StateError
from e2kemu.wire import Writer

HEAD = """
    .text
start:
    {
        setwd wsz=16, nfx=1
        addd,0 0, 0x1010003f8, %r0          // serial port
        addd,1 0, 0x200000, %r4             // a place in RAM
    }
        addd,0 0, 0x1010000f4, %r1          // exit register
        addd,0 %r1, 4, %r3                  // idle register
"""

LOOP = """
loop:
    {
        nop 2
        ldd,0 [ %r4 + 0 ], %r5
    }
        addd,0 %r5, 1, %r5
        std,2 %r5, [ %r4 + 0 ]
        ibranch loop
"""


def put(text: str) -> str:
    return "".join(f"    addd,0 0, {byte:#x}, %r2\n    stb,2 %r2, [ %r0 + 0 ]\n" for byte in text.encode())


def leave(status: int) -> str:
    return f"    addd,0 0, {status}, %r2\n    stw,2 %r2, [ %r1 + 0 ]\nhalt:\n    ibranch halt\n"


ECHO = HEAD + """
echo:
    {
        nop 2
        ldb,0 [ %r0 + 5 ], %r5
    }
    {
        nop 2
        cmpandesb,0 %r5, 1, %pred0
    }
        ibranch rest ? %pred0
    {
        nop 2
        ldb,0 [ %r0 + 0 ], %r5
    }
        stb,2 %r5, [ %r0 + 0 ]
        ibranch echo
rest:
        addd,0 0, 100, %r2
        stw,2 %r2, [ %r3 + 0 ]
        ibranch echo
"""


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Machines that run the given source from their ROM."""
    made: list[Machine] = []

    def make(source: str, **options: Any) -> Machine:
        rom = tmp_path / f"{len(made)}.bin"
        rom.write_bytes(assemble(source, version=4, base=0x1_0000_0000).data)
        made.append(Machine.build(ram=options.pop("ram", "32M"), bios=str(rom), **options))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


def sections(machine: Machine) -> dict[str, bytes]:
    """The bytes of every section of a machine that stands."""
    result = {}
    for handler in machine.save_handlers():
        w = Writer()
        handler.save(w)
        result[f"{handler.idstr}/{handler.instance_id}"] = w.getvalue()
    return result


def test_a_guest_prints_and_ends_with_its_status(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + put("hello\n") + leave(7))
    events: list[str] = []
    machine.listeners.append(lambda name, data: events.append(name))
    assert machine.run(timeout=60) == "exit"
    assert (machine.console.text, machine.exit_status, machine.run_state) == ("hello\n", 7, "shutdown")
    assert events == ["RESUME", "SHUTDOWN"]
    with pytest.raises(StateError, match="the guest has ended with status 7"):
        machine.run()
    with pytest.raises(StateError, match="the guest has ended with status 7"):
        machine.step()
    machine.reset()
    assert machine.run(timeout=60) == "exit"
    assert (machine.console.text, machine.exit_status) == ("hello\n" * 2, 7)


def test_run_stops_at_what_it_was_told_and_the_guest_stands(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + put("ready") + LOOP)
    assert machine.run(timeout=60, until=b"ready") == "until"
    assert machine.run(until=lambda m: m.read_mem(0x20_0000, 8) > bytes(8), timeout=60) == "until"
    count = machine.read_mem(0x20_0000, 8)
    assert machine.run_state == "paused"
    assert machine.read_mem(0x20_0000, 8) == count
    assert machine.run(timeout=0.05) == "timeout"
    assert machine.read_mem(0x20_0000, 8) != count


def test_steps_are_wide_instructions(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + LOOP)
    assert machine.read_reg("pc") == 0x1_0000_0000
    machine.step()
    assert machine.read_reg("pc") > 0x1_0000_0000
    assert machine.read_reg("r4") == 0x20_0000
    assert machine.step(2) == "limit"
    machine.write_reg("r4", 0x30_0000)
    machine.write_mem(0x30_0000, (41).to_bytes(8, "little"))
    pc = machine.read_reg("pc")
    assert machine.step(4) == "limit"
    assert machine.read_reg("pc") == pc, "one turn of the loop is four wide instructions"
    assert machine.read_mem(0x30_0000, 8) == (42).to_bytes(8, "little")
    assert machine.clock.now() == 0


def test_stepping_goes_through_sleep_and_to_the_end(boot: Callable[..., Machine]) -> None:
    sleep = "    addd,0 0, 5000000, %r2\n    stw,2 %r2, [ %r3 + 0 ]\n"
    machine = boot(HEAD + sleep + put("x") + leave(3))
    assert machine.step(50) == "exit"
    assert (machine.exit_status, machine.console.text) == (3, "x")
    assert machine.clock.now() >= 5_000_000_000


def test_what_is_typed_reaches_the_guest(boot: Callable[..., Machine]) -> None:
    machine = boot(ECHO)
    text = "".join(chr(33 + i % 90) for i in range(300))
    machine.console.send(text)
    assert machine.run(timeout=60, until=text.encode()) == "until"
    assert machine.console.text == text


def test_a_stopped_machine_saved_and_loaded_is_the_same_machine(
    boot: Callable[..., Machine], tmp_path: Path
) -> None:
    source = HEAD + put("go") + LOOP
    machine, there = boot(source), boot(source, incoming=True)
    machine.run(timeout=60, until=b"go")
    machine.run(timeout=0.05)
    path = str(tmp_path / "state")
    machine.save(path)
    there.load(path)
    assert sections(there) == sections(machine)
    for here, other in zip(machine.ram_blocks, there.ram_blocks, strict=True):
        assert here.idstr == other.idstr
        assert (here.view == other.view).all()
    count = there.read_mem(0x20_0000, 8)
    assert there.run(timeout=60, until=lambda m: m.read_mem(0x20_0000, 8) != count) == "until"
    machine.save(path)
    assert machine.run(timeout=0.05) == "timeout"


def test_a_file_that_cannot_be_written_or_read_is_an_error_and_the_machine_lives(
    boot: Callable[..., Machine], tmp_path: Path
) -> None:
    machine = boot(HEAD + LOOP)
    with pytest.raises(ChannelError, match="No such file or directory"):
        machine.save(str(tmp_path / "no" / "state"))
    assert machine.run(timeout=0.02) == "timeout"
    waiting = boot(HEAD + LOOP, incoming=True)
    with pytest.raises(StateError, match="waits for its state"):
        waiting.run()
    with pytest.raises(ChannelError):
        waiting.load(str(tmp_path / "missing"))
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    with pytest.raises(ChannelError, match="Not a migration stream"):
        waiting.load(str(tmp_path / "junk"))


def test_reset_runs_the_firmware_again_and_keeps_ram(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + put("boot ") + LOOP, append="once")
    machine.run(timeout=60, until=b"boot ")
    machine.write_mem(0x10_0000, b"kept")
    machine.write_mem(0xFF_0100, b"lost")
    machine.reset()
    assert machine.run_state == "prelaunch"
    assert machine.run(timeout=60, until=b"boot ") == "until"
    assert machine.read_mem(0x10_0000, 4) == b"kept"
    assert machine.read_mem(0xFF_0100, 5) == b"once\0"
    assert machine.console.text == "boot boot "


def test_the_board_is_where_the_documents_say(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + LOOP, ram="3G", append="a b", machine="elbrus-1.0")
    assert machine.space.mtree(flat=True).splitlines()[3:] == [
        "  0000000000000000-000000007fffffff (prio 0, ram): elbrus.ram",
        "  0000000081300000-000000008130003f (prio 0, i/o): e2k-lt-timer",
        "  0000000100000000-0000000100ffffff (prio 0, rom): elbrus.rom",
        "  0000000101000000-00000001010000f3 (prio -1, i/o): e2k-ioports",
        "  00000001010000f4-00000001010000f7 (prio 0, i/o): e2k-test-exit",
        "  00000001010000f8-00000001010000fb (prio 0, i/o): e2k-test-idle",
        "  00000001010000fc-00000001010003f7 (prio -1, i/o): e2k-ioports @00000000000000fc",
        "  00000001010003f8-00000001010003ff (prio 0, i/o): serial",
        "  0000000101000400-000000010100ffff (prio -1, i/o): e2k-ioports @0000000000000400",
        "  0000000110000000-00000001100fffff (prio 0, i/o): e2k-sic",
        "  0000000400000000-000000043fffffff (prio 0, ram): elbrus.ram-high @0000000080000000",
    ]
    assert [block.idstr for block in machine.ram_blocks] == ["elbrus.ram", "elbrus.rom"]
    names = [handler.idstr for handler in machine.save_handlers()]
    assert names == ["timer", "cpu", "serial", "e2k-lt-timer", "e2k-test"]
    assert machine.read_mem(0xFF_0000, 2) == b"\x00\xe2"
    assert machine.space.read(0x1_1000_0020, 4) == 4 << 16 | 4
    assert "dev: serial" in machine.info_qtree()


def test_a_kernel_is_loaded_at_its_address_and_named_in_the_boot_information(
    boot: Callable[..., Machine], tmp_path: Path
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(elf(address=0x180_0000, data=b"kernel", size=0x2000))
    machine = boot(HEAD + LOOP, kernel=str(kernel))
    assert machine.read_mem(0x180_0000, 8) == b"kernel\0\0"
    assert machine.space.read(0xFF_0018, 8) == 0x180_0000
    assert machine.space.read(0xFF_0020, 8) == 0x2000
    assert machine.space.read(0xFF_0028, 8) == 0x180_0000
    machine.write_mem(0x180_1000, b"used")
    machine.reset()
    assert machine.read_mem(0x180_1000, 4) == bytes(4), "zeroes of the program are zero again"
    kernel.write_bytes(elf(address=0x1000_0000))
    with pytest.raises(ImageError, match="segment 0x10000000-0x100000ff is outside of RAM"):
        boot(HEAD, kernel=str(kernel))


def test_what_cannot_be_built_is_refused_in_one_line(boot: Callable[..., Machine]) -> None:
    with pytest.raises(OptionError, match="16 MiB of RAM is too little"):
        boot(HEAD, ram="16M")
    with pytest.raises(ImageError, match="could not load BIOS '/nowhere'"):
        Machine.build(bios="/nowhere")


def test_breakpoints_and_addresses_stop_before_the_instruction(boot: Callable[..., Machine]) -> None:
    machine = boot(HEAD + LOOP)
    machine.step(4)
    second = machine.read_reg("pc")
    assert machine.run(timeout=60, until=second) == "until"
    assert machine.read_reg("pc") == second
    count = machine.read_mem(0x20_0000, 8)
    machine.breakpoints.add(second)
    assert machine.run(timeout=60) == "debug"
    assert int.from_bytes(machine.read_mem(0x20_0000, 8), "little") == int.from_bytes(count, "little") + 1
    machine.breakpoints.clear()
    assert machine.run(timeout=0.02) == "timeout"


def test_a_hook_sees_the_blocks_as_they_are_executed(boot: Callable[..., Machine]) -> None:
    machine, seen = boot(HEAD + LOOP), []
    remove = machine.on_block(lambda cpu, address: seen.append(address))
    machine.step(30)
    remove()
    assert seen[0] == 0x1_0000_0000
    assert len(set(seen)) < len(seen), "a loop comes round"
    count = len(seen)
    machine.step(30)
    assert len(seen) == count


def test_a_guest_that_cannot_go_on_says_why_in_one_line(
    boot: Callable[..., Machine], capfd: pytest.CaptureFixture[str]
) -> None:
    machine = boot(HEAD + "    udivd,5 %r4, 0, %r5\n" + LOOP)
    assert machine.run(timeout=60) == "internal-error"
    error = capfd.readouterr().err
    assert error.startswith("e2kemu: CPU 0: exc_div at 0x1000000")
    assert error.count("\n") == 1
    with pytest.raises(StateError, match="Resetting the Virtual Machine is required"):
        machine.run()


def test_a_sleeping_guest_sleeps_on_where_it_is_loaded(boot: Callable[..., Machine], tmp_path: Path) -> None:
    source = HEAD + "    addd,0 0, 4000000000, %r2\n    stw,2 %r2, [ %r3 + 0 ]\n" + put("awake") + LOOP
    machine, there = boot(source), boot(source, incoming=True)
    assert machine.run(timeout=60, until=lambda m: m.cpus[0].idle_until is not None) == "until"
    machine.save(str(tmp_path / "state"))
    there.load(str(tmp_path / "state"))
    assert there.cpus[0].idle_until == machine.cpus[0].idle_until
    assert there.run(timeout=0.1) == "timeout"
    assert there.console.text == ""
    there.clock.set(machine.cpus[0].idle_until)
    assert there.run(timeout=60, until=b"awake") == "until"


def test_two_machines_live_in_one_program(boot: Callable[..., Machine]) -> None:
    one, two = boot(HEAD + put("one") + LOOP), boot(HEAD + put("two") + LOOP)
    one.start()
    two.start()
    try:
        assert two.run(timeout=60, until=b"two") == "until"
        assert one.run(timeout=60, until=lambda m: b"one" in m.console.output) == "until"
    finally:
        one.stop()
    assert (one.console.text, two.console.text) == ("one", "two")


def test_the_bundled_firmware_greets_and_powers_off() -> None:
    with Machine.build(ram="64M", append="workload=hello") as machine:
        assert machine.run(timeout=100) == "exit"
        assert machine.exit_status == 0
        assert "hello from e2k firmware" in machine.console.text
        assert "elbrus-2.0" in machine.console.text


def test_a_loaded_machine_goes_on_exactly_as_the_saved_one_would_have(tmp_path: Path) -> None:
    def machine(**options: Any) -> Machine:
        return Machine.build(ram="32M", append="workload=verify start=16M end=24M seed=5", **options)

    path = str(tmp_path / "state")
    with machine() as one, machine(incoming=True) as two:
        assert one.step(30_001) == "limit"
        one.save(path)
        two.load(path)
        assert sections(one) == sections(two)
        assert one.step(20_003) == two.step(20_003) == "limit"
        assert one.read_reg("pc") == two.read_reg("pc")
        assert sections(one) == sections(two)
        assert (one.ram_blocks[0].view == two.ram_blocks[0].view).all()
        assert one.console.output.endswith(two.console.output)


def test_the_dirty_log_loses_no_store_of_a_running_guest() -> None:
    append = "workload=verify start=16M end=24M seed=3"
    with Machine.build(ram="32M", append=append) as machine:
        machine.run(timeout=60, until=b"V")
        block = machine.ram_blocks[0]
        block.harvest_dirty()
        shadow = block.view.copy().reshape(-1, block.page_size)
        pages = block.view.reshape(-1, block.page_size)
        copied = 0
        machine.start()
        for _ in range(40):
            with machine.quiesced():
                dirty = block.harvest_dirty()
            # as a migration does: the guest goes on while its pages are copied
            shadow[dirty] = pages[dirty]
            copied += int(dirty.sum())
            time.sleep(0.003)
        machine.stop()
        dirty = block.harvest_dirty()
        shadow[dirty] = pages[dirty]
        assert copied > 100
        assert (shadow == pages).all()
        assert "FAULT" not in machine.console.text


def test_the_firmware_starts_a_kernel(tmp_path: Path) -> None:
    code = assemble(HEAD + put("kernel") + leave(9), version=4, base=0x180_0000).data
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(elf(address=0x180_0000, data=code, size=len(code)))
    with Machine.build(ram="64M", kernel=str(kernel)) as machine:
        assert machine.run(timeout=60) == "exit"
        assert (machine.exit_status, machine.console.text[-6:]) == (9, "kernel")
