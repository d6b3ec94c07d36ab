// Windows: arguments and results, deep recursion (the windows spill to memory and come back), predicates and
// rotation saved by calls, indirect calls.
#include "selftest.inc"
    TEST calls

.macro TEST_CALL function, argument, result
        addd 0, \argument, %r10
    {
        nop 4
        disp %ctpr1, \function
        addd %r10, 0, %b[0]
    }
        call %ctpr1, wbs=24
        addd %b[0], 0, \result
.endm

        addd 0, 0x7777, %r30
    TEST_CALL add_one, 41, %r20
    CHECK "argument and result", %r20, 42
    CHECK "local kept", %r30, 0x7777

    TEST_CALL sum, 10, %r20
    CHECK "recursion 10", %r20, 55
    TEST_CALL sum, 100, %r20
    CHECK "recursion 100", %r20, 5050
    TEST_CALL sum, 1000, %r20
    CHECK "recursion 1000", %r20, 500500
    CHECK "local kept over deep recursion", %r30, 0x7777

    TEST_CALL fibonacci, 15, %r20
    CHECK "fibonacci 15", %r20, 610

    // predicates come back
    {
        nop 2
        cmpedb 0, 0, %pred3
        cmpedb 0, 1, %pred4
    }
    TEST_CALL change_predicates, 0, %r20
    CHECK_PRED "predicate kept true", %pred3, 1
    CHECK_PRED "predicate kept false", %pred4, 0
    CHECK "callee saw its own", %r20, 2

    // eight arguments, eight results
    {
        addd 0, 1, %b[0]
        addd 0, 2, %b[1]
        addd 0, 3, %b[2]
        addd 0, 4, %b[3]
        addd 0, 5, %b[4]
        addd 0, 6, %b[5]
    }
    {
        nop 4
        addd 0, 7, %b[6]
        addd 0, 8, %b[7]
        disp %ctpr2, reverse
    }
        call %ctpr2, wbs=24
        addd %b[0], 0, %r20
        addd %b[7], 0, %r21
        addd %b[3], 0, %r22
    CHECK "first of eight", %r20, 8
    CHECK "last of eight", %r21, 1
    CHECK "fourth of eight", %r22, 5

    // through a register
        addd 0, add_one, %r10
    {
        nop 5
        movtd %r10, %ctpr3
        addd 0, 9, %b[0]
    }
        call %ctpr3, wbs=24
        addd %b[0], 0, %r20
    CHECK "indirect call", %r20, 10

    // a call that is not taken
        cmpedb 0, 1, %pred0
    {
        nop 4
        disp %ctpr1, add_one
        addd 0, 9, %b[0]
    }
        call %ctpr1, wbs=24 ? %pred0
        addd %b[0], 0, %r20
    CHECK "call not taken", %r20, 9
    END_TEST

    .text
add_one:
    {
        nop 4
        LEAF
        return %ctpr3
        addd %r0, 1, %r0
    }
        ct %ctpr3

sum:                                        // r0 = n -> n + (n-1) + ... + 1
    {
        nop 2
        FRAME
        cmpedb,0 %r0, 0, %pred0
        addd,1 %r0, 0, %r1
    }
        ibranch .Lsum_end ? %pred0
    {
        nop 4
        disp %ctpr1, sum
        subd %r0, 1, %b[0]
    }
        call %ctpr1, wbs=8
        addd %r1, %b[0], %r0
.Lsum_end:
    RETURN

fibonacci:
    {
        nop 2
        FRAME
        cmpldb,0 %r0, 2, %pred0
    }
        ibranch .Lfibonacci_end ? %pred0
    {
        nop 4
        disp %ctpr1, fibonacci
        subd %r0, 1, %b[0]
    }
        call %ctpr1, wbs=8
        addd %b[0], 0, %r1
    {
        nop 4
        disp %ctpr1, fibonacci
        subd %r0, 2, %b[0]
    }
        call %ctpr1, wbs=8
        addd %b[0], %r1, %r0
.Lfibonacci_end:
    RETURN

change_predicates:
    {
        nop 2
        FRAME
        cmpedb,0 0, 1, %pred3
        cmpedb,1 0, 0, %pred4
        addd,2 0, 0, %r0
    }
        addd %r0, 1, %r0 ? %pred3
        addd %r0, 2, %r0 ? %pred4
    RETURN

reverse:
    {
        LEAF
        addd %r7, 0, %r0
        addd %r6, 0, %r1
        addd %r5, 0, %r2
        addd %r4, 0, %r3
        addd %r3, 0, %r4
        addd %r2, 0, %r5
    }
    // %r6 and %r7 took nothing yet; %r5 and %r4 hold the old %r2 and %r3
    {
        nop 4
        return %ctpr3
        addd 0, 2, %r6
        addd 0, 1, %r7
    }
        ct %ctpr3
