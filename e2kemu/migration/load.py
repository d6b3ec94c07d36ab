"""Reading a migration stream into a machine: the loop over its elements.

``StreamLoader`` checks the header and the configuration, hands section bodies to their handlers, executes
commands through the callbacks of its owner, and stops after the vmdescription. It changes run state and
return path only through those callbacks. Whatever is wrong with the stream is a StreamError that names the
section and the offset.

In a postcopy there are three readings: ``load`` ends with the package, whose bytes it returns; another loader's
``load_package`` executes them, while ``load_rest`` reads what comes behind: pages, on one connection after another
if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Protocol

from e2kemu import trace
from e2kemu.errors import ChannelError, E2kError, StreamError
from e2kemu.migration.block import BLOCK_IDSTR, BLOCK_INSTANCE, BLOCK_VERSION, BlockLoader
from e2kemu.migration.compat import NEWEST, StreamFormat
from e2kemu.migration.postcopy import MAX_PACKAGE, PING_LOADED
from e2kemu.migration.qemufile import StreamReader
from e2kemu.migration.ram_load import RamLoader
from e2kemu.migration.registry import RAM_IDSTR, RAM_INSTANCE, RAM_VERSION, Registry, unknown_section
from e2kemu.migration.stream import (
    MAGIC,
    MAX_VMDESCRIPTION,
    OLD_VERSION,
    VERSION,
    Command,
    Configuration,
    ElementType,
)
from e2kemu.trace import Log

COMMAND_LENGTHS = {
    Command.OPEN_RETURN_PATH: 0,
    Command.PING: 4,
    Command.POSTCOPY_LISTEN: 0,
    Command.POSTCOPY_RUN: 0,
    Command.PACKAGED: 4,
    Command.ENABLE_COLO: 0,
    Command.POSTCOPY_RESUME: 0,
    Command.SWITCHOVER_START: 0,
}
"""Payload bytes of the commands whose length is fixed."""

NEEDS = {
    Command.POSTCOPY_ADVISE: "postcopy-ram",
    Command.POSTCOPY_LISTEN: "postcopy-ram",
    Command.POSTCOPY_RUN: "postcopy-ram",
    Command.POSTCOPY_RAM_DISCARD: "postcopy-ram",
    Command.POSTCOPY_RESUME: "postcopy-ram",
    Command.RECV_BITMAP: "postcopy-ram",
    Command.PACKAGED: "postcopy-ram",
    Command.ENABLE_COLO: "x-colo",
}
"""The capability without which a source does not send the command."""


class CommandHandlers(Protocol):
    """What the owner of a loader does when the source asks for it. May raise ChannelError."""

    def open_return_path(self) -> None: ...

    def ping(self, value: int) -> None: ...

    def switchover_start(self) -> None: ...

    def postcopy_advise(self, payload: bytes, at: int) -> None: ...

    def postcopy_discard(self, payload: bytes, at: int) -> None: ...

    def postcopy_listen(self) -> None: ...

    def postcopy_run(self) -> None: ...

    def postcopy_resume(self, at: int) -> None: ...

    def send_received(self, payload: bytes, at: int) -> None: ...


class Phase(Enum):
    """Which commands may come."""

    PRECOPY = frozenset(
        {
            Command.OPEN_RETURN_PATH,
            Command.PING,
            Command.SWITCHOVER_START,
            Command.POSTCOPY_ADVISE,
            Command.POSTCOPY_RAM_DISCARD,
            Command.PACKAGED,
        }
    )
    PACKAGE = frozenset({Command.PING, Command.POSTCOPY_LISTEN, Command.POSTCOPY_RUN})
    POSTCOPY = frozenset({Command.PING, Command.POSTCOPY_RESUME, Command.RECV_BITMAP})
    END = frozenset({Command.PING})


class StreamLoader:
    """Loads one stream from ``reader`` into RAM blocks and device sections.

    ``postcopy``: the capability postcopy-ram is on. ``format`` says which optional parts the stream must have.
    ``patience()`` is entered while it waits for a part that another source would leave out at the very end.
    """

    def __init__(
        self,
        reader: StreamReader,
        configuration: Configuration,
        registry: Registry,
        ram: RamLoader,
        commands: CommandHandlers,
        *,
        postcopy: bool = False,
        format: StreamFormat = NEWEST,
        patience: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._patience = patience
        self._postcopy = postcopy
        self._format = format
        self._phase = Phase.PRECOPY
        self._advised = False
        self._package: bytes | None = None
        self._r = reader
        self._configuration = configuration
        self._registry = registry
        self._ram = ram
        self._commands = commands
        self._ram_ids: set[int] = set()
        self._ended: set[int] = set()
        self._loaded: set[tuple[str, int]] = set()
        self.blocks: BlockLoader | None = None
        """Who takes disks that are copied."""
        self._block_id: int | None = None  # number of the section "block" while it goes on
        self._section = ""  # idstr of the section being read
        self._last = "the configuration"  # what was read last, for errors between two sections

    def load(self) -> bytes | None:
        """Header, configuration, all elements, vmdescription; or up to the package, which is returned.

        Raises StreamError. A channel that fails is one too: where the stream broke off is worth knowing.
        """
        self._placed(self._load)
        return self._package

    def load_package(self) -> None:
        """Elements to the end of a package: all device state must be in it. Raises StreamError."""
        self._phase = Phase.PACKAGE
        self._placed(self._load_package)

    def load_rest(self, reader: StreamReader) -> None:
        """What follows the package, from ``reader``, up to the end: pages. Raises StreamError."""
        self._phase = Phase.POSTCOPY
        if reader is not self._r:
            self._r = reader
            self._ram.forget_block()
        self._section, self._last = "", "the package"
        self._ended.clear()  # an END that the source was not sure of comes again
        self._placed(self._load_rest)

    def load_commands(self, enough: Callable[[], bool]) -> None:
        """What a source has to say behind the end of its stream, until that is ``enough``. Raises StreamError."""
        self._phase = Phase.END
        self._last = "the end of the guest's state"
        self._placed(lambda: self._load_commands(enough))

    def _placed(self, load: Callable[[], None]) -> None:
        try:
            load()
        except ChannelError as error:
            where = "" if self._section else f" after {self._last}"
            raise StreamError(f"{error}{where}", section=self._section, offset=self._r.position) from error

    def _load(self) -> None:
        self._load_header()
        self._elements(self._ram_elements | {ElementType.SECTION_FULL: self._section_full})
        if self._package is None:
            self._check_complete()
            if not self._format.suppress_vmdesc:
                self._vmdescription()
            self._ram.finish()

    def _load_commands(self, enough: Callable[[], bool]) -> None:
        while not enough():
            at = self._r.position
            if self._byte("the source's word") != ElementType.COMMAND:
                raise StreamError("Unexpected section type after the end of the stream", offset=at)
            self._command(ElementType.COMMAND)

    def _load_package(self) -> None:
        self._elements({ElementType.SECTION_FULL: self._section_full, ElementType.COMMAND: self._command})
        self._check_devices()

    def _load_rest(self) -> None:
        self._elements(self._ram_elements)
        if not self._ended:
            at = self._r.position
            raise StreamError("the stream ends before the RAM does", section=RAM_IDSTR, offset=at)

    @property
    def _ram_elements(self) -> dict[int, Callable[[int], None]]:
        return {
            ElementType.SECTION_START: self._section_start,
            ElementType.SECTION_PART: self._section_more,
            ElementType.SECTION_END: self._section_more,
            ElementType.COMMAND: self._command,
        }

    def _elements(self, elements: Mapping[int, Callable[[int], None]]) -> None:
        """Read elements up to EOF, the package, or (in it) the end of its bytes."""
        while self._package is None or self._phase != Phase.PRECOPY:
            at = self._r.position
            if self._r.at_end():
                if self._phase == Phase.PACKAGE:
                    return
                raise StreamError(f"the stream ends early, after {self._last}", offset=at)
            kind = self._r.be8()
            if kind == ElementType.EOF and self._phase != Phase.PACKAGE:
                return
            handler = elements.get(kind)
            if handler is None:
                raise StreamError(f"Unknown savevm section type {kind}", offset=at)
            handler(kind)

    # -- header

    def _load_header(self) -> None:
        magic = self._word("the magic")
        if magic != MAGIC:
            raise StreamError(f"Not a migration stream: the magic is {magic:#010x}", offset=0)
        version = self._word("the version")
        if version == OLD_VERSION:
            raise StreamError("SaveVM v2 format is obsolete and don't work anymore", offset=4)
        if version != VERSION:
            raise StreamError(f"Unsupported migration stream version {version}", offset=4)
        if not self._format.send_configuration:
            self._last = "the header"
            return
        at = self._r.position
        if self._byte("the configuration section") != ElementType.CONFIGURATION:
            raise StreamError("Configuration section missing", offset=at)
        try:
            received = Configuration.load(self._r)
        except StreamError as error:
            raise _place(error, "configuration") from error
        self._configuration.check_received(received, at)

    # -- sections

    def _section_start(self, kind: int) -> None:
        section_id, idstr, instance_id, version = self._section_header()
        at = self._r.position
        if self.blocks is not None and (idstr, instance_id, version) == (BLOCK_IDSTR, BLOCK_INSTANCE, BLOCK_VERSION):
            self._block_id = section_id
            self._load_blocks(self.blocks, section_id)
            return
        if (idstr, instance_id) != (RAM_IDSTR, RAM_INSTANCE):
            raise unknown_section(idstr, instance_id, at)
        if version > RAM_VERSION or version < RAM_VERSION:
            raise StreamError(
                f"savevm: unsupported version {version} for '{idstr}' v{RAM_VERSION}",
                section=idstr,
                offset=at,
            )
        if self._ram_ids:
            raise StreamError("second start of the section", section=idstr, offset=at)
        self._ram_ids.add(section_id)
        self._load_ram(section_id)

    def _section_more(self, kind: int) -> None:
        at = self._r.position
        section_id = self._word("a section number")
        if section_id == self._block_id and self.blocks is not None:
            self._block_id = None if kind == ElementType.SECTION_END else section_id
            self._load_blocks(self.blocks, section_id)
            return
        if section_id not in self._ram_ids or section_id in self._ended:
            raise StreamError(f"Unknown savevm section {section_id}", offset=at)
        self._load_ram(section_id)
        if kind == ElementType.SECTION_END:
            self._ended.add(section_id)

    def _load_blocks(self, blocks: BlockLoader, section_id: int) -> None:
        self._section = BLOCK_IDSTR
        try:
            blocks.load(self._r)
        except StreamError as error:
            raise _failed_section(section_id, BLOCK_IDSTR, error) from error
        except ChannelError:
            raise
        except E2kError as error:
            problem = StreamError(str(error), section=BLOCK_IDSTR, offset=self._r.position)
            raise _failed_section(section_id, BLOCK_IDSTR, problem) from error
        self._footer(section_id, BLOCK_IDSTR)

    def _load_ram(self, section_id: int) -> None:
        self._section = RAM_IDSTR
        try:
            self._ram.load(self._r)
        except StreamError as error:
            raise _failed_section(section_id, RAM_IDSTR, error) from error
        self._footer(section_id, RAM_IDSTR)

    def _section_full(self, kind: int) -> None:
        section_id, idstr, instance_id, version = self._section_header()
        start = self._r.position
        handler = self._registry.find(idstr, instance_id, version, start)
        if trace.mask & Log.MIGRATION:
            trace.log(f"migration: load section {section_id} '{idstr}' {instance_id} at {start:#x}")
        self._section = idstr
        try:
            handler.load(self._r, version)
        except StreamError as error:
            raise _failed_device(idstr, instance_id, error) from error
        except ChannelError:
            raise
        except E2kError as error:
            problem = StreamError(str(error), section=idstr, offset=self._r.position)
            raise _failed_device(idstr, instance_id, problem) from error
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            # A handler that trusts a field too much: the stream is to blame all the same.
            problem = StreamError(f"{type(error).__name__}: {error}", section=idstr, offset=self._r.position)
            raise _failed_device(idstr, instance_id, problem) from error
        self._footer(section_id, idstr)
        self._loaded.add((idstr, instance_id))

    def _section_header(self) -> tuple[int, str, int, int]:
        """Section id, idstr, instance id, version."""
        try:
            return self._r.be32(), self._r.string8(), self._r.be32(), self._r.be32()
        except StreamError as error:
            raise StreamError(f"section header: {error.message}", offset=error.offset) from error

    def _footer(self, section_id: int, idstr: str) -> None:
        if self._format.send_section_footer:
            self._read_footer(section_id, idstr)
        self._section = ""
        self._last = f"section '{idstr}'"

    def _read_footer(self, section_id: int, idstr: str) -> None:
        at = self._r.position
        mark = self._r.peek(5)
        if len(mark) < 5:
            raise StreamError(
                f"Missing section footer for {idstr}: the stream ends early", section=idstr, offset=at
            )
        if mark[0] != ElementType.SECTION_FOOTER:
            raise StreamError(f"Missing section footer for {idstr}", section=idstr, offset=at)
        found = int.from_bytes(mark[1:], "big")
        if found != section_id:
            raise StreamError(
                f"Mismatched section id in footer for {idstr}: read {found:#x} expected {section_id:#x}",
                section=idstr,
                offset=at,
            )
        self._r.skip(5)

    def _check_complete(self) -> None:
        """The device state has ended: nothing that this machine needs may be missing."""
        at = self._r.position
        if not self._ended:
            raise StreamError("the device state ends before the RAM does", section=RAM_IDSTR, offset=at)
        if self._block_id is not None:
            raise StreamError("the device state ends before the disks do", section=BLOCK_IDSTR, offset=at)
        self._check_devices()

    def _check_devices(self) -> None:
        at = self._r.position
        for _, handler in self._registry.numbered():
            if (handler.idstr, handler.instance_id) not in self._loaded:
                raise StreamError(
                    f"section '{handler.idstr}' instance {handler.instance_id} is missing from the stream",
                    section=handler.idstr,
                    offset=at,
                )

    # -- commands

    def _command(self, kind: int) -> None:
        at = self._r.position
        try:
            number, length = self._r.be16(), self._r.be16()
            payload = self._r.raw(length)
        except StreamError as error:
            raise StreamError(f"command: {error.message}", offset=error.offset) from error
        if number not in Command.__members__.values():
            raise StreamError(f"MIG_CMD {number:#x} unknown (len {length:#x})", offset=at)
        command = Command(number)
        expected = COMMAND_LENGTHS.get(command)
        if expected is not None and length != expected:
            raise StreamError(
                f"{command.name} received with bad length - expecting {expected}, got {length}", offset=at
            )
        if command in NEEDS and not (self._postcopy and NEEDS[command] == "postcopy-ram"):
            raise StreamError(f"{command.name} needs capability {NEEDS[command]}, which is off", offset=at)
        advising = command in (Command.POSTCOPY_RAM_DISCARD, Command.PACKAGED)
        if command not in self._phase.value or (advising and not self._advised):
            raise StreamError(f"{command.name} comes at the wrong moment", offset=at)
        self._execute(command, payload, at)

    def _execute(self, command: Command, payload: bytes, at: int) -> None:
        to = self._commands
        if command == Command.OPEN_RETURN_PATH:
            to.open_return_path()
        elif command == Command.PING:
            value = int.from_bytes(payload, "big")
            if self._phase == Phase.PACKAGE and value == PING_LOADED:
                self._check_devices()
            to.ping(value)
        elif command == Command.SWITCHOVER_START:
            to.switchover_start()
        elif command == Command.POSTCOPY_ADVISE:
            if self._advised or self._ram_ids:
                raise StreamError("POSTCOPY_ADVISE comes at the wrong moment", offset=at)
            to.postcopy_advise(payload, at)
            self._advised = True
        elif command == Command.POSTCOPY_RAM_DISCARD:
            to.postcopy_discard(payload, at)
        elif command == Command.PACKAGED:
            self._read_package(int.from_bytes(payload, "big"), at)
        elif command == Command.POSTCOPY_LISTEN:
            to.postcopy_listen()
        elif command == Command.POSTCOPY_RUN:
            self._check_devices()
            to.postcopy_run()
        elif command == Command.POSTCOPY_RESUME:
            to.postcopy_resume(at)
        else:
            to.send_received(payload, at)

    def _read_package(self, size: int, at: int) -> None:
        """The whole package at once: loading it may need pages, which come behind it on the same channel."""
        if size > MAX_PACKAGE:
            raise StreamError(f"package of {size} bytes", offset=at)
        if not self._ram_ids:
            raise StreamError("package before the list of RAM blocks", offset=at)
        self._last = "the header of the package"
        self._package = self._r.raw(size)

    # -- end

    def _vmdescription(self) -> None:
        """The JSON after the end of the state is read and thrown away.

        It must be there, whole: without it the source's last word may have been lost on the way, and the
        source then keeps its guest.
        """
        at = self._r.position
        with self._patience():
            kind = self._byte("the vmdescription")
        if kind != ElementType.VMDESCRIPTION:
            raise StreamError(f"Unexpected section type {kind} after the end of the device state", offset=at)
        length = self._word("the length of the vmdescription")
        if length > MAX_VMDESCRIPTION:
            raise StreamError(f"vmdescription of {length} bytes", offset=at)
        try:
            self._r.skip(length)
        except StreamError as error:
            raise StreamError(f"vmdescription: {error.message}", offset=error.offset) from error

    def _byte(self, what: str) -> int:
        return self._field(what, 1)

    def _word(self, what: str) -> int:
        return self._field(what, 4)

    def _field(self, what: str, size: int) -> int:
        try:
            return int.from_bytes(self._r.read_exact(size), "big")
        except StreamError as error:
            raise StreamError(f"{what} is missing: {error.message}", offset=error.offset) from error


def _place(error: StreamError, section: str) -> StreamError:
    """``error``, with the section it belongs to."""
    return StreamError(error.message, section=error.section or section, offset=error.offset)


def _failed_section(section_id: int, idstr: str, error: StreamError) -> StreamError:
    return StreamError(
        f"error while loading state section id {section_id}({idstr}): {error.message}",
        section=idstr,
        offset=error.offset,
    )


def _failed_device(idstr: str, instance_id: int, error: StreamError) -> StreamError:
    return StreamError(
        f"error while loading state for instance {instance_id:#x} of device '{idstr}': {error.message}",
        section=idstr,
        offset=error.offset,
    )
