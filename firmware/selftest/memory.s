// Loads and stores: every size, extension with zeros, little endian, misaligned, forms of address, order within
// a wide instruction.
#include "selftest.inc"
    TEST memory
        addd 0, buffer, %r10
        addd 0, 0x8899aabbccddeeff, %r11
        addd 0, 0, %r12
    {
        std %r11, [ %r10 + 0 ]
        std %r12, [ %r10 + 8 ]
    }
.macro LOAD op, offset, expected
    {
        nop 2
        \op [ %r10 + \offset ], %r20
    }
    CHECK "\op \offset", %r20, \expected
.endm
    LOAD ldd, 0, 0x8899aabbccddeeff
    LOAD ldw, 0, 0xccddeeff
    LOAD ldw, 4, 0x8899aabb
    LOAD ldh, 0, 0xeeff
    LOAD ldh, 6, 0x8899
    LOAD ldb, 0, 0xff
    LOAD ldb, 7, 0x88
    LOAD ldd, 1, 0x008899aabbccddee
    LOAD ldw, 3, 0x99aabbcc
    LOAD ldh, 3, 0xbbcc

.macro STORE op, offset, expected
        std %r12, [ %r10 + 16 ]
        std %r12, [ %r10 + 24 ]
        \op %r11, [ %r10 + \offset ]
    {
        nop 2
        ldd [ %r10 + 16 ], %r20
    }
    CHECK "\op \offset", %r20, \expected
.endm
    STORE stb, 16, 0xff
    STORE stb, 23, 0xff00000000000000
    STORE sth, 18, 0xeeff0000
    STORE stw, 20, 0xccddeeff00000000
    STORE stw, 17, 0xccddeeff00
    STORE std, 16, 0x8899aabbccddeeff
    STORE std, 20, 0xccddeeff00000000

    // forms of address
        addd 0, 8, %r13
        addd 0, 0x1234, %r14
        std %r14, [ %r10 + %r13 ]
    {
        nop 2
        ldd %r10, 8, %r20
        ldd [ buffer + 8 ], %r21
        ldd [ %r13 + buffer ], %r22
    }
    CHECK "register and immediate", %r20, 0x1234
    CHECK "absolute", %r21, 0x1234
    CHECK "register and symbol", %r22, 0x1234
        addd %r10, 64, %r15
    {
        nop 2
        ldd [ %r15 - 56 ], %r20
    }
    CHECK "negative offset", %r20, 0x1234

    // a load sees the stores of earlier wide instructions, not of its own
        addd 0, 0x5678, %r14
    {
        nop 2
        ldd,0 [ %r10 + 8 ], %r20
        std,2 %r14, [ %r10 + 8 ]
    }
    {
        nop 2
        ldd,0 [ %r10 + 8 ], %r21
    }
    CHECK "load beside a store", %r20, 0x1234
    CHECK "load after a store", %r21, 0x5678

    // two stores to one place: the higher channel comes later
    {
        std,2 %r11, [ %r10 + 40 ]
        std,5 %r14, [ %r10 + 40 ]
    }
    {
        nop 2
        ldd [ %r10 + 40 ], %r20
    }
    CHECK "two stores", %r20, 0x5678

    // a conditional store
        cmpedb 0, 1, %pred0
        std %r11, [ %r10 + 40 ] ? %pred0
        std %r12, [ %r10 + 48 ] ? ~%pred0
    {
        nop 2
        ldd [ %r10 + 40 ], %r20
        ldd [ %r10 + 48 ], %r21
    }
    CHECK "store not done", %r20, 0x5678
    CHECK "store done", %r21, 0

    // copy of 64 KiB, and its sum
        addd 0, buffer, %r10
        addd 0, 0x10000, %r11
        addd 0, 0, %r12
    {
        nop 4
        disp %ctpr1, .Lfill
    }
.Lfill:
    {
        muld,0 %r12, 0x9e37, %r13
        addd,1 %r12, 8, %r14
    }
    {
        nop 2
        std,2 %r13, [ %r10 + %r12 ]
        addd,0 %r14, 0, %r12
        cmpbdb,1 %r14, %r11, %pred0
    }
        ct %ctpr1 ? %pred0
        addd 0, 0, %r12
        addd 0, 0, %r20
        addd %r10, %r11, %r15
    {
        nop 4
        disp %ctpr1, .Lcopy
    }
.Lcopy:
    {
        nop 2
        ldd,0 [ %r10 + %r12 ], %r13
        addd,1 %r12, 8, %r14
    }
    {
        nop 2
        std,2 %r13, [ %r15 + %r12 ]
        addd,0 %r14, 0, %r12
        cmpbdb,1 %r14, %r11, %pred0
        addd,3 %r20, %r13, %r20
    }
        ct %ctpr1 ? %pred0
    CHECK "sum of what was written", %r20, 0x9e320e48000
    {
        nop 2
        ldd [ %r15 + 0xfff8 ], %r20
    }
    CHECK "last word of the copy", %r20, 0x9e320e48
    END_TEST
    .bss
    .align 64
buffer: .skip 0x20000
