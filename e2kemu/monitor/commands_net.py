"""The network in the monitors: ``info network``, ``info usernet``, forwarded ports, the cable."""

from __future__ import annotations

from e2kemu.devices.virtio_net import VirtioNet
from e2kemu.errors import CommandError, OptionError
from e2kemu.monitor.dispatch import Context, command, hmp_command, info_command
from e2kemu.net.config import parse_forward, parse_forward_key
from e2kemu.net.packets import mac_text
from e2kemu.net.user import UserBackend


def _cards(ctx: Context) -> list[VirtioNet]:
    cards: list[VirtioNet] = ctx.vm.nics
    return cards


def _user(ctx: Context, ident: str) -> UserBackend:
    """The user-mode back end of that id ("": the only one). Raises CommandError."""
    found = [card.backend for card in _cards(ctx) if isinstance(card.backend, UserBackend)]
    if ident:
        found = [backend for backend in found if backend.id == ident]
        if not found:
            raise CommandError(f"unrecognized netdev id '{ident}'")
    if len(found) != 1:
        raise CommandError("no user-mode network" if not found else "several user-mode networks: name one by its id")
    return found[0]


@info_command("network", help="show the network state")
def info_network(ctx: Context) -> None:
    """``info network``."""
    for card in _cards(ctx):
        down = "" if card.link_up else ",link=down"
        ctx.monitor.print(
            f"{card.id}: index=0,type=nic,model={card.name},macaddr={mac_text(card.mac_bytes)}{down}"
        )
        if card.backend is not None:
            ctx.monitor.print(f" \\ {card.backend.id}: index=0,type={card.backend.kind},{card.backend.describe()}")


@info_command("usernet", help="show user network stack connection states")
def info_usernet(ctx: Context) -> None:
    """``info usernet``."""
    for card in _cards(ctx):
        if isinstance(card.backend, UserBackend):
            ctx.monitor.print(f"Hub -1 ({card.backend.id}):")
            for line in card.backend.connection_lines():
                ctx.monitor.print(line)


def _split(arg1: str, arg2: str | None) -> tuple[str, str]:
    return ("", arg1) if arg2 is None else (arg1, arg2)


@hmp_command("hostfwd_add", "arg1:s,arg2:s?", params="[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
             help="redirect TCP or UDP connections from host to guest (requires -net user)")
def hostfwd_add(ctx: Context, arg1: str, arg2: str | None = None) -> None:
    """``hostfwd_add``."""
    ident, rule = _split(arg1, arg2)
    backend = _user(ctx, ident)
    try:
        backend.add_forward(parse_forward(rule, backend.config.dhcpstart))
    except OptionError as error:
        raise CommandError(str(error)) from error


@hmp_command("hostfwd_remove", "arg1:s,arg2:s?", params="[netdev_id] [tcp|udp]:[hostaddr]:hostport",
             help="remove host-to-guest TCP or UDP redirection")
def hostfwd_remove(ctx: Context, arg1: str, arg2: str | None = None) -> None:
    """``hostfwd_remove``."""
    ident, rule = _split(arg1, arg2)
    backend = _user(ctx, ident)
    try:
        found = backend.remove_forward(*parse_forward_key(rule))
    except OptionError as error:
        raise CommandError(str(error)) from error
    ctx.monitor.print(f"host forwarding rule for {rule} {'removed' if found else 'not found'}")


@command("set_link")
def set_link(ctx: Context, name: str, up: bool) -> None:
    """Pull the cable of a card (or of the card that a back end belongs to), or put it in."""
    for card in _cards(ctx):
        if name == card.id or (card.backend is not None and name == card.backend.id):
            card.set_link(up)
            return
    raise CommandError(f"Device '{name}' not found", "DeviceNotFound")


@hmp_command("set_link", "name:s,up:b", params="name on|off", help="change the link status of a network adapter")
def hmp_set_link(ctx: Context, name: str, up: bool) -> None:
    """``set_link``."""
    set_link(ctx, name, up)
