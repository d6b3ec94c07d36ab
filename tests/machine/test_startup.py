"""Guests that start as public kernels do: every access works, or is named by -d unimp,guest_errors.

There is no image of Linux or Embox for e2k that may be had; ``startup/*.s`` do what their sources say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2kemu import trace
from e2kemu.api import Machine
from e2kemu.chardev import Chardev
from e2kemu.cpu.asm import assemble
from e2kemu.devices.escc import Escc
from e2kemu.machine.kernel import LINUX_VIRTUAL
from tests.machine.test_boot import EMBOX_BASE, elf, header

SOURCES = Path(__file__).parent / "startup"


class Line(Chardev):
    """The other end of a serial line."""

    def __init__(self) -> None:
        super().__init__("line")
        self.output = bytearray()

    def write(self, data: bytes) -> None:
        self.output += data


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """What -d unimp,guest_errors says."""
    path = tmp_path / "log"
    trace.set_file(str(path))
    trace.set_items("unimp,guest_errors")
    yield path
    trace.set_items("none")
    trace.set_file(None)


def run(machine: Machine) -> tuple[int | None, str]:
    """To its end: exit status and what was printed on the Am85C30."""
    (escc,) = (device for device in machine.devices if isinstance(device, Escc))
    line = escc.a.chardev = Line()
    deadline = time.monotonic() + 60
    while machine.exit_status is None:
        assert time.monotonic() < deadline, (line.output, [hex(cpu.state.pc) for cpu in machine.cpus])
        machine.run(timeout=0.2)
    return machine.exit_status, line.output.decode()


def test_the_start_of_embox_goes_through(tmp_path: Path, log: Path) -> None:
    source = SOURCES / "embox.s"
    code = assemble(source.read_text(), version=4, base=EMBOX_BASE, filename=str(source)).data
    image = tmp_path / "embox.bin"
    image.write_bytes(bytes(header()) + code)
    with Machine.build(ram="64M", cpu="e8c", smp=2, kernel=str(image)) as machine:
        assert run(machine) == (0, "bputm\n")
    assert log.read_text() == ""


@pytest.mark.parametrize(("cpu", "version", "define"), [("e8c", 4, ""), ("e16c", 6, "#define V6 1\n")])
def test_the_start_of_linux_goes_through(cpu: str, version: int, define: str, tmp_path: Path, log: Path) -> None:
    source = SOURCES / "linux.s"
    code = assemble(define + source.read_text(), version=version, base=LINUX_VIRTUAL, filename=str(source)).data
    image = tmp_path / "image"
    image.write_bytes(elf([(LINUX_VIRTUAL, code)], LINUX_VIRTUAL))
    with Machine.build(ram="64M", cpu=cpu, smp=2, kernel=str(image)) as machine:
        assert run(machine) == (0, "vrsi\n")
    assert log.read_text() == ""
