"""virtio over MMIO, version 2 ("modern"): the registers that every virtio device has here.

A device class derives from ``VirtioMmio``: it gives its type, its features, the number of queues, its
configuration registers (from offset 0x100 on) and ``handle(queue, chain)``. Registers, features, status, queues
and interrupts are the transport's. Source: the virtio specification 1.2, "Virtio Over MMIO".

Requests are carried out while the store to QueueNotify is: between two instructions of the guest nothing is
under way, so a stopped machine has nothing to wait for. Polling the used index works without an interrupt. While
a request waits for the host (``host``) the machine lock is free; another CPU that notifies then leaves its requests
to the one at work, and a reset makes that one stop.

A driver that breaks the protocol finds DEVICE_NEEDS_RESET in the status; what it did is in the log
(``-d guest_errors``), and nothing more happens until it resets the device.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from e2kemu import trace
from e2kemu.devices import vmstate as vm
from e2kemu.devices.core import Device, Irq, Reg
from e2kemu.devices.virtqueue import Chain, VirtioError, Virtqueue
from e2kemu.memory.space import AddressSpace

MAGIC = 0x74726976
VERSION = 2
VENDOR = 0x4D4B3245
"""The bytes "E2KM"."""

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 0x40, 0x80
"""Bits of the status."""

F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32

USED_BUFFER, CONFIG_CHANGE = 1, 2
"""Bits of InterruptStatus."""

QUEUE_SIZE = 256
CONFIG = 0x100
"""Offset of the configuration space."""


class _DeviceResetError(Exception):
    """The device was reset while a request waited for the host."""


class VirtioMmio(Device):
    """A virtio device in its MMIO window"""

    size = 0x200
    device_type: ClassVar[int] = 0
    queue_count: ClassVar[int] = 1

    magic = Reg("u32", 0x000, reset=MAGIC, readonly=True, doc='MagicValue, "virt"')
    version = Reg("u32", 0x004, reset=VERSION, readonly=True, doc="Version, 2")
    device_id = Reg("u32", 0x008, read="_device_id", readonly=True, doc="DeviceID: the type of the device")
    vendor_id = Reg("u32", 0x00C, reset=VENDOR, readonly=True, doc="VendorID")
    device_features = Reg("u32", 0x010, read="_features", readonly=True, doc="DeviceFeatures, selected 32 bits")
    device_features_sel = Reg("u32", 0x014, doc="DeviceFeaturesSel")
    driver_features = Reg("u32", 0x020, read="_nothing", write="_write_features", doc="DriverFeatures, selected bits")
    driver_features_sel = Reg("u32", 0x024, doc="DriverFeaturesSel")
    queue_sel = Reg("u32", 0x030, doc="QueueSel")
    queue_size_max = Reg("u32", 0x034, read="_queue_size_max", readonly=True, doc="QueueSizeMax, 0: no such queue")
    queue_size = Reg("u32", 0x038, read="_nothing", write="_write_queue_size", doc="QueueSize, a power of two")
    queue_ready = Reg("u32", 0x044, read="_queue_ready", write="_write_queue_ready", doc="QueueReady")
    queue_notify = Reg("u32", 0x050, read="_nothing", write="_notify", doc="QueueNotify: the queue with new requests")
    interrupt_status = Reg("u32", 0x060, readonly=True, doc="InterruptStatus: 1 used buffer, 2 configuration change")
    interrupt_ack = Reg("u32", 0x064, read="_nothing", write="_acknowledge", doc="InterruptACK")
    status = Reg("u32", 0x070, write="_write_status", doc="Status; a write of 0 resets the device")
    queue_desc_low = Reg("u32", 0x080, read="_nothing", write="_desc_low", doc="descriptor table, low half")
    queue_desc_high = Reg("u32", 0x084, read="_nothing", write="_desc_high", doc="descriptor table, high half")
    queue_driver_low = Reg("u32", 0x090, read="_nothing", write="_driver_low", doc="driver area, low half")
    queue_driver_high = Reg("u32", 0x094, read="_nothing", write="_driver_high", doc="driver area, high half")
    queue_device_low = Reg("u32", 0x0A0, read="_nothing", write="_device_low", doc="device area, low half")
    queue_device_high = Reg("u32", 0x0A4, read="_nothing", write="_device_high", doc="device area, high half")
    shm_sel = Reg("u32", 0x0AC, doc="SHMSel")
    shm_length_low = Reg("u32", 0x0B0, reset=0xFFFF_FFFF, readonly=True, doc="SHMLen: ones, there is none")
    shm_length_high = Reg("u32", 0x0B4, reset=0xFFFF_FFFF, readonly=True, doc="SHMLen: ones, there is none")
    shm_base_low = Reg("u32", 0x0B8, reset=0xFFFF_FFFF, readonly=True, doc="SHMBase: ones, there is none")
    shm_base_high = Reg("u32", 0x0BC, reset=0xFFFF_FFFF, readonly=True, doc="SHMBase: ones, there is none")
    config_generation = Reg("u32", 0x0FC, readonly=True, doc="ConfigGeneration: the configuration never changes")

    features = Reg("u64", doc="the features that the driver has accepted")

    irq = Irq("a used buffer or a configuration change")

    def __init__(self, space: AddressSpace) -> None:
        super().__init__()
        self.queues = [Virtqueue(space, QUEUE_SIZE) for _ in range(self.queue_count)]
        self._space = space
        self._resets = 0
        self._working: set[int] = set()  # queues whose requests are being carried out

    # -- what a device gives

    @abstractmethod
    def offered(self) -> int:
        """Its features, without the transport's."""

    @abstractmethod
    def handle(self, queue: int, chain: Chain) -> int:
        """Carry out one request; returns the number of bytes written. Raises VirtioError."""

    @contextmanager
    def host(self) -> Iterator[None]:
        """Around what may keep a request waiting: the machine goes on meanwhile."""
        resets = self._resets
        try:
            with self._space.unlocked():
                yield
        finally:
            if resets != self._resets:
                raise _DeviceResetError

    # -- identity and features

    def _device_id(self) -> int:
        return self.device_type

    def _nothing(self) -> int:
        return 0

    def _all_features(self) -> int:
        return self.offered() | F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX

    def _features(self) -> int:
        select = self.device_features_sel
        return self._all_features() >> 32 * select & 0xFFFF_FFFF if select < 2 else 0

    def _write_features(self, value: int) -> None:
        select = self.driver_features_sel
        if self.status & FEATURES_OK:
            trace.guest_error(f"{self.name}: features are written after FEATURES_OK")
        elif select < 2:
            self.features = self.features & ~(0xFFFF_FFFF << 32 * select) | value << 32 * select

    # -- status

    def reset(self) -> None:
        super().reset()
        self._resets += 1
        for queue in self.queues:
            queue.reset()

    def _write_status(self, value: int) -> None:
        value &= 0xFF
        if value == 0:
            self.reset()
            return
        added = value & ~self.status
        if added & FEATURES_OK and (self.features & ~self._all_features() or not self.features & F_VERSION_1):
            trace.guest_error(f"{self.name}: the driver wants features {self.features:#x}, which cannot be")
            value &= ~FEATURES_OK
        self.status = value | self.status & NEEDS_RESET

    def needs_reset(self, text: str) -> None:
        """The driver has broken the protocol: nothing goes on until it resets the device."""
        trace.guest_error(f"{self.name}: {text}; the device needs a reset")
        if not self.status & NEEDS_RESET:
            self.status |= NEEDS_RESET
            if self.status & DRIVER_OK:
                self._interrupt(CONFIG_CHANGE)

    # -- queues

    def _queue(self, what: str) -> Virtqueue | None:
        """The selected queue, if its registers may be written."""
        if self.queue_sel >= self.queue_count:
            trace.guest_error(f"{self.name}: {what} of queue {self.queue_sel}, which does not exist")
            return None
        queue = self.queues[self.queue_sel]
        if queue.ready:
            trace.guest_error(f"{self.name}: {what} of queue {self.queue_sel} is written while it is ready")
            return None
        return queue

    def _queue_size_max(self) -> int:
        return QUEUE_SIZE if self.queue_sel < self.queue_count else 0

    def _write_queue_size(self, value: int) -> None:
        queue = self._queue("size")
        if queue is None:
            return
        if not 0 < value <= QUEUE_SIZE or value & (value - 1):
            trace.guest_error(f"{self.name}: queue of {value} entries")
        else:
            queue.size = value

    def _queue_ready(self) -> int:
        return self.queues[self.queue_sel].ready if self.queue_sel < self.queue_count else 0

    def _write_queue_ready(self, value: int) -> None:
        if self.queue_sel < self.queue_count and not value & 1:
            self.queues[self.queue_sel].ready = 0
        elif (queue := self._queue("ready")) is not None:
            if queue.desc & 15 or queue.driver & 1 or queue.device & 3:
                self.needs_reset(f"queue {self.queue_sel} is not aligned")
            else:
                queue.ready = 1

    def _half(self, area: str, value: int, shift: int) -> None:
        queue = self._queue(f"{area} address")
        if queue is not None:
            setattr(queue, area, getattr(queue, area) & ~(0xFFFF_FFFF << shift) | value << shift)

    def _desc_low(self, value: int) -> None:
        self._half("desc", value, 0)

    def _desc_high(self, value: int) -> None:
        self._half("desc", value, 32)

    def _driver_low(self, value: int) -> None:
        self._half("driver", value, 0)

    def _driver_high(self, value: int) -> None:
        self._half("driver", value, 32)

    def _device_low(self, value: int) -> None:
        self._half("device", value, 0)

    def _device_high(self, value: int) -> None:
        self._half("device", value, 32)

    def _notify(self, value: int) -> None:
        if self.status & (DRIVER_OK | NEEDS_RESET) != DRIVER_OK:
            trace.guest_error(f"{self.name}: notified while the status is {self.status:#x}")
            return
        if value >= self.queue_count or not self.queues[value].ready:
            trace.guest_error(f"{self.name}: queue {value} is notified and not ready")
            return
        if value in self._working:
            return  # whoever works on the queue goes on until it is empty
        self.serve(value)

    def serve(self, number: int) -> None:
        """The driver has put chains into a queue: carry them all out. A device with input queues, whose chains wait
        until there is something for the guest (``give``), overrides this for them."""
        queue = self.queues[number]
        event_idx = bool(self.features & F_EVENT_IDX)
        self._working.add(number)
        try:
            while (chain := queue.pop()) is not None:
                queue.push(chain, self.handle(number, chain))
                if event_idx:
                    queue.set_avail_event()
            if queue.should_interrupt(event_idx):
                self._interrupt(USED_BUFFER)
        except VirtioError as error:
            self.needs_reset(str(error))
        except _DeviceResetError:
            pass  # nobody waits for this request any more
        finally:
            self._working.discard(number)

    def accepts(self, number: int) -> bool:
        """The driver is there and has set up that queue."""
        return self.status & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK and bool(self.queues[number].ready)

    def give(self, number: int, data: bytes) -> bool:
        """Put ``data`` into the next chain of an input queue; False: there is none.

        A chain that is too short gets nothing and stays for the next; the data is lost.
        """
        queue = self.queues[number]
        try:
            chain = queue.pop()
            if chain is None:
                return False
            if chain.writable_size < len(data):
                trace.guest_error(f"{self.name}: {len(data)} bytes for a buffer of {chain.writable_size}")
                queue.unpop()
                return True
            self._fill(queue, chain, data)
        except VirtioError as error:
            self.needs_reset(str(error))
        return True

    def give_part(self, number: int, data: bytes | bytearray) -> int:
        """Put as much of ``data`` into the next chain of an input queue as it takes. How many bytes went; 0: there is
        no chain."""
        queue = self.queues[number]
        try:
            chain = queue.pop()
            if chain is None:
                return 0
            if not chain.writable_size:
                raise VirtioError("a buffer to be filled has no room")
            part = bytes(data[: chain.writable_size])
            self._fill(queue, chain, part)
            return len(part)
        except VirtioError as error:
            self.needs_reset(str(error))
            return 0

    def _fill(self, queue: Virtqueue, chain: Chain, data: bytes) -> None:
        """Raises VirtioError."""
        event_idx = bool(self.features & F_EVENT_IDX)
        chain.write(0, data)
        queue.push(chain, len(data))
        if event_idx:
            queue.set_avail_event()
        if queue.should_interrupt(event_idx):
            self._interrupt(USED_BUFFER)

    # -- interrupts

    def _interrupt(self, why: int) -> None:
        self.interrupt_status |= why
        self.irq.set(True)

    def _acknowledge(self, value: int) -> None:
        self.interrupt_status &= ~value
        self.irq.set(bool(self.interrupt_status))

    # -- state

    def check_loaded(self) -> None:
        """After a migration. Raises ValueError for values that make no sense."""
        if self.status & FEATURES_OK and self.features & ~self._all_features():
            raise ValueError(f"Features {self.features:#x} unsupported. Allowed features: {self._all_features():#x}")
        self.irq.set(bool(self.interrupt_status))


TRANSPORT_STATE = (
    VirtioMmio.device_features_sel, VirtioMmio.driver_features_sel, VirtioMmio.queue_sel, VirtioMmio.shm_sel,
    VirtioMmio.interrupt_status, VirtioMmio.status, VirtioMmio.features,
)  # fmt: skip
"""The registers that travel, in the order of the wire; ``queues_state`` follows."""


def queues_state(count: int) -> vm.Field:
    """The queues as a field of a device's VMState."""
    return vm.array(vm.struct("queues", Virtqueue.vmstate), count)
