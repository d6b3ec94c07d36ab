// Makes the system calls that its input tells, one after the other (tests/linux/scripts.py writes the input).
//
// Input: AREA bytes, loaded at "area". At its start are lines of 8 words each: the addresses of the words that hold the
// number and six arguments of a call, and where its result goes. So an argument can be the result of an earlier call.
// The last line makes an exit.

    .include "syscall.inc"
    .equ AREA, 0x20000
#ifndef ENTRY
#define ENTRY 3
#endif

    .text
    .align 8
    .global _start
_start:
    {
        setwd wsz=16, nfx=1
        setbn rsz=7, rbs=8, rcur=0
    }
    addd,0 0, 0, %r2
fill:
    addd,0 0, AREA, %r3
    subd,0 %r3, %r2, %r3
    addd,0 %r2, area, %r4
    CALL 3, 0, %r4, %r3
    addd,0 0, %b[0], %r5
    addd,0 %r2, %r5, %r2
    {
        nop 3
        cmpldb,0 0, %r5, %pred1
        disp %ctpr1, end
    }
    ct %ctpr1 ? ~%pred1
    {
        nop 3
        cmpldb,0 %r2, AREA, %pred0
        disp %ctpr1, fill
    }
    ct %ctpr1 ? %pred0
end:
    addd,0 0, area, %r2
next:
    {
        ldd,0 %r2, 0, %r4
        ldd,2 %r2, 8, %r5
        ldd,3 %r2, 16, %r6
        ldd,5 %r2, 24, %r7
    }
    {
        nop 4
        ldd,0 %r2, 32, %r8
        ldd,2 %r2, 40, %r9
        ldd,3 %r2, 48, %r10
        ldd,5 %r2, 56, %r11
    }
    {
        ldd,0 %r4, 0, %b[0]
        ldd,2 %r5, 0, %b[1]
        ldd,3 %r6, 0, %b[2]
        ldd,5 %r7, 0, %b[3]
    }
    {
        nop 4
        ldd,0 %r8, 0, %b[4]
        ldd,2 %r9, 0, %b[5]
        ldd,3 %r10, 0, %b[6]
    }
    {
        addd,0 0, 0, %b[7]
        addd,1 0, 0, %b[8]
    }
    SYSCALL ENTRY
    std,2 %b[0], [ %r11 + 0 ]
    {
        nop 4
        addd,0 %r2, 64, %r2
        disp %ctpr1, next
    }
    ct %ctpr1

    .bss
    .align 4096
    .global area
area:
    .space AREA
