"""The network cards of a machine: virtio windows behind those of the disks."""

from __future__ import annotations

from collections.abc import Callable

from e2kemu.devices.core import Device
from e2kemu.devices.virtio_net import VirtioNet
from e2kemu.errors import OptionError
from e2kemu.machine.boards import Board
from e2kemu.machine.config import NicConfig
from e2kemu.machine.machine import Machine
from e2kemu.net.config import parse_mac, parse_netdev
from e2kemu.net.factory import open_netdev
from e2kemu.options import Options, escape, split_pairs


def default_mac(number: int) -> bytes:
    """QEMU's address of card ``number``: 52:54:00:12:34:56 and the next."""
    return b"\x52\x54\x00" + (0x123456 + number).to_bytes(3, "big")


def parse_nic(text: str, number: int) -> NicConfig:
    """The text of ``-nic``: a -netdev with the card's ``mac`` and ``model``; the back end's id may be left out.

    Raises OptionError.
    """
    options = Options(text, implied="type")
    mac, model = options.get("mac"), options.get("model", VirtioNet.name)
    if model not in (VirtioNet.name, "virtio", "virtio-net"):
        raise OptionError(f"Unsupported NIC model: {model}")
    pairs = [(key, value) for key, value in split_pairs(text, "type") if key not in ("mac", "model")]
    if "id" not in options:
        pairs.append(("id", f"nic{number}"))
    netdev = parse_netdev(",".join(f"{key}={escape(value)}" for key, value in pairs))
    return NicConfig(netdev, None if mac is None else parse_mac(mac))


def add_nics(machine: Machine, board: Board, add: Callable[[Device, int], None]) -> None:
    """Make the cards and their back ends. Raises OptionError when a back end cannot work."""
    try:
        for number, nic in enumerate(machine.config.nics):
            backend = None if nic.netdev is None else open_netdev(nic.netdev, machine.loop)
            card = VirtioNet(machine.space, machine.clock, backend, nic.mac or default_mac(number))
            card.instance_id = number
            card.id = nic.id or f"{VirtioNet.name}.{number}"
            machine.nics.append(card)
            add(card, board.virtio_base + (len(machine.config.disks) + number) * card.size)
    except BaseException:
        for card in machine.nics:
            card.unplug()
        raise

    def resumed(event: str, data: object) -> None:
        if event == "RESUME":
            for card in machine.nics:
                card.resumed()

    if machine.nics:
        machine.listeners.append(resumed)
