"""Registers of e2k: register files and state registers, one table of each.

State registers (``rrs`` ``rrd`` ``rws`` ``rwd`` by number) are rows of ``STATE_REGISTERS``. ``access`` is what
the kernel and the user may do, as "rw/r": a forbidden access by the user raises exc_priv_action. ``kind``
says where the value lives:

    "stored"    one 64-bit slot of the CPU state
    "derived"   computed from other state when read (window and chain pointers, instruction pointers)
    "clock"     computed from the virtual clock

Sources: numbers from the binutils port and the kernel headers; reset values as the public e2k port of QEMU
sets them for a whole machine.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_DOUBLES = 224
"""Double words of the hardware's windowed register file."""

GLOBALS = 32
PREDICATES = 32
CHAIN_RESIDENT = 31
"""Chain entries of 32 bytes that fit the 11-bit byte count of PCSHTP."""

SPARE_DOUBLES, SPARE_CHAIN = 64, 4
"""Room beyond both for trap handlers, while the stacks of who was interrupted cannot take anything: the first window of
a handler and its nested traps fit, so that it can give them memory, or go on with stacks of its own."""


SCLK_FREQUENCY = 100_000_000
"""Hz of the system clock."""


@dataclass(frozen=True, slots=True)
class RegisterFile:
    """A file of equal registers: ``count`` of ``bits`` (the value, without tag and extension)."""

    name: str
    count: int
    bits: int
    doc: str


FILES = (
    RegisterFile("r", WINDOW_DOUBLES, 64, "window registers, with 4 tag bits and an extension"),
    RegisterFile("g", GLOBALS, 64, "global registers, with 4 tag bits and an extension"),
    RegisterFile("pred", PREDICATES, 1, "predicates, with a bit that says diagnostic"),
)


@dataclass(frozen=True, slots=True)
class StateRegister:
    """One state register. ``since`` and ``until`` are versions of the instruction set; ``group`` is its
    place in ``info registers``; ``migrated`` whether the stream carries it (derived ones follow from others)."""

    number: int
    name: str
    access: str
    group: str
    doc: str
    reset: int = 0
    kind: str = "stored"
    since: int = 1
    until: int = 7
    bits: int = 64

    @property
    def migrated(self) -> bool:
        return self.kind == "stored"

    @property
    def user_access(self) -> str:
        """The letters of what unprivileged code may do."""
        return self.access.partition("/")[2]


