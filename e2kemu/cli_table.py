"""The options of the ``e2kemu`` command: QEMU's names, forms and texts, in one table.

``-name`` and ``--name`` are the same; an option whose row has an argument text takes the next word. Options
of QEMU that do not exist here are listed in ``REFUSED`` with the reason: none is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from e2kemu.errors import OptionError
from e2kemu.version import __version__

PROGRAM = "e2kemu"


@dataclass(frozen=True)
class Option:
    """One option: its names (the first is used in messages), argument text ("" for none) and help."""

    names: tuple[str, ...]
    argument: str
    help: str
    attribute: str
    """Where ``parse`` puts it: a list for ``many``, a text, or True."""
    many: bool = False


def _row(names: str, argument: str, help: str, attribute: str = "", *, many: bool = False) -> Option:
    split = tuple(names.split())
    return Option(split, argument, help, attribute or split[0].replace("-", "_"), many)


SECTIONS: tuple[tuple[str, tuple[Option, ...]], ...] = (
    ("Standard options", (
        _row("help h", "", "display this help and exit"),
        _row("version", "", "display version information and exit"),
        _row("machine M", "[type=]name[,suppress-vmdesc=on|off]",
             "selects emulated machine ('-machine help' for list)\n"
             "suppress-vmdesc=on: no self-describing text in migration streams"),
        _row("cpu", "cpu", "select CPU ('-cpu help' for list)"),
        _row("accel", "[accel=]name", "select the executor of guest code ('-accel help' for list)"),
        _row("smp", "[cpus=]n[,maxcpus=n][,sockets=n][,cores=n][,threads=n]",
             "set the number of CPUs to 'n' [default=1]\n"
             "sockets, cores, threads: how they are grouped"),
        _row("m", "[size=]megs", "configure guest RAM; suffixes M, G; default unit is MiB"),
        _row("name", "[guest=]name", "set the name of the guest"),
        _row("uuid", "%08x-%04x-%04x-%04x-%012x", "specify machine UUID"),
    )),
    ("Block device options", (
        _row("drive", "[file=f][,if=virtio|none][,format=raw|qcow2][,id=name][,readonly=on|off]\n"
             "       [,snapshot=on|off]",
             "use 'file' as a drive image; if=virtio (the default): as a disk,\n"
             "if=none: for a -device", many=True),
    )),
    ("Device options", (
        _row("device", "driver[,prop[=value][,...]]",
             "add device; driver virtio-blk-device: drive=id[,id=id][,serial=text]\n"
             "virtio-net-device: netdev=id[,mac=addr][,id=id]\n"
             "('-device help' for list)", many=True),
        _row("watchdog-action", "reset|shutdown|poweroff|inject-nmi|pause|debug|none",
             "action when a watchdog has run out [default=reset]"),
    )),
    ("Network options", (
        _row("netdev", "user|socket|stream,id=id[,...]",
             "set up a network back end for a -device:\n"
             "  user,id=id[,net=addr/mask][,host=addr][,dns=addr][,dhcpstart=addr]\n"
             "    [,hostname=name][,restrict=on|off]\n"
             "    [,hostfwd=[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport]...\n"
             "  socket,id=id,listen=[host]:port or connect=host:port\n"
             "  stream,id=id[,server=on|off],addr.type=inet|unix,addr.host=host,\n"
             "    addr.port=port or addr.path=path[,reconnect-ms=ms]", many=True),
        _row("nic", "none|[type=]user|socket|stream[,mac=addr][,model=mn][,...]",
             "add a network card with its back end", many=True),
    )),
    ("Display options", (
        _row("display", "none", "the only display there is"),
        _row("nographic", "", "redirect serial I/Os and the monitor to console"),
    )),
    ("Character device options", (
        _row("chardev", "null|stdio|pty|file|socket,id=id[,mux=on|off][,...]",
             "add a character device:\n"
             "  file,id=id,path=path\n"
             "  socket,id=id,path=path[,server=on|off][,wait=on|off]\n"
             "  socket,id=id,host=host,port=port[,server=on|off][,wait=on|off]", many=True),
        _row("serial", "dev", "redirect the serial port to char device 'dev': null, stdio, mon:stdio,\n"
             "pty, file:path, unix:path[,server=on][,wait=off], tcp:host:port[,...],\n"
             "chardev:id", many=True),
        _row("monitor", "dev", "redirect the monitor to char device 'dev'", many=True),
        _row("qmp", "dev", "like -monitor but opens in 'control' mode", many=True),
        _row("mon", "[chardev=]name[,mode=readline|control]", "open a monitor on a -chardev", many=True),
        _row("echr", "chr", "set terminal escape character instead of ctrl-a"),
    )),
    ("Boot options", (
        _row("bios", "file", "set the boot ROM image [default: the bundled firmware]"),
        _row("kernel", "file", "use 'file' as kernel image (ELF, or with a boot block)"),
        _row("initrd", "file", "use 'file' as initial ram disk"),
        _row("append", "cmdline", "use 'cmdline' as kernel (or firmware) command line"),
    )),
    ("Linux program options (-M linux-user)", (
        _row("L", "prefix", "look for the program's interpreter under 'prefix' first", "prefix"),
        _row("root", "dir", "the program's '/' is the host's directory 'dir': no path leads out of it"),
        _row("deny-net", "", "the program has no network"),
        _row("read-only", "", "the program changes no file system"),
        _row("E", "name[=value]", "set a variable of the program's environment; without a value: take\n"
             "it from the emulator's", "environment", many=True),
        _row("strace", "", "print the program's system calls and signals"),
        _row("stats", "", "print what the program executed when it ends (slow)"),
        _row("job-control", "", "signals of the emulator are the program's, and what stops the program stops\n"
             "the emulator"),
    )),
    ("Debug/Expert options", (
        _row("S", "", "freeze CPU at startup (use 'c' to start execution)"),
        _row("icount", "[shift=]N|auto[,align=on|off][,sleep=on|off]",
             "virtual time is the number of instructions executed, 2^N ns for each:\n"
             "the same run twice is the same run"),
        _row("incoming", "uri|defer", "prepare for incoming migration on tcp:host:port, unix:path, fd:fd,\n"
             "exec:cmd, file:path[,offset=n], or a channel in JSON;\n"
             "defer: wait for migrate_incoming"),
        _row("only-migratable", "", "allow only migratable devices"),
        _row("global", "migration.property=value",
             "set a property of the object 'migration': send-configuration,\n"
             "send-section-footer, store-global-state, send-switchover-start,\n"
             "x-CAPABILITY, PARAMETER", many=True),
        _row("snapshot-dir", "dir", "keep the snapshots of savevm in directory 'dir'"),
        _row("loadvm", "tag", "start right away with a saved state (loadvm in monitor)"),
        _row("no-reboot", "", "exit instead of rebooting"),
        _row("no-shutdown", "", "stop before shutdown"),
        _row("nodefaults", "", "don't create default devices"),
        _row("pidfile", "file", "write PID to 'file'"),
        _row("daemonize", "", "daemonize once the consoles, the machine and the migration are set up"),
        _row("d", "item1,...", "enable logging of specified items ('-d help' for list)"),
        _row("D", "logfile", "output log to logfile (default stderr)", "logfile"),
    )),
    ("Generic object creation", (
        _row("object", "TYPENAME,id=ID[,PROP1=VALUE1,...]",
             "create a new object of type TYPENAME setting properties\n"
             "('-object help' for list, '-object TYPENAME,help' for properties)", many=True),
    )),
)  # fmt: skip
"""The options by section of the help."""

REFUSED = {
    name: (takes_argument, reason)
    for takes_argument, reason, names in (
        (True, "no machine type has a device that could be added", "fw_cfg usbdevice"),
        (True, "disk images are given with -drive", "blockdev"),
        (True, "no machine type has such a drive; use -drive if=virtio", "hda hdb hdc hdd cdrom fda fdb mtdblock"),
        (True, "no machine type has such a drive; use -drive if=virtio", "sd pflash boot"),
        (True, "network cards are given with -nic or -netdev and -device", "net"),
        (True, "there is no graphics", "vnc spice g k"),
        (False, "there is no graphics", "full-screen"),
        (True, "there is no debug stub", "gdb"),
        (False, "there is no debug stub", "s"),
        (True, "guest time follows the host's clock", "rtc"),
        (True, "log items of -d are what there is", "trace"),
        (True, "not supported", "readconfig dtb numa smbios acpitable tpmdev fsdev virtfs"),
        (True, "not supported", "sandbox run-with runas chroot compat action plugin dfilter"),
        (True, "not supported", "seed"),
        (True, "not supported", "add-fd set parallel audio audiodev iscsi prom-env option-rom dump-vmstate"),
        (False, "not supported", "snapshot usb enable-kvm preconfig no-user-config overcommit"),
    )
    for name in names.split()
}
"""Options of QEMU that are refused: whether they take an argument, and why."""

SATISFIED = {"vga": "none", "net": "none", "parallel": "none"}
"""Options that are fine with this value, because there is none indeed."""

OPTIONS = {name: option for _, options in SECTIONS for option in options for name in option.names}
"""All options by name."""

KEYS = """
During emulation, the following keys are useful:
ctrl-a h        print the help of the console
ctrl-a x        exit emulator
ctrl-a c        switch between console and monitor

