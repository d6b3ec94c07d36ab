"""Options, monitors and machines with network cards; an emulator is a process."""

from __future__ import annotations

import json
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from e2kemu import Machine
from e2kemu.cli import main
from e2kemu.devices.virtio_net import VirtioNet
from tests.framework import forked

BARE = ("-display", "none", "-serial", "null", "-m", "32M")


@pytest.fixture
def rom(tmp_path: Path) -> str:
    path = tmp_path / "empty.rom"
    path.write_bytes(bytes(4096))
    return str(path)


def test_the_monitor_shows_cards_connections_and_changes_forwarded_ports(rom: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    commands = [
        "info network", "info usernet", f"hostfwd_add n0 tcp:127.0.0.1:{port}-:22", "info usernet",
        f"hostfwd_add tcp:127.0.0.1:{port}-:22", f"hostfwd_remove n0 tcp:127.0.0.1:{port}",
        f"hostfwd_remove tcp:127.0.0.1:{port}", "hostfwd_add n1 tcp::1-:2", "hostfwd_add x", "set_link n0 off",
        "info network", "set_link nobody on", "info qtree", "quit",
    ]  # fmt: skip
    result = forked.run(
        [sys.executable, "-m", "e2kemu", *BARE, "-S", "-monitor", "stdio", "-bios", rom,
         "-netdev", "user,id=n0", "-device", "virtio-net-device,netdev=n0,id=card",
         "-nic", f"stream,server=on,addr.type=unix,addr.path={tmp_path}/wire,mac=52:54:00:00:00:09"],
        input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    out = result.stdout
    for line in (
        "card: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:12:34:56",
        " \\ n0: index=0,type=user,net=10.0.2.0,restrict=off",
        "virtio-net-device.1: index=0,type=nic,model=virtio-net-device,macaddr=52:54:00:00:00:09",
        f" \\ nic1: index=0,type=stream,wait from {tmp_path}/wire",
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ",
        f"host forwarding rule for tcp:127.0.0.1:{port} removed",
        f"host forwarding rule for tcp:127.0.0.1:{port} not found",
        "Error: unrecognized netdev id 'n1'", "Error: Device 'nobody' not found", "macaddr=52:54:00:12:34:56,link=down",
        "Could not set up host forwarding rule", "Error: Invalid host forwarding rule 'x'", "Hub -1 (n0):",
    ):  # fmt: skip
        assert line in out, line
    assert f"{port:5d}       10.0.2.15    22     0     0" in out
    assert not (tmp_path / "wire").exists()
    assert result.stderr == ""


def test_wrong_options_are_one_line_that_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    cases = (
        (("-netdev", "user"), "-netdev user: Parameter 'id' is missing"),
        (("-netdev", "user,id=a", "-netdev", "user,id=a"), "-netdev user,id=a: Duplicate ID 'a' for netdev"),
        (("-netdev", "tap,id=a"), "-netdev tap,id=a: Parameter 'type' expects a netdev backend type"),
        (("-device", "virtio-net-device,netdev=a"), "can't find value 'a'"),
        (("-device", "virtio-net-device,foo=a"), "Property 'virtio-net-device.foo' not found"),
        (("-device", "virtio-net-device,mac=1"), "invalid MAC address '1'"),
        (("-nic", "user,mac=01:00:00:00:00:00"), "multicast"),
        (("-nic", "user,model=e1000"), "-nic user,model=e1000: Unsupported NIC model: e1000"),
        (("-nic", "user,hostfwd=tcp::1"), "-nic user,hostfwd=tcp::1: Invalid host forwarding rule 'tcp::1'"),
        (("-nic", "user,id=q", "-nic", "user,id=q"), "it's in use"),
        (tuple(["-nic", "user"] * 9), "too many virtio devices, max 8"),
    )
    for options, expected in cases:
        assert main([*BARE, *options]) == 1
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert len(cases) > 10
    assert main(["-device", "help"]) == 0
    assert 'name "virtio-net-device"' in capsys.readouterr().out


def test_a_machine_moves_with_its_card(rom: str, tmp_path: Path) -> None:
    stream = str(tmp_path / "stream")
    with Machine.build(ram="32M", bios=rom, nics=["user,mac=52:54:00:aa:bb:cc", "user"]) as source:
        cards = [device for device in source.devices if isinstance(device, VirtioNet)]
        assert [card.base for card in cards] == [0x81301000, 0x81301200]
        for status in (1, 3):
            source.space.write(0x81301070, 4, status)
        source.save(stream)
    with Machine.build(ram="32M", bios=rom, incoming=True, nics=["user", "user,restrict=on"]) as target:
        target.load(stream)
        assert target.nics[0].mac_bytes == bytes.fromhex("525400aabbcc")
        assert target.space.read(0x81301070, 4) == 3
        assert target.space.read(0x81301100, 4) == 0xAA005452
        assert target.space.read(0x81301304, 2) == 0x5734
    with Machine.build(ram="32M", bios=rom, incoming=True) as other, pytest.raises(Exception, match="virtio-net"):
        other.load(stream)


class Rings:
    """A driver in a machine: four buffers to receive, a frame sent at a time; queue 1 has its areas 0x8000 further."""

    def __init__(self, machine: Machine, base: int = 0x81301000) -> None:
        self.machine, self.base, self.sent = machine, base, 0
        for status in (0, 1, 3):
            self.poke(0x70, status)
        for half, features in ((0, 1 << 5), (1, 1)):
            self.poke(0x24, half)
            self.poke(0x20, features)
        self.poke(0x70, 11)
        for queue in (0, 1):
            self.poke(0x30, queue)
            self.poke(0x38, 4)
            for offset, address in ((0x80, 0x1000), (0x90, 0x2000), (0xA0, 0x3000)):
                self.poke(offset, address + 0x8000 * queue)
            self.poke(0x44, 1)
        self.poke(0x70, 15)
        for head in range(4):
            descriptor = struct.pack("<QIHH", 0x20000 + 2048 * head, 2048, 2, 0)
            machine.space.write_bytes(0x1000 + 16 * head, descriptor)
        machine.space.write_bytes(0x2000, struct.pack("<HH4H", 0, 4, 0, 1, 2, 3))
        self.poke(0x50, 0)

    def poke(self, offset: int, value: int) -> None:
        self.machine.space.write(self.base + offset, 4, value)

    def send(self, frame: bytes) -> None:
        space = self.machine.space
        space.write_bytes(0x30000, bytes(12) + frame)
        space.write_bytes(0x9000, struct.pack("<QIHH", 0x30000, 12 + len(frame), 0, 0))
        self.sent += 1
        space.write_bytes(0xA000, struct.pack("<HH4H", 0, self.sent, 0, 0, 0, 0))
        self.poke(0x50, 1)

    def received(self) -> list[bytes]:
        space, found = self.machine.space, []
        for number in range(space.read(0x3002, 2)):
            head, size = struct.unpack("<II", space.read_bytes(0x3004 + 8 * number, 8))
            found.append(space.read_bytes(0x20000 + 2048 * head, size)[12:])
        return found


def test_two_emulators_exchange_frames_over_a_socket_and_one_of_them_moves(rom: str, tmp_path: Path) -> None:
    place = f"addr.type=unix,addr.path={tmp_path}/wire"
    client = f"stream,{place},reconnect-ms=10,mac=52:54:00:00:00:02"

    def pump(machines: list[Machine], until: Callable[[], object]) -> None:
        for _ in range(1000):
            if until():
                return
            for machine in machines:
                machine.loop.run_once(0.002)
        raise AssertionError("it did not happen")

    with Machine.build(ram="32M", bios=rom, nics=[f"stream,server=on,{place}"]) as here:
        here.clock.start()  # the machine's time runs, its CPU does not
        one = Rings(here)
        with Machine.build(ram="32M", bios=rom, nics=[client]) as source:
            source.clock.start()
            two = Rings(source)
            pump([here, source], lambda: "connection from" in here.nics[0].backend.describe())  # type: ignore[union-attr]
            one.send(b"to the other".ljust(200, b"."))
            two.send(b"and back".ljust(300, b"."))
            pump([here, source], lambda: one.received() and two.received())
            assert two.received() == [b"to the other".ljust(200, b".")]
            assert one.received() == [b"and back".ljust(300, b".")]
            source.clock.stop()
            source.save(str(tmp_path / "stream"))
        with Machine.build(ram="32M", bios=rom, incoming=True, nics=[client]) as target:
            target.load(str(tmp_path / "stream"))
            pump([here, target], lambda: "connection from" in here.nics[0].backend.describe())  # type: ignore[union-attr]
            target.clock.start()
            target.emit("RESUME")
            pump([here, target], lambda: len(one.received()) == 2)
            assert one.received()[1][6:14] == bytes.fromhex("525400000002") + b"\x80\x35", "it says where it is now"
            one.send(b"found you".ljust(100, b"."))
            two.machine = target
            pump([here, target], lambda: len(two.received()) == 2)
            assert two.received()[1] == b"found you".ljust(100, b".")


def test_set_link_in_qmp(rom: str) -> None:
    lines = [
        {"execute": "qmp_capabilities"},
        {"execute": "set_link", "arguments": {"name": "nic0", "up": False}},
        {"execute": "set_link", "arguments": {"name": "x", "up": False}},
        {"execute": "quit"},
    ]
    result = forked.run(
        [sys.executable, "-m", "e2kemu", *BARE, "-S", "-qmp", "stdio", "-bios", rom, "-nic", "user"],
        input="\n".join(map(json.dumps, lines)) + "\n", capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert answers[2] == {"return": {}}
    assert answers[3]["error"]["class"] == "DeviceNotFound"
