"""``-netdev``, ``-nic`` and ``-device virtio-net-device``: from option texts to the network cards of a machine.

Cards are numbered in the order of their -device and -nic options. Two cards cannot share a back end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2kemu.cli_table import Given
from e2kemu.errors import E2kError, OptionError
from e2kemu.loop import report
from e2kemu.machine.config import NicConfig
from e2kemu.machine.nics import parse_nic
from e2kemu.net.config import NetdevConfig, parse_mac, parse_netdev
from e2kemu.options import Options

CARD = "virtio-net-device"


def is_card(text: str) -> bool:
    """Whether a -device is a network card."""
    return Options(text, implied="driver").get("driver") == CARD


def nics_of(given: Given) -> tuple[NicConfig, ...]:
    """The cards of the command line. Raises OptionError that names the option."""
    netdevs: dict[str, NetdevConfig] = {}
    for text in given.all("netdev"):
        with _blame("-netdev", text):
            netdev = parse_netdev(text)
            if netdev.id in netdevs:
                raise OptionError(f"Duplicate ID '{netdev.id}' for netdev")
            netdevs[netdev.id] = netdev
    cards: list[NicConfig] = []
    used: set[str] = set()
    for option, _, text in given.order:
        if option.attribute == "nic" and text != "none":
            with _blame("-nic", text):
                card = parse_nic(text, len(cards))
                if card.netdev is not None and card.netdev.id in netdevs:
                    raise OptionError(f"Duplicate ID '{card.netdev.id}' for netdev")
        elif option.attribute == "device" and is_card(text):
            with _blame("-device", text):
                card = _card(text, netdevs, {one.id for one in cards if one.id})
        else:
            continue
        if card.netdev is not None:
            if card.netdev.id in used:
                with _blame(f"-{option.names[0]}", text):
                    raise OptionError(f"Property '{CARD}.netdev' can't take value '{card.netdev.id}', it's in use")
            used.add(card.netdev.id)
        cards.append(card)
    for ident in netdevs:
        if ident not in used:
            report(f"e2kemu: warning: netdev {ident} has no peer")
    return tuple(cards)


def _card(text: str, netdevs: dict[str, NetdevConfig], taken: set[str]) -> NicConfig:
    options = Options(text, implied="driver")
    options.require("driver")
    name, mac, ident = options.get("netdev"), options.get("mac"), options.get("id", "") or ""
    for key in options.rest():
        raise OptionError(f"Property '{CARD}.{key}' not found")
    if name is not None and name not in netdevs:
        raise OptionError(f"Property '{CARD}.netdev' can't find value '{name}'")
    if ident in taken:
        raise OptionError(f"Duplicate device ID '{ident}'")
    return NicConfig(None if name is None else netdevs[name], None if mac is None else parse_mac(mac), ident)


@contextmanager
def _blame(option: str, text: str) -> Iterator[None]:
    try:
        yield
    except E2kError as error:
        raise OptionError(f"{option} {text}: {error}") from error
