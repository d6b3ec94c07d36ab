// A small operating system for the machine elbrus-2.0. docs/kernel.md says what it does and how to read it.
//
// The boot ROM jumps here: privileged, physical addresses, the window as after reset, interrupts off.
#include "layout.inc"
#include "macros.inc"
    .text
    .global _start
_start:
    {
        FRAME
    }
        addd 0, CPU_AREAS, %g16
        addd 0, 0, %g17
        addd 0, 0, %r0
    {
        flushr
    }
    {
        flushc
    }
        addd %g16, MAX_CPUS * CPU_AREA, %r1
        addd %g16, 0, %r2
clear_area:                                 // the records of all CPUs
        addd %r2, 0x1000, %r3
clear_record:
        std %r0, [ %r2 + 0 ]
        addd %r2, 8, %r2
        BLO %r2, %r3, clear_record
        addd %r2, CPU_AREA - 0x1000, %r2
        BLO %r2, %r1, clear_area
        addd 0, 0x1800000000000000 | (CPU_AREAS + C_HARD_PSP), %r8
        addd 0, KERNEL_PSP_SIZE << 32, %r9
        rwd %r8, %psp.lo
        rwd %r9, %psp.hi
        addd 0, 0x1800000000000000 | (CPU_AREAS + C_HARD_PCSP), %r8
        addd 0, KERNEL_PCSP_SIZE << 32, %r9
        rwd %r8, %pcsp.lo
        rwd %r9, %pcsp.hi
        CALL1 cpu_begin, 0
        ibranch main

#include "entry.inc"
#include "locks.inc"
#include "console.inc"
#include "memory.inc"
#include "faults.inc"
#include "arrays.inc"
#include "tasks.inc"
#include "calls.inc"
#include "pic.inc"
#include "smp.inc"
#include "disk.inc"
#include "phases.inc"
#include "selftest.inc"
#include "users.inc"

main:
    {
        FRAME
    }
        addd 0, SERIAL, %r1
        addd 0, 1, %r2
        stb %r2, [ %r1 + 2 ]                // FCR: FIFOs on
        SAY "e2k kernel\n"
        addd 0, BOOTINFO, %r0
        ldd [ %r0 + BI_BANK0_SIZE ], %r1
        addd 0, 0x40000000, %r2             // a gigabyte is enough
        BLO %r1, %r2, main_small
        addd %r2, 0, %r1
main_small:
        PUT %r1, pages_end
        addd 0, PAGES_START, %r2
        PUT %r2, tasks
        addd 0, MAX_TASKS, %r3
main_tasks:
        CALL1 page_clear, %r2
        addd %r2, 0x1000, %r2
        subd %r3, 1, %r3
        BNZ %r3, main_tasks
        PUT %r2, pages_next
        addd 0, 1, %r2
        PUT %r2, next_context
        PUT %r2, next_pid
        CALL1 map_kernel, %r1
        CALL mmu_on
        SAY "the MMU is on\n"
        CALL page_get
        addd %b[0], 0, %r2
        PUT %r2, shared_page
        CALL apic_begin
        addd 0, 1, %r2
        PUT %r2, cpus_online
        CALL start_others
        CALL disk_begin
        GET pages_used, %r2
        PUT %r2, pages_at_start
        CALL2 argument, word_traps, 0
        BZ %b[0], main_no_traps
        CALL self_tests
main_no_traps:
        CALL first_phase
        addd 0, 1, %r2
        PUT %r2, started
        ibranch schedule

argument:                                   // r0 = word -> r0 = 1: it is a word of -append
    {
        FRAME
    }
        addd 0, BOOTINFO + BI_ARGUMENTS, %r1
argument_word:
        addd %r0, 0, %r2
argument_next:
        ldb [ %r1 + 0 ], %r3
        ldb [ %r2 + 0 ], %r4
        BNZ %r4, argument_compare
        BZ %r3, argument_yes
        BEQ %r3, 0x20, argument_yes
argument_compare:
        BZ %r3, argument_no
        addd %r1, 1, %r1
        addd %r2, 1, %r2
        BEQ %r3, %r4, argument_next
        subd %r1, 1, %r1
argument_skip:                              // to the next word
        ldb [ %r1 + 0 ], %r3
        BZ %r3, argument_no
        addd %r1, 1, %r1
        BNE %r3, 0x20, argument_skip
        ibranch argument_word
argument_yes:
        addd 0, 1, %r0
        RETURN
argument_no:
        addd 0, 0, %r0
        RETURN
        TEXT word_traps, "traps"
        TEXT word_loop, "loop"
