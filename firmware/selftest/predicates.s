// Compares, conditional operations, merges and predicate logic.
#include "selftest.inc"
    TEST predicates
        addd 0, 0x5, %r10
        addd 0, 0x5, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 5 5", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 5 5", %pred7, 0
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 5 5", %pred7, 1
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 5 5", %pred7, 1
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 5 5", %pred7, 0
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 5 5", %pred7, 1
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 5 5", %pred7, 0
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 5 5", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 5 5", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 5 5", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 5 5", %pred7, 1
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 5 5", %pred7, 0
        addd 0, 0x3, %r10
        addd 0, 0x5, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 3 5", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 3 5", %pred7, 1
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 3 5", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 3 5", %pred7, 1
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 3 5", %pred7, 1
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 3 5", %pred7, 0
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 3 5", %pred7, 1
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 3 5", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 3 5", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 3 5", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 3 5", %pred7, 0
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 3 5", %pred7, 0
        addd 0, 0x5, %r10
        addd 0, 0x3, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 5 3", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 5 3", %pred7, 0
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 5 3", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 5 3", %pred7, 0
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 5 3", %pred7, 0
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 5 3", %pred7, 0
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 5 3", %pred7, 0
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 5 3", %pred7, 0
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 5 3", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 5 3", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 5 3", %pred7, 0
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 5 3", %pred7, 0
        addd 0, 0xffffffffffffffff, %r10
        addd 0, 0x1, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb -1 1", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb -1 1", %pred7, 0
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb -1 1", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb -1 1", %pred7, 0
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb -1 1", %pred7, 1
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb -1 1", %pred7, 0
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb -1 1", %pred7, 1
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb -1 1", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb -1 1", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb -1 1", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb -1 1", %pred7, 0
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb -1 1", %pred7, 0
        addd 0, 0x1, %r10
        addd 0, 0xffffffffffffffff, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 1 -1", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 1 -1", %pred7, 1
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 1 -1", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 1 -1", %pred7, 1
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 1 -1", %pred7, 0
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 1 -1", %pred7, 0
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 1 -1", %pred7, 0
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 1 -1", %pred7, 0
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 1 -1", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 1 -1", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 1 -1", %pred7, 0
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 1 -1", %pred7, 0
        addd 0, 0xfffffffffffffffb, %r10
        addd 0, 0xfffffffffffffffd, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb -5 -3", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb -5 -3", %pred7, 1
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb -5 -3", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb -5 -3", %pred7, 1
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb -5 -3", %pred7, 1
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb -5 -3", %pred7, 0
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb -5 -3", %pred7, 1
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb -5 -3", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb -5 -3", %pred7, 0
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb -5 -3", %pred7, 1
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb -5 -3", %pred7, 1
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb -5 -3", %pred7, 1
        addd 0, 0x8000000000000000, %r10
        addd 0, 0x1, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 9223372036854775808 1", %pred7, 1
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 9223372036854775808 1", %pred7, 0
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 9223372036854775808 1", %pred7, 0
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 9223372036854775808 1", %pred7, 0
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 9223372036854775808 1", %pred7, 0
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 9223372036854775808 1", %pred7, 1
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 9223372036854775808 1", %pred7, 1
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 9223372036854775808 1", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 9223372036854775808 1", %pred7, 1
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 9223372036854775808 1", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 9223372036854775808 1", %pred7, 1
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 9223372036854775808 1", %pred7, 1
        addd 0, 0x0, %r10
        addd 0, 0x0, %r11
        cmpodb %r10, %r11, %pred7
    CHECK_PRED "cmpodb 0 0", %pred7, 0
        cmpbdb %r10, %r11, %pred7
    CHECK_PRED "cmpbdb 0 0", %pred7, 0
        cmpedb %r10, %r11, %pred7
    CHECK_PRED "cmpedb 0 0", %pred7, 1
        cmpbedb %r10, %r11, %pred7
    CHECK_PRED "cmpbedb 0 0", %pred7, 1
        cmpsdb %r10, %r11, %pred7
    CHECK_PRED "cmpsdb 0 0", %pred7, 0
        cmppdb %r10, %r11, %pred7
    CHECK_PRED "cmppdb 0 0", %pred7, 1
        cmpldb %r10, %r11, %pred7
    CHECK_PRED "cmpldb 0 0", %pred7, 0
        cmpledb %r10, %r11, %pred7
    CHECK_PRED "cmpledb 0 0", %pred7, 1
        cmpandedb %r10, %r11, %pred7
    CHECK_PRED "cmpandedb 0 0", %pred7, 1
        cmpandsdb %r10, %r11, %pred7
    CHECK_PRED "cmpandsdb 0 0", %pred7, 0
        cmpandpdb %r10, %r11, %pred7
    CHECK_PRED "cmpandpdb 0 0", %pred7, 1
        cmpandledb %r10, %r11, %pred7
    CHECK_PRED "cmpandledb 0 0", %pred7, 1
        addd 0, 0xabc0080000000, %r10
        addd 0, 0x1, %r11
        cmpbsb %r10, %r11, %pred7
    CHECK_PRED "cmpbsb 0x80000000 0x1", %pred7, 0
        cmpesb %r10, %r11, %pred7
    CHECK_PRED "cmpesb 0x80000000 0x1", %pred7, 0
        cmplsb %r10, %r11, %pred7
    CHECK_PRED "cmplsb 0x80000000 0x1", %pred7, 1
        cmplesb %r10, %r11, %pred7
    CHECK_PRED "cmplesb 0x80000000 0x1", %pred7, 1
        cmpandesb %r10, %r11, %pred7
    CHECK_PRED "cmpandesb 0x80000000 0x1", %pred7, 1
        addd 0, 0xabc0000000001, %r10
        addd 0, 0x80000000, %r11
        cmpbsb %r10, %r11, %pred7
    CHECK_PRED "cmpbsb 0x1 0x80000000", %pred7, 1
        cmpesb %r10, %r11, %pred7
    CHECK_PRED "cmpesb 0x1 0x80000000", %pred7, 0
        cmplsb %r10, %r11, %pred7
    CHECK_PRED "cmplsb 0x1 0x80000000", %pred7, 0
        cmplesb %r10, %r11, %pred7
    CHECK_PRED "cmplesb 0x1 0x80000000", %pred7, 0
        cmpandesb %r10, %r11, %pred7
    CHECK_PRED "cmpandesb 0x1 0x80000000", %pred7, 1
        addd 0, 0xabc00ffffffff, %r10
        addd 0, 0x0, %r11
        cmpbsb %r10, %r11, %pred7
    CHECK_PRED "cmpbsb 0xffffffff 0x0", %pred7, 0
        cmpesb %r10, %r11, %pred7
    CHECK_PRED "cmpesb 0xffffffff 0x0", %pred7, 0
        cmplsb %r10, %r11, %pred7
    CHECK_PRED "cmplsb 0xffffffff 0x0", %pred7, 1
        cmplesb %r10, %r11, %pred7
    CHECK_PRED "cmplesb 0xffffffff 0x0", %pred7, 1
        cmpandesb %r10, %r11, %pred7
    CHECK_PRED "cmpandesb 0xffffffff 0x0", %pred7, 1
        addd 0, 0xabc0000000007, %r10
        addd 0, 0x7, %r11
        cmpbsb %r10, %r11, %pred7
    CHECK_PRED "cmpbsb 0x7 0x7", %pred7, 0
        cmpesb %r10, %r11, %pred7
    CHECK_PRED "cmpesb 0x7 0x7", %pred7, 1
        cmplsb %r10, %r11, %pred7
    CHECK_PRED "cmplsb 0x7 0x7", %pred7, 0
        cmplesb %r10, %r11, %pred7
    CHECK_PRED "cmplesb 0x7 0x7", %pred7, 1
        cmpandesb %r10, %r11, %pred7
    CHECK_PRED "cmpandesb 0x7 0x7", %pred7, 0
    // conditional operations: true, false, inverted; the condition is that before the wide instruction
        addd 0, 1, %r10
    {
        nop 2
        cmpedb %r10, 1, %pred0
        cmpedb %r10, 2, %pred1
        addd 0, 100, %r20
        addd 0, 100, %r21
        addd 0, 100, %r22
        addd 0, 100, %r23
    }
    {
        addd %r20, 1, %r20 ? %pred0
        addd %r21, 1, %r21 ? %pred1
        addd %r22, 1, %r22 ? ~%pred0
        addd %r23, 1, %r23 ? ~%pred1
    }
    CHECK "condition true", %r20, 101
    CHECK "condition false", %r21, 100
    CHECK "inverted true", %r22, 100
    CHECK "inverted false", %r23, 101
    // merges
        addd 0, 0x1111, %r10
        addd 0, 0x2222, %r11
    {
        nop 2
        cmpedb 0, 0, %pred0
        cmpedb 0, 1, %pred1
    }
        merged %r10, %r11, %r20, %pred0
        merged %r10, %r11, %r21, %pred1
        merged %r10, %r11, %r22, ~%pred1
    CHECK "merge true", %r20, 0x2222
    CHECK "merge false", %r21, 0x1111
    CHECK "merge inverted", %r22, 0x2222
    {
        nop 2
        cmpedb 0, 1, %pred0
        cmpedb 0, 1, %pred1
        cmpedb 0, 0, %pred5
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        andp @p0, @p1, @p4
        landp @p0, ~@p4, @p5
        pass @p4, %pred2
        pass @p5, %pred3
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        landp ~@p0, ~@p1, @p4
        pass @p4, %pred4
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        movep @p0, @p1, @p4
        pass @p4, %pred5
    }
    CHECK_PRED "and 0 0", %pred2, 0
    CHECK_PRED "a and not (a and b) 0 0", %pred3, 0
    CHECK_PRED "nor 0 0", %pred4, 1
    CHECK_PRED "movep 0 0", %pred5, 1
    {
        nop 2
        cmpedb 0, 1, %pred0
        cmpedb 0, 0, %pred1
        cmpedb 0, 0, %pred5
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        andp @p0, @p1, @p4
        landp @p0, ~@p4, @p5
        pass @p4, %pred2
        pass @p5, %pred3
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        landp ~@p0, ~@p1, @p4
        pass @p4, %pred4
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        movep @p0, @p1, @p4
        pass @p4, %pred5
    }
    CHECK_PRED "and 0 1", %pred2, 0
    CHECK_PRED "a and not (a and b) 0 1", %pred3, 0
    CHECK_PRED "nor 0 1", %pred4, 0
    CHECK_PRED "movep 0 1", %pred5, 1
    {
        nop 2
        cmpedb 0, 0, %pred0
        cmpedb 0, 1, %pred1
        cmpedb 0, 0, %pred5
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        andp @p0, @p1, @p4
        landp @p0, ~@p4, @p5
        pass @p4, %pred2
        pass @p5, %pred3
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        landp ~@p0, ~@p1, @p4
        pass @p4, %pred4
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        movep @p0, @p1, @p4
        pass @p4, %pred5
    }
    CHECK_PRED "and 1 0", %pred2, 0
    CHECK_PRED "a and not (a and b) 1 0", %pred3, 1
    CHECK_PRED "nor 1 0", %pred4, 0
    CHECK_PRED "movep 1 0", %pred5, 0
    {
        nop 2
        cmpedb 0, 0, %pred0
        cmpedb 0, 0, %pred1
        cmpedb 0, 0, %pred5
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        andp @p0, @p1, @p4
        landp @p0, ~@p4, @p5
        pass @p4, %pred2
        pass @p5, %pred3
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        landp ~@p0, ~@p1, @p4
        pass @p4, %pred4
    }
    {
        nop 2
        pass %pred0, @p0
        pass %pred1, @p1
        movep @p0, @p1, @p4
        pass @p4, %pred5
    }
    CHECK_PRED "and 1 1", %pred2, 1
    CHECK_PRED "a and not (a and b) 1 1", %pred3, 0
    CHECK_PRED "nor 1 1", %pred4, 0
    CHECK_PRED "movep 1 1", %pred5, 1
    // branches on predicates
        addd 0, 0, %r20
        cmpedb 0, 0, %pred0
        ibranch .Ltaken ? %pred0
        addd 0, 1, %r20
.Ltaken:
        ibranch .Lnot_taken ? ~%pred0
        addd %r20, 2, %r20
.Lnot_taken:
    CHECK "branches", %r20, 2
    END_TEST
