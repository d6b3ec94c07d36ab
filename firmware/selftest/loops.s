// Loops: counters in %lsr, rotation of %b registers and predicates, epilogues.
#include "selftest.inc"
    TEST loops

#define VLC (1 << 37)

    // alc and ct in one wide instruction: how often the body runs for (lcnt, ecnt)
.macro COUNTED lcnt, ecnt, expected
        addd 0, \lcnt | \ecnt << 32 | VLC, %r10
        rwd %r10, %lsr
    {
        nop 4
        disp %ctpr1, .Lcounted\@
        addd 0, 0, %r20
    }
.Lcounted\@:
    {
        addd %r20, 1, %r20
        alc alcf=1, alct=1
        ct %ctpr1 ? %NOT_LOOP_END
    }
    CHECK "loop \lcnt \ecnt", %r20, \expected
.endm
    COUNTED 1, 0, 1
    COUNTED 2, 0, 2
    COUNTED 3, 0, 3
    COUNTED 8, 0, 8
    COUNTED 8, 2, 10
    COUNTED 0, 8, 9

    // a compare as the end, and a sum
        addd 0, 0, %r20
    {
        nop 4
        disp %ctpr1, .Lsum
        addd 0, 1, %r21
    }
.Lsum:
    {
        nop 2
        addd %r20, %r21, %r20
        addd %r21, 1, %r21
        cmpldb %r21, 100, %pred0
    }
        ct %ctpr1 ? %pred0
    CHECK "sum to 100", %r20, 5050

    // rotation: what was %b[0] is %b[2] after abn
        setbn rsz=3, rbs=16, rcur=0
    {
        addd 0, 10, %b[0]
        addd 0, 11, %b[1]
        addd 0, 12, %b[2]
        addd 0, 13, %b[3]
    }
        abn abnf=1, abnt=1
        addd %b[2], 0, %r20
        addd %b[3], 0, %r21
        addd %b[4], 0, %r22
        setbn rsz=7, rbs=24, rcur=0
    CHECK "rotated 0 to 2", %r20, 10
    CHECK "rotated 1 to 3", %r21, 11
    CHECK "rotated 2 to 4", %r22, 12

    // the same storage under two names: %b[0] with rbs=16 is %r32
        setbn rsz=3, rbs=16, rcur=0
        addd 0, 77, %b[0]
        addd %r32, 0, %r20
        setbn rsz=7, rbs=24, rcur=0
    CHECK "b and r overlap", %r20, 77

    // a pipeline of two stages: squares of 1..8 are summed one turn after they were made
        setbn rsz=3, rbs=16, rcur=0
        addd 0, 8 | VLC | 1 << 32, %r10
        rwd %r10, %lsr
    {
        addd 0, 1, %r21
        addd 0, 0, %r20
        addd 0, 0, %b[0]
        addd 0, 0, %b[2]
    }
    {
        nop 4
        disp %ctpr1, .Lpipeline
    }
.Lpipeline:
    {
        muld,0 %r21, %r21, %b[0]
        addd,1 %r21, 1, %r21
        addd,2 %r20, %b[2], %r20
        alc alcf=1, alct=1
        abn abnf=1, abnt=1
        ct %ctpr1 ? %NOT_LOOP_END
    }
        setbn rsz=7, rbs=24, rcur=0
    CHECK "pipeline", %r20, 204

    // rotation of predicates: what was %pred0 is %pred1 after abp
        setbp psz=3
    {
        nop 2
        cmpedb 0, 0, %pred0
        cmpedb 0, 1, %pred1
        cmpedb 0, 0, %pred2
    }
    {
        nop 2
        abp abpf=1, abpt=1
    }
    {
        addd 0, 0, %r20
        addd 0, 0, %r21
        addd 0, 0, %r22
    }
    {
        addd 0, 1, %r20 ? %pred1
        addd 0, 1, %r21 ? %pred2
        addd 0, 1, %r22 ? %pred3
    }
        setbp psz=0
    CHECK "predicate 0 to 1", %r20, 1
    CHECK "predicate 1 to 2", %r21, 0
    CHECK "predicate 2 to 3", %r22, 1
    END_TEST
