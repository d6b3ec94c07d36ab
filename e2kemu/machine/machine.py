"""Machine: run state, vCPU threads, reset and shutdown of one built computer.

``machine/builder.py`` makes it. Threads: any thread may call the public methods; they take the machine
lock themselves. Whoever waits for vCPUs (``stop``, ``quiesced``, ``reset``) releases the lock while
waiting, even when it was held by the caller: what the caller read before may have changed.
"""

from __future__ import annotations

import sys
import threading
import uuid as uuidlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from e2kemu.block.drive import Drive
from e2kemu.chardev import Chardev
from e2kemu.clock import VirtualClock
from e2kemu.devices.core import Device, who
from e2kemu.devices.test_device import Sleeper
from e2kemu.devices.virtio_net import VirtioNet
from e2kemu.errors import E2kError, StateError
from e2kemu.loop import MainLoop
from e2kemu.machine.config import MachineConfig
from e2kemu.machine.icount import IcountClock, demand_exact
from e2kemu.machine.runstate import KEPT_BY_RESET, NEEDS_RESET, SNAPSHOT, check_transition
from e2kemu.machine.throttle import CpuThrottle
from e2kemu.machine.turns import TurnsThread
from e2kemu.machine.vcpu import SWITCH_INTERVAL, Gate, VcpuThread, VirtualCpu
from e2kemu.memory.ram import RAMBlock
from e2kemu.memory.space import AddressSpace

Listener = Callable[[str, Mapping[str, Any] | None], None]
"""Called with the name and data of an event, in the thread where it happens, the machine lock held."""


class _Sleeper:
    """The CPU whose sleep is decided by a device: the one that executes in this thread, the first one in others (which
    save and load the device)."""

    def __init__(self, cpus: Sequence[VirtualCpu]) -> None:
        self._cpu = cpus[who.executes or 0]

    @property
    def idle_until(self) -> int | None:
        """Virtual time in ns, None: awake."""
        return self._cpu.idle_until

    @idle_until.setter
    def idle_until(self, until: int | None) -> None:
        self._cpu.idle_until = until
        self._cpu.request_exit()


