"""Operations of the control unit: CS0 (transfer preparation) and CS1 (windows, barriers, calls).

Facts: cs0 and cs1 tables of the encoding reference and its corrections. ``since`` is the first
instruction set whose assembler takes the operation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cs0Op:
    """One CS0 operation.

    ``ctprs`` are the values of CS0[31:30], ``opc`` CS0[29:28]. ``kind`` tells what the 28-bit
    parameter is: ``branch`` a signed distance from the wide instruction in 8-byte units, ``number``
    a system entry in 4:0, ``prefetch`` the fields of ``formats.PREF``, ``type`` a code in 2:0 that
    selects among operations, ``raw`` a plain number, ``hcall`` a number in 4:1.
    """

    name: str
    ctprs: tuple[int, ...]
    opc: int
    kind: str
    doc: str
    type: int | None = None
    since: int = 1


CS0_OPS = (
    Cs0Op("ibranch", (0,), 0, "branch", "Jump relative to this wide instruction when the condition of SS is true."),
    Cs0Op("icall", (0,), 0, "raw", "Call relative to this wide instruction, as ibranch jumps (CS1 gives the window).", since=6),
    Cs0Op("hcall", (0,), 0, "hcall", "Call of the hypervisor (CS1 gives the window).", since=6),
    Cs0Op("pref", (0,), 1, "prefetch", "Prefetch code; no functional effect."),
    Cs0Op("puttsd", (0,), 2, "branch", "Type descriptor (obsolete)."),
    Cs0Op("done", (0,), 3, "type", "Leave the trap handler.", type=0),
    Cs0Op("iret", (0,), 3, "type", "Return to the caller, without a preparation, when the condition of SS is true.", type=2, since=6),
    Cs0Op("hret", (0,), 3, "type", "Return from a hypercall.", type=3, since=6),
    Cs0Op("glaunch", (0,), 3, "type", "Enter the guest.", type=4, since=6),
    Cs0Op("disp", (1, 2, 3), 0, "branch", "Prepare a transfer to a label."),
    Cs0Op("ldisp", (2,), 1, "branch", "Prepare the array prefetch program."),
    Cs0Op("sdisp", (1, 2, 3), 2, "number", "Prepare a system call through entry N."),
    Cs0Op("gettsd", (1, 2, 3), 3, "type", "Type descriptor (obsolete).", type=1, since=3),
    Cs0Op("return", (3,), 3, "type", "Prepare the return to the caller.", type=0),
)


@dataclass(frozen=True)
class Cs1Op:
    """One CS1 operation; ``opc`` is CS1[31:28], ``fields`` what ``insn.Cs1.fields`` holds."""

    name: str
    opc: int
    fields: tuple[str, ...]
    doc: str
    since: int = 1


CS1_OPS = (
    Cs1Op("setwd", 0, ("wsz", "nfx", "dbl"), "Set the size of the register window (fields in LTS0)."),
    Cs1Op("vfrpsz", 1, ("rpsz",), "Verify the size of the parameters (field in LTS0)."),
    Cs1Op("settr", 0, ("type",), "Set the type register (field in LTS0; obsolete)."),
    Cs1Op("setbn", 4, ("rbs", "rsz", "rcur"), "Set the rotation of %b registers."),
    Cs1Op("setbp", 4, ("psz",), "Set the rotation of predicates."),
    Cs1Op("setei", 2, ("eir",), "Set the event identifier."),
    Cs1Op("setsft", 2, (), "Raise exc_software_trap."),
    Cs1Op("wait", 3, ("all_c", "all_e", "st_c", "ld_c", "fl_c", "ma_c", "trap", "sas", "sal", "las", "lal", "mt",
                      "int", "mem_mod"), "Wait until the earlier operations named are complete."),
    Cs1Op("call", 5, ("wbs",), "Call through the CTPR that SS names."),
    Cs1Op("icall", 5, ("wbs",), "Call through CS0, without a %ctpr.", since=6),
    Cs1Op("hcall", 5, ("wbs",), "Call of the hypervisor.", since=6),
    Cs1Op("mas", 6, ("alc0", "alc2", "alc3", "alc5"), "Memory access specifiers of this wide instruction."),
    Cs1Op("flushr", 7, (), "Spill the register windows."),
    Cs1Op("flushc", 7, (), "Spill the chain windows."),
    Cs1Op("fillr", 7, (), "Fill the register windows.", since=6),
    Cs1Op("fillc", 7, (), "Fill the chain windows.", since=6),
    Cs1Op("vfbg", 8, ("umask", "dmask", "chkm4"), "Verify global registers."),
)

CALL_KINDS = {0: "call", 1: "icall", 2: "hcall"}
"""CS1 ctopc -> name; the others are reserved."""

_CS0_BY_CODE = {(ctpr, op.opc, op.type): op for op in reversed(CS0_OPS) for ctpr in op.ctprs}


def cs0_op(ctpr: int, opc: int, type_code: int) -> Cs0Op | None:
    """The CS0 operation with these codes, None when there is none. ibranch stands for icall and hcall.

    The types of ``done`` that have no name act as done, as the vendor's disassembler reads them.
    """
    found = _CS0_BY_CODE.get((ctpr, opc, type_code)) or _CS0_BY_CODE.get((ctpr, opc, None))
    if found is None and (ctpr, opc) == (0, 3):
        found = _CS0_BY_CODE[0, 3, 0]
    return found
