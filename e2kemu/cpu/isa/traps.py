"""Exceptions: bit in TIR.exc, name and class.

A trap is *sync* (the wide instruction did nothing), *deferred* (reported with it or later), *async* (not
caused by it) or *nonmask* (asynchronous, cannot be held off). Facts: kernel headers of the e2k port of Linux.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exc:
    """One exception; ``bit`` is its place in TIR.exc (52..55: the aa field of TIR.hi)."""

    bit: int
    name: str
    kind: str
    cause: str


EXCEPTIONS = tuple(Exc(*fields) for fields in (
    (0, "exc_illegal_opcode", "sync", "bad encoding, wrong channel, setwd below psize"),
    (1, "exc_priv_action", "sync", "privileged operation or register in user mode"),
    (2, "exc_fp_disabled", "sync", "floating point with UPSR.fe = 0"),
    (3, "exc_fp_stack_u", "sync", "x87 stack underflow"),
    (4, "exc_d_interrupt", "deferred", "x86 deferred interrupt"),
    (5, "exc_diag_ct_cond", "sync", "condition of a transfer is diagnostic"),
    (6, "exc_diag_instr_addr", "sync", "CTPR of a transfer is diagnostic"),
    (7, "exc_illegal_instr_addr", "sync", "CTPR of a transfer is empty, or its address cannot be executed"),
    (8, "exc_instr_debug", "async", "instruction breakpoint or single step"),
    (9, "exc_window_bounds", "sync", "register outside of the window"),
    (10, "exc_user_stack_bounds", "sync", "getsp below the user stack"),
    (11, "exc_proc_stack_bounds", "async", "procedure stack overflow or underflow"),
    (12, "exc_chain_stack_bounds", "async", "chain stack overflow or underflow"),
    (13, "exc_fp_stack_o", "sync", "x87 stack overflow"),
    (14, "exc_diag_cond", "sync", "condition of a non-speculative operation is diagnostic"),
    (15, "exc_diag_operand", "sync", "operand of a non-speculative operation is diagnostic"),
    (16, "exc_illegal_operand", "sync", "operand has a tag that the operation does not take"),
    (17, "exc_array_bounds", "sync", "outside of the bounds of a descriptor"),
    (18, "exc_access_rights", "sync", "against the rights of a descriptor"),
    (19, "exc_addr_not_aligned", "sync", "misaligned access with UPSR.ac"),
    (20, "exc_instr_page_miss", "sync", "page of the instruction is absent"),
    (21, "exc_instr_page_prot", "sync", "page of the instruction is not executable"),
    (22, "exc_ainstr_page_miss", "async", "page of the asynchronous program is absent"),
    (23, "exc_ainstr_page_prot", "async", "page of the asynchronous program is not executable"),
    (24, "exc_last_wish", "deferred", "return with the last-wish bit"),
    (25, "exc_base_not_aligned", "sync", "base of a descriptor is misaligned"),
    (26, "exc_software_trap", "sync", "setsft"),
    (28, "exc_data_debug", "nonmask", "data breakpoint"),
    (29, "exc_data_page", "deferred", "page fault of a data access; the trap cellar tells"),
    (31, "exc_recovery_point", "async", "recovery point"),
    (32, "exc_interrupt", "async", "maskable interrupt"),
    (33, "exc_nm_interrupt", "nonmask", "non-maskable interrupt"),
    (34, "exc_div", "sync", "integer division by zero or overflow"),
    (35, "exc_fp", "sync", "unmasked floating-point exception"),
    (36, "exc_mem_lock", "deferred", "memory lock conflict; the trap cellar tells"),
    (37, "exc_mem_lock_as", "nonmask", "memory lock, asynchronous"),
    (38, "exc_mem_error_out_cpu", "async", "data error outside of the CPU"),
    (39, "exc_mem_error_MAU", "async", "machine check"),
    (40, "exc_mem_error_L2", "async", "machine check"),
    (41, "exc_mem_error_L1_35", "async", "machine check"),
    (42, "exc_mem_error_L1_02", "async", "machine check"),
    (43, "exc_mem_error_ICACHE", "async", "machine check"),
    (52, "exc_mova_ch_0", "sync", "mova of channel 0"),
    (53, "exc_mova_ch_1", "sync", "mova of channel 1"),
    (54, "exc_mova_ch_2", "sync", "mova of channel 2"),
    (55, "exc_mova_ch_3", "sync", "mova of channel 3"),
))

BY_BIT = {exc.bit: exc for exc in EXCEPTIONS}
BY_NAME = {exc.name: exc for exc in EXCEPTIONS}

EXC_ILLEGAL_OPCODE = BY_NAME["exc_illegal_opcode"].bit
EXC_PRIV_ACTION = BY_NAME["exc_priv_action"].bit
EXC_FP_DISABLED = BY_NAME["exc_fp_disabled"].bit
EXC_DIAG_CT_COND = BY_NAME["exc_diag_ct_cond"].bit
EXC_DIAG_INSTR_ADDR = BY_NAME["exc_diag_instr_addr"].bit
EXC_ILLEGAL_INSTR_ADDR = BY_NAME["exc_illegal_instr_addr"].bit
EXC_WINDOW_BOUNDS = BY_NAME["exc_window_bounds"].bit
EXC_USER_STACK_BOUNDS = BY_NAME["exc_user_stack_bounds"].bit
EXC_PROC_STACK_BOUNDS = BY_NAME["exc_proc_stack_bounds"].bit
EXC_CHAIN_STACK_BOUNDS = BY_NAME["exc_chain_stack_bounds"].bit
EXC_DIAG_COND = BY_NAME["exc_diag_cond"].bit
EXC_DIAG_OPERAND = BY_NAME["exc_diag_operand"].bit
EXC_ILLEGAL_OPERAND = BY_NAME["exc_illegal_operand"].bit
EXC_ARRAY_BOUNDS = BY_NAME["exc_array_bounds"].bit
EXC_ACCESS_RIGHTS = BY_NAME["exc_access_rights"].bit
EXC_ADDR_NOT_ALIGNED = BY_NAME["exc_addr_not_aligned"].bit
EXC_INSTR_PAGE_MISS = BY_NAME["exc_instr_page_miss"].bit
EXC_INSTR_PAGE_PROT = BY_NAME["exc_instr_page_prot"].bit
EXC_AINSTR_PAGE_MISS = BY_NAME["exc_ainstr_page_miss"].bit
EXC_AINSTR_PAGE_PROT = BY_NAME["exc_ainstr_page_prot"].bit
EXC_SOFTWARE_TRAP = BY_NAME["exc_software_trap"].bit
EXC_DATA_DEBUG = BY_NAME["exc_data_debug"].bit
EXC_DATA_PAGE = BY_NAME["exc_data_page"].bit
EXC_INSTR_DEBUG = BY_NAME["exc_instr_debug"].bit
EXC_LAST_WISH = BY_NAME["exc_last_wish"].bit
EXC_INTERRUPT = BY_NAME["exc_interrupt"].bit
EXC_NM_INTERRUPT = BY_NAME["exc_nm_interrupt"].bit
EXC_DIV = BY_NAME["exc_div"].bit
EXC_FP = BY_NAME["exc_fp"].bit
EXC_MOVA_CH_0 = BY_NAME["exc_mova_ch_0"].bit