When using -nographic, press 'ctrl-a h' to get some help.
"""


def version_text() -> str:
    """What ``-version`` prints."""
    return f"e2kemu emulator version {__version__}\n"


def help_text() -> str:
    """What ``-help`` prints."""
    lines = [version_text(), f"usage: {PROGRAM} [options]\n"]
    for title, options in SECTIONS:
        lines.append(f"\n{title}:\n")
        lines += [_help_of(option) for option in options]
    return "".join(lines) + KEYS


def _help_of(option: Option) -> str:
    short = next((name for name in option.names[1:]), "")
    both = f"-{short} or -{option.names[0]}" if short else f"-{option.names[0]}"
    head = f"{both} {option.argument}".rstrip()
    first, *more = option.help.split("\n")
    text = f"{head:15s} {first}\n" if len(head) < 16 else f"{head}\n{'':16s}{first}\n"
    return text + "".join(f"{'':16s}{line}\n" for line in more)


@dataclass
class Given:
    """What the command line says, by ``Option.attribute``; not given: None, False or an empty list."""

    values: dict[str, Any]
    order: list[tuple[Option, str, str]]
    """All options with the name and argument as they were given."""

    def text(self, attribute: str) -> str | None:
        """The last argument of an option, None when it was not given."""
        value = self.values.get(attribute)
        return None if value is None else str(value)

    def flag(self, attribute: str) -> bool:
        """An option without argument was given."""
        return bool(self.values.get(attribute))

    def all(self, attribute: str) -> list[str]:
        """The arguments of an option that may be repeated."""
        return list(self.values.get(attribute, ()))


def parse(words: Sequence[str]) -> Given:
    """Read the command line. Raises OptionError that names the option."""
    given = Given({}, [])
    iterator = iter(words)
    for word in iterator:
        if not word.startswith("-") or word == "-":
            raise OptionError(f"{word}: no machine type has a hard disk of its own; use -drive file={word},if=virtio")
        name = word[2:] if word.startswith("--") else word[1:]
        option = OPTIONS.get(name)
        if option is None:
            _refuse(word, name, iterator)
            continue
        argument = ""
        if option.argument:
            argument = _argument(word, iterator)
        given.order.append((option, word, argument))
        if option.many:
            given.values.setdefault(option.attribute, []).append(argument)
        else:
            given.values[option.attribute] = argument if option.argument else True
    return given


def _argument(word: str, words: Iterator[str]) -> str:
    argument = next(words, None)
    if argument is None:
        raise OptionError(f"{word}: requires an argument")
    return argument


def _refuse(word: str, name: str, words: Iterator[str]) -> None:
    """An option that is not in the table: satisfied, refused with a reason, or unknown."""
    if name in SATISFIED:
        argument = _argument(word, words)
        if argument == SATISFIED[name]:
            return
        reason = REFUSED[name][1] if name in REFUSED else "not supported"
        raise OptionError(f"{word} {argument}: {reason}")
    if name in REFUSED:
        takes_argument, reason = REFUSED[name]
        argument = f" {_argument(word, words)}" if takes_argument else ""
        raise OptionError(f"{word}{argument}: {reason}")
    raise OptionError(f"{word}: invalid option")
