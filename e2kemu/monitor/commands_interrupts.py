"""Interrupt controllers and watchdogs in the monitors: ``info pic``, ``info lapic``, ``info irq``, NMIs, actions."""

from __future__ import annotations

from e2kemu.devices.pic import IoController, LocalController
from e2kemu.errors import CommandError
from e2kemu.machine.interrupts import inject_nmi
from e2kemu.machine.watchdog import ACTIONS
from e2kemu.monitor.dispatch import Context, command, hmp_command, info_command

NONE = "Interrupt controller information not available: machine '{}' has none"


def _io(ctx: Context) -> list[IoController]:
    return [device for device in ctx.vm.devices if isinstance(device, IoController)]


def _locals(ctx: Context) -> list[LocalController]:
    return [device for device in ctx.vm.devices if isinstance(device, LocalController)]


@info_command("pic", help="show PIC state")
def info_pic(ctx: Context) -> None:
    """``info pic``: the controller of the devices, and a line for each CPU's own."""
    with ctx.vm.quiesced():
        for controller in _io(ctx):
            ctx.monitor.print("\n".join(controller.info()))
        for local in _locals(ctx):
            ctx.monitor.print(local.summary())
    if not _io(ctx):
        ctx.monitor.print(NONE.format(ctx.vm.machine_type))


@info_command("lapic", "apic_id:i?", params="[apic-id]",
              help="show local apic state (apic_id: local apic to read, default is which of current CPU)")
def info_lapic(ctx: Context, apic_id: int | None) -> None:
    """``info lapic``: the controller of one CPU, local APIC or CEPIC."""
    found = _locals(ctx)
    number = ctx.monitor.cpu if apic_id is None else apic_id
    if not found:
        ctx.monitor.print(NONE.format(ctx.vm.machine_type))
    elif not 0 <= number < len(found):
        raise CommandError("No CPU with that APIC id")
    else:
        with ctx.vm.quiesced():
            ctx.monitor.print("\n".join(found[number].info()))


@info_command("irq", help="show the interrupts statistics (if available)")
def info_irq(ctx: Context) -> None:
    """``info irq``: how often each pin has interrupted."""
    for controller in _io(ctx):
        ctx.monitor.print(f"IRQ statistics for {controller.name}:")
        for pin, count in enumerate(controller.counts):
            if count:
                ctx.monitor.print(f"{pin:2d}: {count} {controller.sources.get(pin, '')}".rstrip())
    if not _io(ctx):
        ctx.monitor.print(NONE.format(ctx.vm.machine_type))


@command("inject-nmi")
def qmp_inject_nmi(ctx: Context) -> None:
    """One non-maskable interrupt for every CPU."""
    if not inject_nmi(ctx.vm):
        raise CommandError("machine does not provide NMIs")


@command("watchdog-set-action")
def watchdog_set_action(ctx: Context, action: str) -> None:
    """What is done when a watchdog has run out."""
    if action not in ACTIONS:
        raise CommandError(f"Parameter 'action' does not accept value '{action}'")
    ctx.vm.watchdog_action = action


hmp_command("nmi", help="inject an NMI")(qmp_inject_nmi)
hmp_command("watchdog_action", "action:s", params="[" + "|".join(ACTIONS) + "]", help="change watchdog action",
            completion=lambda ctx, words, text: ACTIONS)(watchdog_set_action)
