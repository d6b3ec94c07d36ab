// Firmware of the elbrus machines: assembled by e2kemu-as for instruction set v3, so every model runs it.
// Execution starts at its first byte: privileged, MMU off, window of 16 registers. See README.md.
#include "machine.inc"
    .text
    .global _start
_start:
    {
        setwd wsz=32, nfx=1
        setbn rsz=7, rbs=24, rcur=0
    }
    // %r2 boot information block. Where there are several CPUs: is this the one that boots?
        addd,0 0, BOOTINFO_AT, %r2
    {
        nop 4
        ldd,0 [ %r2 + 0 ], %r2
    }
    {
        nop 2
        cmpedb,0 %r2, 0, %pred0
    }
        addd,0 0, BOOTINFO, %r2 ? %pred0
    {
        nop 4
        ldb,0 [ %r2 + BI_CPUS ], %r3
    }
    {
        nop 2
        cmpbesb,0 %r3, 1, %pred0
    }
        ibranch boot_cpu ? %pred0
        rrd %idr, %r4
        ands,0 %r4, 0xff, %r4
    {
        nop 2
        cmpbsb,0 %r4, FIRST_EPIC, %pred0
        addd,1 0, LOCAL_PIC, %r5
        addd,2 0, LOCAL_PIC + 0x10, %r6
    }
        addd,0 0, LOCAL_PIC + 0x10, %r5 ? %pred0
        addd,0 0, LOCAL_PIC + 0x20, %r6 ? %pred0
    {
        nop 4
        ldw,0 [ %r5 + 0 ], %r7
        ldw,2 [ %r6 + 0 ], %r8
    }
    {
        nop 2
        cmpandesb,0 %r7, BOOTS, %pred1
        shrs,1 %r8, 24, %r8 ? %pred0
    }
        ibranch boot_cpu ? ~%pred1
        ands,0 %r8, 0xff, %r8
        sxt,0 6, %r8, %r8
        shld,0 %r8, 16, %r8
        addd,0 0, 0x1800000000000000 | OTHERS, %r9
        addd,0 %r8, %r9, %r9
        rwd %r9, %psp.lo
        rwd OTHERS_STACK << 32, %psp.hi
        addd,0 %r9, OTHERS_STACK, %r9
        rwd %r9, %pcsp.lo
        rwd OTHERS_STACK << 32, %pcsp.hi
        addd,0 %r9, 3 * OTHERS_STACK, %r9
        addd,0 %r8, OTHERS + 4 * OTHERS_STACK, %r10
        rwd %r10, %sbr
        rwd %r9, %usd.lo
        rwd (2 * OTHERS_STACK) << 32, %usd.hi
        ibranch enter_kernel

boot_cpu:
    // hardware stacks, user stack, trap table
        rwd 0x1800000000000000 | PSP_BASE, %psp.lo
        rwd STACK_SIZE << 32, %psp.hi
        rwd 0x1800000000000000 | PCSP_BASE, %pcsp.lo
        rwd STACK_SIZE << 32, %pcsp.hi
        rwd USER_STACK_TOP, %sbr
        rwd 0x1800000000000000 | USER_STACK_TOP, %usd.lo
        rwd (USER_STACK_TOP - USER_STACK) << 32, %usd.hi
        rwd ROM_BASE + TRAP_TABLE, %oscud.lo
        rwd (8 * SLOT) << 32, %oscud.hi
        ibranch main

#include "console.inc"
#include "arguments.inc"

// --- trap table: slot 0 is entered by every trap, slot N by sdisp N -----------------------------------
    .org TRAP_TABLE
trap:
    {
        FRAME
    }
        rrd %tir.hi, %r0
        rrd %tir.lo, %r1
        PRINT trap_tir
    {
        nop 4
        disp %ctpr1, put_hex
        addd,0 %r0, 0, %b[0]
    }
        call %ctpr1, wbs=8
        PRINT trap_ip
    {
        nop 4
        disp %ctpr1, put_hex
        addd,0 %r1, 0, %b[0]
    }
        call %ctpr1, wbs=8
        PRINT newline
    {
        nop 4
        disp %ctpr1, exit
        addd,0 0, STATUS_TRAP, %b[0]
    }
        call %ctpr1, wbs=8

    .irp slot, 1, 2, 3, 4, 5, 6, 7
    .org TRAP_TABLE + \slot * SLOT
    {
        FRAME
    }
        PRINT no_system_calls
    {
        nop 4
        disp %ctpr1, exit
        addd,0 0, STATUS_TRAP, %b[0]
    }
        call %ctpr1, wbs=8
    .endr
    .org TRAP_TABLE + 8 * SLOT

// --- main: a frame of 32 quads, %r0..%r47 its own, %b = %r48.. outgoing --------------------------------
// %r2 boot information, %r10 start, %r11 end, %r12 rate, %r13 seed, %r14 the word after workload=
.macro MCALL function
    {
        nop 4
        disp %ctpr1, \function
    }
        call %ctpr1, wbs=24
