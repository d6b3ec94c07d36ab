// Makes the system calls that it is told one after the other (tests/linux/test_calls_differential.py tells them).
//
// From descriptor 0 come lines of 7 words: the number and six arguments of a call; its result goes to descriptor 1.
// It ends with its input. "area" is free for what the calls read and write.

    .include "syscall.inc"
    .equ LINE, 56

    .text
    .align 8
    .global _start
_start:
    {
        setwd wsz=16, nfx=1
        setbn rsz=7, rbs=8, rcur=0
    }
next:
    CALL 3, 0, line, LINE
    {
        nop 3
        cmplesb,0 %b[0], 0, %pred0
        disp %ctpr1, end
    }
    ct %ctpr1 ? %pred0
    addd,0 0, line, %r2
    {
        nop 4
        ldd,0 %r2, 0, %b[0]
        ldd,2 %r2, 8, %b[1]
        ldd,3 %r2, 16, %b[2]
        ldd,5 %r2, 24, %b[3]
    }
    {
        nop 4
        ldd,0 %r2, 32, %b[4]
        ldd,2 %r2, 40, %b[5]
        ldd,3 %r2, 48, %b[6]
    }
    {
        addd,0 0, 0, %b[7]
        addd,1 0, 0, %b[8]
    }
    SYSCALL
    addd,0 0, line, %r2
    std,2 %b[0], [ %r2 + 0 ]
    CALL 4, 1, line, 8
    {
        nop 4
        disp %ctpr1, next
    }
    ct %ctpr1
end:
    CALL 1, 0

    .bss
    .align 4096
line:
    .space 4096
    .global area
area:
    .space 0x40000
