"""What a machine may be, and the one line that says why not."""

from __future__ import annotations

import struct

import pytest

from e2kemu.chardev import NullChardev
from e2kemu.errors import OptionError
from e2kemu.machine import boards
from e2kemu.machine.bootinfo import MAX_ARGUMENTS, LoadedImage, bootinfo
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.smp import Topology, parse_smp

MIB, GIB = 1 << 20, 1 << 30

WRONG: list[tuple[dict[str, object], str]] = [
    ({"machine": "pc"}, 'unsupported machine type: "pc" (use -machine help to list supported machines)'),
    ({"cpu": "z80"}, "unable to find CPU model 'z80'"),
    ({"ram_size": 16 * MIB}, "16 MiB of RAM is too little: machine 'elbrus-2.0' needs 32 MiB"),
    ({"ram_size": 4096}, "4096 bytes of RAM is too little: machine 'elbrus-2.0' needs 32 MiB"),
    ({"ram_size": 1 << 50}, "1073741824 MiB of RAM is too much: machine 'elbrus-2.0' takes 524288 MiB"),
    ({"ram_size": 64 * MIB + 100}, "RAM size 67108964 is not a multiple of the page size (4096 bytes)"),
    ({"smp": 17}, "Invalid SMP CPUs 17. The max CPUs supported by machine 'elbrus-2.0' is 16"),
    ({"smp": 2, "machine": "elbrus-1.0"},
     "Invalid SMP CPUs 2. The max CPUs supported by machine 'elbrus-1.0' is 1"),
    ({"smp": 0}, "Invalid SMP CPUs 0. The max CPUs supported by machine 'elbrus-2.0' is 16"),
    ({"accel": "kvm"}, "invalid accelerator kvm"),
    ({"serials": (NullChardev("a"),) * 5}, "too many serial devices, max 4"),
]


SMP = [
    ("4", 4, (1, 4, 1)),
    ("cpus=4,sockets=2", 4, (2, 2, 1)),
    ("sockets=2,cores=3,threads=2", 12, (2, 3, 2)),
    ("2,maxcpus=8", 2, (1, 8, 1)),
    ("8,cores=2,threads=2", 8, (2, 2, 2)),
    ("8,sockets=2,cores=2", 8, (2, 2, 2)),
    ("maxcpus=6,cores=3", 6, (2, 3, 1)),
    ("threads=2", 2, (1, 1, 2)),
]

BAD_SMP = [
    ("0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
    ("2,cores=0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
    ("4,cores=3", "Invalid CPU topology: product of the hierarchy must match maxcpus: "
                  "sockets (1) * cores (3) * threads (1) != maxcpus (4)"),
    ("8,maxcpus=4", "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
                    "sockets (1) * cores (4) * threads (1) == maxcpus (4) < smp_cpus (8)"),
    ("4,dies=2", "Invalid parameter 'dies'"),
    ("many", "Parameter 'cpus' expects a number"),
]


@pytest.mark.parametrize(("text", "cpus", "groups"), SMP)
def test_what_smp_leaves_out_follows_from_the_rest(text: str, cpus: int, groups: tuple[int, int, int]) -> None:
    assert parse_smp(text) == (cpus, Topology(*groups))
    places = [Topology(*groups).place(number) for number in range(cpus)]
    assert len({tuple(place.values()) for place in places}) == cpus, "two CPUs in one place"
    assert all(place["core-id"] < groups[1] and place["thread-id"] < groups[2] for place in places)


@pytest.mark.parametrize(("text", "message"), BAD_SMP)
def test_a_topology_that_cannot_be_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_smp(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda v: str(v)[:40])
def test_what_cannot_be_is_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        MachineConfig(**options).check()  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_defaults_are_a_machine() -> None:
    config = MachineConfig()
    config.check()
    assert (config.board.name, config.cpu_model, config.ram) == ("elbrus-2.0", "e8c", 256 * MIB)
    assert MachineConfig(machine="elbrus").board is config.board
    assert config == MachineConfig(serials=(NullChardev("x"),)), "what is plugged in is not the machine"


def test_machine_help_names_every_type_its_alias_and_the_default() -> None:
    assert boards.help_text().splitlines() == [
        "Supported machines are:",
        "elbrus               Elbrus computer, up to 16 CPUs, with interrupt controllers and the IOHUB, 2026"
        " (alias of elbrus-2.0)",
        "elbrus-2.0           Elbrus computer, up to 16 CPUs, with interrupt controllers and the IOHUB, 2026 (default)",
        "elbrus-1.1           Elbrus computer with one CPU and the IOHUB, 2026",
        "elbrus-1.0           Elbrus computer with one CPU, 2026",
        "elbrus-0.1           Elbrus computer with one CPU, compatibility: "
        "streams without footers, configuration, global state",
        "linux-user           Linux process: -kernel program, -append arguments, 2026 (alias of linux-user-1.0)",
        "linux-user-1.0       Linux process: -kernel program, -append arguments, 2026",
    ]


def block(**changes: object) -> bytes:
    values: dict[str, object] = {
        "mdl": 7, "cpus": 1, "kernel": None, "serial_base": 0x1_0100_03F8, "timer_base": 0x8130_0000,
        "timer_frequency": 10_000_000, "banks": [(0, 2 * GIB), (0x4_0000_0000, GIB)], "machine": "elbrus-1.0",
        "cpu": "e8c", "append": "workload=hello",
    }  # fmt: skip
    return bootinfo(**(values | changes))  # type: ignore[arg-type]


def test_the_boot_information_block_has_its_fields_at_their_places() -> None:
    data = block(kernel=LoadedImage(0x40_0000, 0x1234, 0x40_0010))
    assert len(data) == 0x1000
    assert struct.unpack_from("<HBBI", data) == (0xE200, 7, 1, 0x1000)
    assert struct.unpack_from("<5Q", data, 8) == (0, 0, 0x40_0000, 0x1234, 0x40_0010)
    assert struct.unpack_from("<3Q", data, 0x30) == (0x1_0100_03F8, 0x8130_0000, 2)
    assert struct.unpack_from("<8Q", data, 0x48) == (0, 2 * GIB, 0x4_0000_0000, GIB, 0, 0, 0, 0)
    assert struct.unpack_from("<Q", data, 0x88) == (10_000_000,)
    assert data[0x90:0xB0].rstrip(b"\0") == b"elbrus-1.0"
    assert data[0xB0:0xD0].rstrip(b"\0") == b"e8c"
    assert data[0x100:].rstrip(b"\0") == b"workload=hello"
    assert block()[0x18:0x30] == bytes(24)


def test_an_append_text_that_does_not_fit_is_refused() -> None:
    assert block(append="x" * MAX_ARGUMENTS)[-1] == 0
    with pytest.raises(OptionError, match=f"-append: {MAX_ARGUMENTS + 1} bytes are too many"):
        block(append="x" * (MAX_ARGUMENTS + 1))
    with pytest.raises(OptionError, match="NUL"):
        block(append="a\0b")