.endm

.macro MPRINT string
    {
        nop 4
        disp %ctpr1, puts
        addd 0, \string, %b[0]
    }
        call %ctpr1, wbs=24
.endm

.macro MCALL1 function, argument            // one argument, a register
    {
        nop 4
        disp %ctpr1, \function
        addd \argument, 0, %b[0]
    }
        call %ctpr1, wbs=24
.endm

.macro MCALL_CONST function, argument       // one argument, a number or symbol
    {
        nop 4
        disp %ctpr1, \function
        addd 0, \argument, %b[0]
    }
        call %ctpr1, wbs=24
.endm

main:                                       // %r2 boot information block
        MPRINT banner
        addd,0 %r2, BI_MACHINE, %r3
        MCALL1 puts, %r3
        MPRINT banner_cpu
        addd,0 %r2, BI_CPU, %r3
        MCALL1 puts, %r3
        MPRINT comma

    // RAM: the sum of the banks
    {
        nop 2
        ldd,0 [ %r2 + BI_BANKS ], %r4
        addd,1 %r2, BI_BANK0, %r5
        addd,2 0, 0, %r6
    }
        addd,0 %r4, 0, %r7
ram_bank:
    {
        nop 2
        ldd,0 [ %r5 + 8 ], %r8
        subd,1 %r7, 1, %r7
        addd,2 %r5, 16, %r5
    }
    {
        nop 2
        addd,0 %r6, %r8, %r6
        cmpedb,1 %r7, 0, %pred0
    }
        ibranch ram_bank ? ~%pred0
        shrd,0 %r6, 20, %r6
        MCALL1 put_decimal, %r6
        MPRINT banner_ram

    // Memory test: one word of each MiB takes two patterns and gets its content back. The firmware's own
    // data and the loaded kernel are left alone. %r16 word, %r17 end of the bank, %r18/%r19 the kernel
        MPRINT memory_test
    {
        nop 2
        ldd,0 [ %r2 + BI_KERNEL_BASE ], %r18
        ldd,2 [ %r2 + BI_KERNEL_SIZE ], %r19
        addd,1 %r2, BI_BANK0, %r5
        addd,4 %r4, 0, %r7
    }
    {
        addd,0 %r18, %r19, %r19
        addd,1 0, 0x5555aaaa3333cccc, %r20
        addd,2 0, 0, %r6
    }
        xord,0 %r20, -1, %r21
test_bank:
    {
        nop 2
        ldd,0 [ %r5 + 0 ], %r16
        ldd,2 [ %r5 + 8 ], %r17
        subd,1 %r7, 1, %r7
        addd,4 %r5, 16, %r5
    }
        addd,0 %r16, %r17, %r17
test_word:
    {
        nop 2
        cmpbdb,0 %r16, FIRMWARE_LOW, %pred0
        cmpbdb,1 %r16, FIRMWARE_HIGH, %pred1
        cmpbdb,3 %r16, %r18, %pred2
        cmpbdb,4 %r16, %r19, %pred3
    }
    {
        nop 1
        pass %pred0, @p0
        pass %pred1, @p1
        pass %pred2, @p2
        pass %pred3, @p3
        landp ~@p0, @p1, @p4
        pass @p4, %pred4
        landp ~@p2, @p3, @p5
        pass @p5, %pred5
    }
        ibranch test_next ? %pred4
        ibranch test_next ? %pred5
    {
        nop 2
        ldd,0 [ %r16 + 0 ], %r22
    }
        std,2 %r20, [ %r16 + 0 ]
    {
        nop 2
        ldd,0 [ %r16 + 0 ], %r23
    }
        std,2 %r21, [ %r16 + 0 ]
    {
        nop 2
        ldd,0 [ %r16 + 0 ], %r24
    }
    {
        nop 2
        std,2 %r22, [ %r16 + 0 ]
        cmpedb,0 %r23, %r20, %pred0
        cmpedb,1 %r24, %r21, %pred1
    }
        ibranch test_fault_low ? ~%pred0
        ibranch test_fault_high ? ~%pred1