class Machine:
    """One computer. Made stopped: in state "inmigrate" with ``config.incoming``, "prelaunch" otherwise.

    ``cpus``, ``devices`` and the images are added by the builder before the first ``start``.
    """

    def __init__(self, config: MachineConfig, loop: MainLoop, lock: threading.RLock) -> None:
        self.config = config
        self.loop = loop
        self.lock = lock
        self.clock: VirtualClock = VirtualClock() if config.icount is None else IcountClock(config.icount)
        self.space = AddressSpace("memory", lock)
        self.ram_blocks: list[RAMBlock] = []
        self.cpus: list[Any] = []
        self.devices: list[Device] = []
        self.disks: list[Drive] = []
        """What the disk devices use; active (locked by us) at least while the guest runs."""
        self.nics: list[VirtioNet] = []
        self.sections: list[Any] = []
        """SaveHandlers beside those of the clock and the devices: the CPUs'."""
        self.on_reset: list[Callable[[], None]] = []
        """Called by ``reset`` when devices are reset, before the CPUs: loads the images again."""
        self.listeners: list[Listener] = []
        self.blockers: list[Callable[[], Sequence[str]]] = []
        """Called by ``migration_blockers``: why something that is no device cannot travel."""
        self.autostart = not config.paused
        """Whether the guest runs once its state has arrived (or at once); ``stop`` and ``cont`` change it
        while the machine is in "inmigrate"."""
        self.watchdog_action = "reset"
        """What is done when a watchdog has run out (``machine/watchdog.py``)."""
        self.exit_status: int | None = None
        """The status the guest has ended with; None again after a reset."""
        self._run_state = "inmigrate" if config.incoming else "prelaunch"
        self._gate = Gate(lock, self.clock)
        self._throttle = CpuThrottle(self._gate)
        self._threads: list[VcpuThread] = []
        self._shutdown: tuple[int, bool, str] | None = None
        if isinstance(self.clock, IcountClock):
            self.clock.executed = lambda: sum(cpu.executed_exactly for cpu in self.cpus)
            self.space.on_mmio = demand_exact
        else:
            loop.attach_clock(self.clock)   # the other one's timers go off in the thread of the CPUs
        self.clock.listeners.append(self._gate.changed)

    # -- what it is

    @property
    def machine_type(self) -> str:
        """The versioned machine type: bound to every stream."""
        return self.config.board.name

    @property
    def name(self) -> str:
        """``-name``."""
        return self.config.name

    @property
    def uuid(self) -> uuidlib.UUID | None:
        """``-uuid``."""
        return self.config.uuid

    @property
    def serials(self) -> Sequence[Chardev]:
        """The character devices of the serial ports."""
        return [chardev for chardev in self.config.serials if chardev is not None]

    def save_handlers(self) -> list[Any]:
        """The sections in the order of the stream: timer, CPUs, devices. RAM and run state are not here."""
        sections = [device.section() for device in self.devices]
        return [self.clock, *self.sections, *(section for section in sections if section is not None)]

    # -- events

    def emit(self, event: str, data: Mapping[str, Any] | None = None) -> None:
        """Tell all listeners."""
        for listener in list(self.listeners):
            listener(event, data)

    # -- run state

    @property
    def run_state(self) -> str:
        """QEMU's name of the state."""
        return self._run_state

    def is_running(self) -> bool:
        """Whether the guest runs."""
        return self._run_state == "running"

    def set_run_state(self, state: str) -> None:
        """Change the state's name only. Raises StateError when QEMU has no such transition."""
        with self._gate.condition:
            check_transition(self._run_state, state)
            self._run_state = state
            self._update_gate()
            self.loop.wake()               # a library user's run() waits for the state in its loop

    def _update_gate(self) -> None:
        self._gate.open = self._run_state == "running" and self._shutdown is None
        self._gate.condition.notify_all()

    def start(self) -> None:
        """Let the guest run; emits RESUME. Nothing when it runs. Raises StateError from a state that has
        no way to "running", OptionError when another process has a disk in use."""
        with self._gate.condition:
            if self.is_running():
                return
            self._start_threads()
            check_transition(self._run_state, "running")
            self._activate_disks()
            self.clock.start()
            self.set_run_state("running")
            self.emit("RESUME")

    def _activate_disks(self) -> None:
        """Take the disks (back). A guest that cannot have them stays paused: it may be tried again."""
        try:
            for disk in self.disks:
                disk.activate()
        except E2kError:
            if self._run_state == "finish-migrate":
                self.set_run_state("paused")
            raise

    def stop(self, state: str = "paused") -> None:
        """Stop the guest and go to ``state``; all vCPUs stand when it returns. Emits STOP if it ran.

        A guest that does not run stays as it is when ``state`` is "paused", and goes to any other
        state as it is asked to. Raises StateError when QEMU has no such transition.
        """
        with self._gate.still():
            if self.is_running():
                check_transition(self._run_state, state)
                self.clock.stop()
                self.set_run_state(state)
                self.emit("STOP")
            elif state != "paused":
                self.set_run_state(state)

    def cont(self) -> None:
        """The command ``cont``: ``start`` with its rules. Raises StateError when a reset is needed first,
        or a migration is not finalized; an incoming machine will start when its state has arrived."""
        with self._gate.condition:
            if self._run_state in NEEDS_RESET:
                raise StateError("Resetting the Virtual Machine is required")
            if self._run_state == "finish-migrate":
                raise StateError("Migration is not finalized yet")
            self._check_no_snapshot()
            if self._run_state == "inmigrate":
                self.autostart = True
            else:
                self.start()

    def pause(self) -> None:
        """The command ``stop``: an incoming machine will not start by itself. Raises StateError while a
        snapshot is made: the machine stands still, and what it does afterwards is decided."""
        self._check_no_snapshot()
        if self._run_state == "inmigrate":
            self.autostart = False
        else:
            self.stop()

    def _check_no_snapshot(self) -> None:
        if self._run_state in SNAPSHOT:
            raise StateError("A snapshot is being saved or loaded")

    def quiesced(self) -> AbstractContextManager[None]:
        """All vCPUs stand between two wide instructions while it is entered; holds the machine lock."""
        return self._gate.still()

    def set_throttle(self, percent: float) -> None:
        """vCPUs sleep ``percent`` of the time from now on (0: never, at most 99.99); see ``throttle.py``."""
        self._throttle.set(percent)

    @property
    def throttle_percentage(self) -> int:
        """What ``set_throttle`` was told last, without its fraction."""
        return int(self._throttle.percent)

    def _start_threads(self) -> None:
        if not self._threads and self.cpus:
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
            if isinstance(self.clock, IcountClock):
                self._threads = [TurnsThread(self._gate, self.cpus, self.clock, self._cpu_stopped)]
            else:
                self._threads = [VcpuThread(self._gate, cpu, self._cpu_stopped) for cpu in self.cpus]
            for thread in self._threads:
                thread.start()

    def _cpu_stopped(self, cpu: VirtualCpu, reason: str) -> None:
        """A vCPU cannot or shall not go on; called in its thread."""
        state = "debug"
        if reason not in ("breakpoint", "watchpoint"):
            state = "internal-error"
            text = reason.partition(": ")[2] or getattr(cpu, "fatal_reason", "") or "the CPU cannot continue"
            print(f"e2kemu: CPU {cpu.index}: {text}", file=sys.stderr, flush=True)
        with self._gate.still():
            if self.is_running():              # another CPU may have stopped it in the same moment
                self.stop(state)

    def wake_cpu(self, index: int) -> None:
        """CPU ``index`` may have something to do although it was halted (any thread)."""
        if self._threads:
            self._threads[min(index, len(self._threads) - 1)].wake(index)

    def thread_id(self, index: int) -> int:
        """The host's id of the thread of CPU ``index``; 0 before the first start."""
        return (self._threads[min(index, len(self._threads) - 1)].native_id or 0) if self._threads else 0

    # -- devices' requests

    def sleeper(self) -> Sleeper:
        """Whom the test device puts to sleep: the CPU, which looks at ``idle_until`` when asked to exit."""
        return _Sleeper(self.cpus)

    def shutdown(self, status: int, *, guest: bool, reason: str) -> None:
        """End the emulator with ``status`` (with no_shutdown, when the guest asks: only stop it). From
        any thread; the guest executes nothing more, the first request counts. ``reason`` is QEMU's
        ShutdownCause."""
        with self._gate.condition:
            if self._shutdown is not None:
                return
            self._shutdown = (status, guest, reason)
            self._update_gate()
            for cpu in self.cpus:
                cpu.request_exit()
        self.loop.call_soon(self._finish_shutdown)

    def _finish_shutdown(self) -> None:
        if self._shutdown is None:
            return                         # a reset came before
        status, guest, reason = self._shutdown
        self.emit("SHUTDOWN", {"guest": guest, "reason": reason})
        if self.config.no_shutdown and guest:
            self.stop("shutdown")
            with self._gate.condition:
                self._shutdown = None
                self._update_gate()
            return
        with self._gate.still():
            self.clock.stop()
            if self.is_running():
                self.set_run_state("shutdown")
        self.exit_status = status
        for chardev in self.serials:
            chardev.flush()
        self.loop.quit(status)

    def reset(self, *, guest: bool = False, reason: str = "host-qmp-system-reset") -> None:
        """System reset: devices and CPUs as after power-on, images loaded again, the rest of RAM kept.

        Emits RESET. With no_reboot it is a shutdown with status 0 instead. Raises StateError while a snapshot
        is made.
        """
        self._check_no_snapshot()
        if self.config.no_reboot:
            self.shutdown(0, guest=guest, reason=reason)
            return
        with self._gate.still():
            self.power_on()
            if self._run_state not in KEPT_BY_RESET:
                self._run_state = "prelaunch"
            self._update_gate()
            self.emit("RESET", {"guest": guest, "reason": reason})

    def power_on(self) -> None:
        """Devices and CPUs as after power-on, images loaded again; no event, no other run state."""
        with self._gate.still():
            self._gate.abandon_waits()
            self._shutdown = self.exit_status = None
            for device in self.devices:
                device.reset()
            for hook in self.on_reset:
                hook()
            for cpu in self.cpus:
                cpu.reset()
                cpu.idle_until = None

    def migration_blockers(self) -> list[str]:
        """Why devices cannot travel, one reason each; empty when all can."""
        reasons = [device.migration_blocker for device in self.devices]
        more = [reason for blockers in self.blockers for reason in blockers()]
        return [*filter(None, reasons), *filter(None, (disk.migration_blocker for disk in self.disks)), *more]

    def close(self) -> None:
        """End the vCPU threads, unplug the network cards. The caller does not hold the machine lock."""
        self._throttle.set(0)
        with self._gate.condition:
            self._gate.open = False
        for thread in self._threads:
            thread.close()
        self._gate.threads.clear()
        self._threads = []
        for nic in self.nics:
            nic.unplug()

    # -- looking inside

    def read_reg(self, name: str, cpu: int = 0) -> int:
        """The value of a register of CPU ``cpu``, by name. Raises OptionError when there is none."""
        with self.quiesced():
            return int(self.cpus[cpu].state.get(name))

    def write_reg(self, name: str, value: int, cpu: int = 0) -> None:
        """Change a register. Raises OptionError when there is none, or it cannot be written."""
        with self.quiesced():
            self.cpus[cpu].state.set(name, value)

    def read_mem(self, address: int, size: int) -> bytes:
        """``size`` bytes of physical memory."""
        with self.quiesced():
            return self.space.read_bytes(address, size)

    def write_mem(self, address: int, data: bytes) -> None:
        """Change physical memory."""
        with self.quiesced():
            self.space.write_bytes(address, data)

    def info_qtree(self) -> str:
        """The text of ``info qtree``."""
        lines = ["bus: main-system-bus", "  type System"]
        for device in self.devices:
            lines += ["  " + line for line in device.qtree().splitlines()]
        return "\n".join(lines) + "\n"
