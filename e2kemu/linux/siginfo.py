"""Signals: their names and defaults, and struct siginfo (128 bytes: signo, errno, code, then by kind at byte 16).

Numbers and codes are Linux' generic ones with e2k's additions (uapi/asm/siginfo.h): the preamble takes 16 bytes,
and a fault has its exception number behind the address.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from e2kemu.cpu.isa import traps

NAMES = ("", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
         "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
         "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
         "SIGSYS")
NUMBER = {name: number for number, name in enumerate(NAMES) if name}
(SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGCHLD, SIGCONT, SIGSTOP, SIGVTALRM, SIGPROF) = (
    NUMBER[name] for name in ("SIGILL", "SIGTRAP", "SIGBUS", "SIGFPE", "SIGKILL", "SIGSEGV", "SIGPIPE", "SIGALRM",
                              "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGVTALRM", "SIGPROF"))
LAST = 64
"""Highest signal; from 32 on they are real-time signals, which queue."""
FIRST_REALTIME = 32

IGNORED = frozenset(NUMBER[name] for name in ("SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"))
STOPPING = frozenset(NUMBER[name] for name in ("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"))
"""What the default action is not to end the process."""
UNMASKABLE = 1 << SIGKILL - 1 | 1 << SIGSTOP - 1

SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL = 0, 0x80, -1, -2, -6
CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3
SEGV_MAPERR, SEGV_ACCERR, SEGV_BOUNDS = 1, 2, 3
BUS_ADRALN = 1
SIZE = 128

FAULTS: dict[int, tuple[int, int]] = {
    traps.BY_NAME[name].bit: (NUMBER[signal], code) for name, signal, code in (
        ("exc_illegal_opcode", "SIGILL", 1), ("exc_priv_action", "SIGILL", 5),
        ("exc_fp_disabled", "SIGILL", 7), ("exc_fp_stack_u", "SIGFPE", 7),
        ("exc_fp_stack_o", "SIGFPE", 7), ("exc_diag_ct_cond", "SIGILL", 2),
        ("exc_diag_instr_addr", "SIGILL", 3), ("exc_illegal_instr_addr", "SIGILL", 1),
        ("exc_instr_debug", "SIGTRAP", 4), ("exc_window_bounds", "SIGSEGV", SEGV_BOUNDS),
        ("exc_user_stack_bounds", "SIGSEGV", SEGV_BOUNDS), ("exc_proc_stack_bounds", "SIGSEGV", SEGV_BOUNDS),
        ("exc_chain_stack_bounds", "SIGSEGV", SEGV_BOUNDS), ("exc_diag_cond", "SIGILL", 2),
        ("exc_diag_operand", "SIGILL", 2), ("exc_illegal_operand", "SIGILL", 2),
        ("exc_array_bounds", "SIGSEGV", SEGV_BOUNDS), ("exc_access_rights", "SIGSEGV", SEGV_ACCERR),
        ("exc_addr_not_aligned", "SIGBUS", BUS_ADRALN), ("exc_base_not_aligned", "SIGBUS", BUS_ADRALN),
        ("exc_instr_page_miss", "SIGSEGV", SEGV_MAPERR), ("exc_instr_page_prot", "SIGSEGV", SEGV_ACCERR),
        ("exc_ainstr_page_miss", "SIGSEGV", SEGV_MAPERR), ("exc_ainstr_page_prot", "SIGSEGV", SEGV_ACCERR),
        ("exc_software_trap", "SIGTRAP", 1), ("exc_data_debug", "SIGTRAP", 4),
        ("exc_data_page", "SIGSEGV", SEGV_MAPERR), ("exc_div", "SIGFPE", 1),
        ("exc_fp", "SIGFPE", 7), ("exc_mem_lock", "SIGBUS", 3),
        ("exc_mem_lock_as", "SIGBUS", 3), ("exc_mova_ch_0", "SIGSEGV", SEGV_MAPERR),
        ("exc_mova_ch_1", "SIGSEGV", SEGV_MAPERR), ("exc_mova_ch_2", "SIGSEGV", SEGV_MAPERR),
        ("exc_mova_ch_3", "SIGSEGV", SEGV_MAPERR),
    )}
"""Exception -> (signal, si_code), as the kernel for e2k has them."""


_FP_CODES = {1: 7, 2: 5, 4: 3, 8: 4, 0x10: 5, 0x20: 6}
"""Flag of FPSR and PFPFR (IE, DE, ZE, OE, UE, PE) -> FPE_FLTINV, FLTUND, FLTDIV, FLTOVF, FLTUND, FLTRES."""
_FPSR_ES = 0x80


def fp_code(fpsr: int, pfpfr: int) -> int:
    """si_code of exc_fp: what the flags say, those of FPSR when its ES is set, looked at in the order that the kernel
    for e2k looks at them (``do_fp``)."""
    flags, order = (fpsr, (0x20, 0x10, 8, 4, 2, 1)) if fpsr & _FPSR_ES else (pfpfr, (0x20, 2, 8, 1, 4, 0x10))
    return next((_FP_CODES[flag] for flag in order if flags & flag), SI_KERNEL)


def signal_name(signo: int) -> str:
    """SIGSEGV, SIGRT3, ..."""
    return NAMES[signo] if 0 < signo < len(NAMES) else f"SIGRT_{signo - FIRST_REALTIME}"


@dataclass(frozen=True, slots=True)
class SigInfo:
    """One signal on its way. ``kind``: "kill" (pid, uid), "queue" (pid, uid, value), "fault" (address, exception),
    "child" (pid, uid, status), "timer" (id, overrun, value), "raw" (the bytes behind the preamble in ``raw``)."""

    signo: int
    code: int = SI_USER
    kind: str = "kill"
    values: tuple[int, ...] = (0, 0)
    raw: bytes = b""

    def pack(self, pointer_size: int) -> bytes:
        """The 128 bytes of struct siginfo."""
        pointer = "Q" if pointer_size == 8 else "I"
        mask = (1 << 8 * pointer_size) - 1
        v = self.values
        if self.kind == "fault":
            rest = struct.pack(f"<{pointer}I", v[0] & mask, v[1])
        elif self.kind in ("queue", "timer"):
            rest = struct.pack(f"<ii{pointer}", v[0], v[1], v[2] & mask)
        elif self.kind == "child":
            rest = struct.pack("<Iii", v[0], v[1], v[2])
        elif self.kind == "raw":
            rest = self.raw
        else:
            rest = struct.pack("<II", v[0], v[1])
        return (struct.pack("<iiii", self.signo, 0, self.code, 0) + rest).ljust(SIZE, b"\0")[:SIZE]