test_next:
    {
        addd,0 %r16, 0x100000, %r16
        addd,1 %r6, 1, %r6
    }
    {
        nop 2
        cmpbdb,0 %r16, %r17, %pred0
        cmpedb,1 %r7, 0, %pred1
    }
        ibranch test_word ? %pred0
        ibranch test_bank ? ~%pred1
        MCALL1 put_decimal, %r6
        MPRINT memory_ok

    // A kernel that wants all CPUs gets them: STARTUP at page 0, which is here, for all others.
    {
        nop 4
        ldd,0 [ %r2 + BI_KERNEL_ENTRY ], %r3
        ldw,2 [ %r2 + BI_START ], %r5
        ldb,3 [ %r2 + BI_CPUS ], %r6
    }
    {
        nop 2
        cmpedb,0 %r3, 0, %pred0
        cmpesb,1 %r5, 0, %pred1
    }
        ibranch workloads ? %pred0
        ibranch plain_kernel ? %pred1
        rrd %idr, %r4
        ands,0 %r4, 0xff, %r4
    {
        nop 2
        cmpbsb,0 %r4, FIRST_EPIC, %pred0
        addd,1 0, LOCAL_PIC, %r7
        addd,2 0, 1, %r8
    }
start_next:
    {
        nop 2
        cmpbesb,0 %r6, %r8, %pred1
        shld,1 %r8, 24, %r9
        shld,4 %r8, 40, %r10
    }
        ibranch enter_kernel ? %pred1
        addd,0 0, 0x600, %r11
        ord,0 %r10, 6 << 13, %r10
        addd,0 %r7, 0x310, %r12
        stw,2 %r9, [ %r12 + 0 ] ? %pred0        // APIC: ICR2, ICR
        addd,0 %r7, 0x300, %r12
        stw,2 %r11, [ %r12 + 0 ] ? %pred0
        addd,0 %r7, 0x200, %r12
        std,2 %r10, [ %r12 + 0 ] ? ~%pred0      // CEPIC: ICR
        addd,0 %r8, 1, %r8
        ibranch start_next

enter_kernel:                               // on every CPU; %r2 boot information block
    {
        nop 4
        ldd,0 [ %r2 + BI_TRAP_TABLE ], %r4
        ldw,2 [ %r2 + BI_START ], %r5
        ldd,3 [ %r2 + BI_KERNEL_SIZE ], %r6
        ldd,5 [ %r2 + BI_BOOT_BLOCK ], %r7
    }
    {
        nop 2
        ldd,0 [ %r2 + BI_KERNEL_ENTRY ], %r3
        cmpesb,1 %r5, 1, %pred1
        addd,4 %r6, 0xfff, %r6
    }
        andd,0 %r6, ~0xfff, %r6
        shld,0 %r6, 32, %r6
        addd,0 0, %r7, %r1
        addd,0 0, %r7, %r0
        rwd %r4, %oscud.lo
        rwd %r6, %oscud.hi
        ibranch at_entry ? %pred1
        rwd 1 << 12, %osem
    {
        nop 5
        sdisp %ctpr1, 12
        addd,0 0, 0, %b[0]
        addd,1 0, %r7, %b[1]
    }
        call %ctpr1, wbs=24

    // A plain kernel gets control with the window as after reset and the boot information in %r0 and %r1.
plain_kernel:
    {
        addd,1 0, %r2, %r0
        addd,2 0, %r2, %r1
    }
at_entry:
    {
        nop 5
        movtd,0 %r3, %ctpr1
        setwd wsz=8, nfx=1
        setbn rsz=3, rbs=4, rcur=0
    }
        ct %ctpr1

test_fault_low:
    {
        addd,0 %r20, 0, %r21
        addd,1 %r23, 0, %r24
    }
test_fault_high:
    {
        addd,0 %r16, 0, %b[0]
        addd,1 %r21, 0, %b[1]
        addd,2 %r24, 0, %b[2]
    }
        MCALL fault

fault:                                      // r0 = address, r1 = expected, r2 = found; ends with status 4
    {
        FRAME
    }
        PRINT fault_text
    .irp n, 0, 1, 2
        PRINT hex_prefix
    {
        nop 4
        disp %ctpr1, put_hex
        addd,0 %r\n, 0, %b[0]
    }
        call %ctpr1, wbs=8
    .endr
        PRINT newline
    {
        nop 4
        disp %ctpr1, exit
        addd,0 0, STATUS_FAULT, %b[0]
    }
        call %ctpr1, wbs=8

#include "workloads.inc"

    .section .rodata
hex_digits:     .ascii "0123456789abcdef"
banner:         .asciz "\ne2kemu firmware\nmachine "
banner_cpu:     .asciz ", CPU "
comma:          .asciz ", "
banner_ram:     .asciz " MiB of RAM\n"
memory_test:    .asciz "memory test: "
memory_ok:      .asciz " MiB ok\n"
trap_tir:       .asciz "\nTRAP tir="
trap_ip:        .asciz " ip="
newline:        .asciz "\n"
no_system_calls: .asciz "\nTRAP system call: the firmware has none\n"
firmware_colon: .asciz "\nfirmware: "
bad_value:      .asciz "bad value of "
missing_value:  .asciz "missing "
no_workload:    .asciz "no such workload: "
bad_range:      .asciz "start..end must be whole pages of RAM above 16M"
fault_text:     .asciz "\nFAULT"
hex_prefix:     .asciz " 0x"