_R = StateRegister
STATE_REGISTERS: tuple[StateRegister, ...] = (
    _R(0x00, "psr", "rw/r", "control", "processor status: pm0 ie1 sge2 lw3 uie4 nmie5 unmie6", 0x1),
    _R(0x01, "wd", "rw/r", "window", "window: base[10:0] size[26:16] psize[42:32] bytes, fx48 dbl49", 64 << 32 | 128 << 16),
    _R(0x04, "core_mode", "rw/", "control", "core mode: no_stack_prot1 sep_virt_space2 gmi3 hci4 pt_v6 5", since=3),
    _R(0x06, "cwd", "r/", "window", "spare quads of the window file", kind="derived"),
    _R(0x07, "psp.hi", "rw/r", "stack", "procedure stack: ind[31:0] size[63:32]"),
    _R(0x09, "psp.lo", "rw/r", "stack", "procedure stack: base[47:0] rw[60:59]"),
    _R(0x0B, "pshtp", "rw/", "stack", "bytes of windows still in registers: ind[11:0] fxind[26:16]", kind="derived"),
    _R(0x0D, "pcsp.hi", "rw/r", "stack", "chain stack: ind[31:0] size[63:32]"),
    _R(0x0F, "pcsp.lo", "rw/r", "stack", "chain stack: base[47:0] rw[60:59]"),
    _R(0x13, "pcshtp", "rw/r", "stack", "bytes of chain entries still in registers", kind="derived"),
    _R(0x15, "ctpr1", "rw/rw", "control", "prepared transfer: ta_base[47:0] tag[56:54] opc[58:57] ipd[60:59]"),
    _R(0x16, "ctpr2", "rw/rw", "control", "prepared transfer"),
    _R(0x17, "ctpr3", "rw/rw", "control", "prepared transfer"),
    _R(0x1E, "sbr", "rw/r", "stack", "top of the user stack", 0xB000),
    _R(0x19, "ctpr1.hi", "rw/rw", "control", "prepared transfer 1, high part", since=6),
    _R(0x1A, "ctpr2.hi", "rw/rw", "control", "prepared transfer 2, high part", since=6),
    _R(0x1B, "ctpr3.hi", "rw/rw", "control", "prepared transfer 3, high part", since=6),
    _R(0x21, "cutd", "rw/", "unit", "compilation unit table"),
    _R(0x22, "oscutd", "rw/", "unit", "compilation unit table of the system", since=6),
    _R(0x23, "eir", "rw/rw", "control", "event number set by setei"),
    _R(0x24, "tsd", "rw/", "unit", "type descriptors", until=2),
    _R(0x25, "cuir", "rw/r", "unit", "compilation unit index[15:0] checkup16"),
    _R(0x26, "oscud.hi", "rw/", "unit", "system code: size[63:32]"),
    _R(0x27, "oscud.lo", "rw/", "unit", "system code: base[47:0], the trap table"),
    _R(0x28, "osgd.hi", "rw/", "unit", "system globals: size"),
    _R(0x29, "osgd.lo", "rw/", "unit", "system globals: base"),
    _R(0x2A, "osem", "rw/", "unit", "mask of allowed system entries"),
    _R(0x2B, "oscuir", "rw/", "unit", "compilation unit index of the system", since=6),
    _R(0x2C, "usd.hi", "rw/r", "stack", "user stack: size[63:32] bytes left", 0x4000 << 32),
    _R(0x2D, "usd.lo", "rw/r", "stack", "user stack: base[47:0] p58 rw[60:59]", 0x1800_0000_0000_B000),
    _R(0x2E, "tr", "rw/", "unit", "type register", until=2),
    _R(0x2F, "osr0", "rw/", "unit", "scratch register of the system"),
    _R(0x30, "cud.hi", "rw/r", "unit", "code unit: size"),
    _R(0x31, "cud.lo", "rw/r", "unit", "code unit: base, c58"),
    _R(0x32, "gd.hi", "rw/r", "unit", "globals: size"),
    _R(0x33, "gd.lo", "rw/r", "unit", "globals: base"),
    *(_R(0x34 + 2 * index + low, f"{name}.{'lo' if low else 'hi'}", "rw/rw", "segment", f"x86 segment {name}")
      for index, name in enumerate(("cs", "ds", "es", "fs", "gs", "ss")) for low in (0, 1)),
    _R(0x40, "dibcr", "rw/", "debug", "instruction breakpoint control"),
    _R(0x41, "dimcr", "rw/", "debug", "monitor control"),
    _R(0x42, "dibsr", "rw/", "debug", "instruction breakpoint status"),
    _R(0x43, "dtcr", "rw/", "debug", "trace control"),
    _R(0x46, "dimtp.hi", "rw/", "debug", "monitor trace pointer", since=6),
    _R(0x47, "dimtp.lo", "rw/", "debug", "monitor trace pointer", since=6),
    *(_R(0x48 + index, f"dibar{index}", "rw/", "debug", "instruction breakpoint address") for index in range(4)),
    _R(0x4C, "dimar0", "rw/", "debug", "monitor counter"),
    _R(0x4D, "dimar1", "rw/", "debug", "monitor counter"),
    _R(0x4E, "dtarf", "rw/", "debug", "trace address from"),
    _R(0x4F, "dtart", "rw/", "debug", "trace address to"),
    _R(0x51, "cr0.hi", "rw/r", "chain", "return address[63:3]"),
    _R(0x53, "cr0.lo", "rw/r", "chain", "predicates of the caller"),
    _R(0x55, "cr1.hi", "rw/r", "chain", "caller: br[27:0] wdbl35 ussz[63:36]"),
    _R(0x57, "cr1.lo", "rw/r", "chain", "caller: tr[14:0] ein[23:16] ss24 wfx25 wpsz[32:26] wbs[39:33] cuir[56:40] psr[63:57]"),
    *(_R(number, name, "rw/", "guest", "virtualisation", since=6) for number, name in (
        (0x58, "sh_psp.hi"), (0x59, "sh_psp.lo"), (0x5A, "bu_psp.hi"), (0x5B, "bu_psp.lo"), (0x5C, "sh_pcsp.hi"),
        (0x5D, "sh_pcsp.lo"), (0x5E, "sh_pshtp"), (0x5F, "sh_pcshtp"), (0x60, "virt_ctrl_cu"), (0x61, "hceb"),
        (0x62, "hcem"), (0x63, "g_preempt_tmr"), (0x64, "intc_info_cu"), (0x65, "intc_ptr_cu"), (0x66, "sh_psr"),
        (0x67, "sh_core_mode"), (0x68, "sh_oscud.hi"), (0x69, "sh_oscud.lo"), (0x6A, "sh_osgd.hi"), (0x6B, "sh_osgd.lo"),
        (0x6C, "sh_oscutd"), (0x6D, "sh_oscuir"), (0x6E, "sh_osr0"), (0x6F, "sh_sclkm3"), (0x74, "bu_pcsp.hi"),
        (0x75, "bu_pcsp.lo"), (0x76, "sh_wd"))),
    _R(0x70, "sclkm1", "rw/", "time", "system clock multiplier", reset=SCLK_FREQUENCY, since=3),
    _R(0x71, "sclkm2", "rw/", "time", "system clock, high part at the last synchronisation", since=3),
    _R(0x72, "sclkm3", "rw/", "time", "system clock offset", since=3),
    _R(0x78, "cu_hw0", "rw/", "control", "hardware control", since=2),
    _R(0x79, "cu_hw1", "rw/", "control", "hardware control", since=5),
    _R(0x80, "upsr", "rw/rw", "control", "user status: fe0 se1 ac2 di3 wp4 ie5 a20_6 nmie7 fsm8 impt9 iuc10", 0x81),
    _R(0x81, "ip", "r/r", "control", "address of this wide instruction", kind="derived"),
    _R(0x82, "nip", "r/r", "control", "address of the next wide instruction", kind="derived"),
    _R(0x83, "lsr", "rw/rw", "loop", "loop: lcnt[31:0] ecnt[36:32] vlc37 over38 ldmc39 ldovl[47:40] pcnt[52:48] strmd[59:53] semc60"),
    _R(0x84, "pfpfr", "rw/rw", "fp", "scalar and packed floating point: flags[5:0] masks[12:7] rc[14:13] fz15 speculative flags[31:26]", 0x1F80),
    _R(0x85, "fpcr", "rw/rw", "fp", "floating point control: masks[5:0] one6 pc[9:8] rc[11:10] ic12", 0x37F),
    _R(0x86, "fpsr", "rw/rw", "fp", "floating point status: flags[5:0] es7 c1_9 bf15"),
    _R(0x87, "ilcr", "rw/rw", "loop", "initial loop count"),
    _R(0x88, "br", "rw/rw", "window", "rotation: rbs[5:0] rsz[11:6] rcur[17:12] psz[22:18] pcur[27:23]", 4 | 3 << 6),
    _R(0x89, "bgr", "rw/rw", "window", "global rotation: val[7:0] cur[10:8]", 0xFF),
    _R(0x8A, "idr", "r/r", "control", "identification: mdl[7:0] rev[11:8] wbl[14:12] core[19:15] pn[23:20]", since=2),
    _R(0x90, "clkr", "r/r", "time", "cycle counter", kind="clock"),
    _R(0x91, "rndpr", "rw/rw", "control", "random predicates", since=3),
    _R(0x92, "sclkr", "r/r", "time", "system clock", kind="clock", since=3),
    _R(0x9C, "tir.hi", "r/", "trap", "trap: exc[43:0] al[49:44] aa[55:52] j[63:56]"),
    _R(0x9D, "tir.lo", "rw/", "trap", "trap: ip[47:0]"),
    _R(0xA0, "rpr.lo", "rw/rw", "control", "recovery point address"),
    _R(0xA1, "sbbp", "rw/", "trap", "branch history"),
    _R(0xA2, "rpr.hi", "rw/rw", "control", "recovery point rotation"),
    _R(0xC0, "upsrm", "rw/", "control", "upsr under the kernel's control", 0x81, since=3),
    _R(0xC3, "lsr1", "rw/rw", "loop", "second loop status", since=5),
    _R(0xC7, "ilcr1", "rw/rw", "loop", "second initial loop count", since=5),
)

ALIASES = {"usbr": "sbr", "rpr": "rpr.lo"}
"""Other names the assembler takes."""

BY_NUMBER = {register.number: register for register in STATE_REGISTERS}
BY_NAME = {register.name: register for register in STATE_REGISTERS}
BY_NAME.update({alias: BY_NAME[name] for alias, name in ALIASES.items()})

if len(BY_NUMBER) != len(STATE_REGISTERS):
    raise ValueError("two state registers share a number")
