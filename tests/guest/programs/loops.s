// The loop hardware: counters, epilogue and prologue, rotation of %b, %g and predicates.
    .macro COUNT lsr
    { disp %ctpr2, 1f
      addd,0 0, 0, %dr10 }
    { nop 7
      rwd,0 \lsr, %lsr }
1:
    { addd,0 %dr10, 1, %dr10
      alc alcf=1, alct=1
      ct %ctpr2 ? %NOT_LOOP_END }
    .endm
    .macro TTURNS lsr
    COUNT \lsr
    IS %dr10
    .endm

    BEGIN
    TTURNS "0x2000000000"
    TTURNS "0x2000000001"
    TTURNS "0x2000000002"
    TTURNS "0x2000000007"
    TTURNS "0x2200000008"
    TTURNS "0x2800000000"
    TTURNS "0x2800000003"
    TTURNS "0x2000010000"

    // a pipelined loop of three stages, load, multiply, store: %b rotates, stores wait for the prologue, and the
    // last turn stores because the remainder has a store
    { setbn rbs=16, rsz=3, rcur=0
      disp %ctpr2, pipeline
      addd,0 0, input, %dr1
      addd,1 0, output, %dr2 }
    { nop 7
      rwd,0 (1 << 53) | (2 << 48) | (1 << 37) | (2 << 32) | 10, %lsr }
    { addd,0 0, 0, %db[0]
      addd,1 0, 0, %db[2]
      addd,2 0, 0, %db[4]
      addd,3 0, 0, %db[6] }
pipeline:
    { loop_mode
      alc alcf=1, alct=1
      abn abnf=1, abnt=1
      ct %ctpr2 ? %NOT_LOOP_END
      ldd,0,sm [ %dr1 + 0 ], %db[0]
      addd,1 %dr1, 8, %dr1
      std,2 %db[4], [ %dr2 + 0 ]
      muld,4,sm %db[2], 3, %db[2]
      addd,3 %dr2, 8, %dr2 ? %pcnt0 }
    { nop 4
      rrd,0 %lsr, %dr10 }
    { nop 4
      ldd,0 [ 0 + output ], %dr11 }
    TIS "stored 0", %dr11
    { nop 4
      ldd,0 [ 8 + output ], %dr11 }
    TIS "stored 1", %dr11
    { nop 4
      ldd,0 [ 16 + output ], %dr11 }
    TIS "stored 2", %dr11
    { nop 4
      ldd,0 [ 24 + output ], %dr11 }
    TIS "stored 3", %dr11
    { nop 4
      ldd,0 [ 32 + output ], %dr11 }
    TIS "stored 4", %dr11
    { nop 4
      ldd,0 [ 40 + output ], %dr11 }
    TIS "stored 5", %dr11
    { nop 4
      ldd,0 [ 48 + output ], %dr11 }
    TIS "stored 6", %dr11
    { nop 4
      ldd,0 [ 56 + output ], %dr11 }
    TIS "stored 7", %dr11
    { nop 4
      ldd,0 [ 64 + output ], %dr11 }
    TIS "stored 8", %dr11
    { nop 4
      ldd,0 [ 72 + output ], %dr11 }
    TIS "stored 9", %dr11
    { nop 4
      ldd,0 [ 80 + output ], %dr11 }
    TIS "stored 10", %dr11
    TIS "lsr behind the loop", %dr10

    // %b[n] of one turn is %b[n + 2] of the next, around the area
    { setbn rbs=16, rsz=2, rcur=0 }
    { addd,0 0, 10, %db[0]
      addd,1 0, 12, %db[2]
      addd,2 0, 14, %db[4] }
    { abn abnf=1, abnt=1 }
    TIS "b0 after abn", %db[0]
    TIS "b2 after abn", %db[2]
    TIS "b4 after abn", %db[4]
    TIS "the same register", %dr32
    { abn abnf=1, abnt=1 }
    { abn abnf=1, abnt=1 }
    TIS "b0 after three", %db[0]
    { setbn rbs=24, rsz=7, rcur=0 }

    // predicates 0..3 rotate, others stay
    { setbp psz=3 }
    { cmpedb,0 0, 0, %pred0
      cmpedb,1 0, 1, %pred1
      cmpedb,3 0, 1, %pred2
      cmpedb,4 0, 1, %pred3 }
    { nop 2
      cmpedb,0 0, 0, %pred4 }
    { abp abpf=1, abpt=1 }
    TPRED "pred0 after abp", %pred0
    TPRED "pred1 after abp", %pred1
    TPRED "pred4 after abp", %pred4
    { abp abpf=1, abpt=1 }
    TPRED "pred2 after two", %pred2
    { abp abpf=1, abpt=1 }
    { abp abpf=1, abpt=1 }
    TPRED "pred0 after four", %pred0
    { setbp psz=0 }

    // global registers 24..31 rotate
    { nop 5
      rwd,0 0xff, %bgr }
    { addd,0 0, 24, %dg24
      addd,1 0, 31, %dg31 }
    { abg 2 }
    TIS "g31 after abgi", %dg31
    TIS "g30 after abgi", %dg30
    { abg 1 }
    TIS "g24 after both", %dg24
    { abg 1 }
    TIS "g24 after abgd", %dg24

    // alc follows the condition of the transfer
    { nop 7
      rwd,0 (1 << 37) | 5, %lsr
      disp %ctpr2, taken }
    { nop 2
      cmpedb,0 0, 0, %pred2 }
    { alc alcf=1, alct=0
      ct %ctpr2 ? %pred2 }
taken:
    { nop 4
      rrd,0 %lsr, %dr10 }
    TIS "alcf and a true condition", %dr10
    { disp %ctpr2, taken2
      nop 5 }
    { alc alcf=0, alct=1
      ct %ctpr2 ? %pred2 }
taken2:
    { nop 4
      rrd,0 %lsr, %dr10 }
    TIS "alct and a true condition", %dr10
    { disp %ctpr2, fail
      nop 5 }
    { alc alcf=1, alct=0
      ct %ctpr2 ? ~%pred2 }
    { nop 4
      rrd,0 %lsr, %dr10 }
    TIS "alcf and a false condition", %dr10
    // the counters as predicates
    { nop 7
      rwd,0 (2 << 48) | (1 << 37) | 1, %lsr }
    { addd,0 0, 0, %dr10
      addd,1 0, 0, %dr11
      addd,2 0, 0, %dr12 }
    { addd,0 0, 1, %dr10 ? %pcnt1
      addd,1 0, 1, %dr11 ? %pcnt2
      addd,3 0, 1, %dr12 ? ~%pcnt1 }
    TIS "pcnt1 of 2", %dr10
    TIS "pcnt2 of 2", %dr11
    TIS "not pcnt1 of 2", %dr12
    { pass %lcntex, @p0
      landp @p0, @p0, @p4
      pass @p4, %pred5 }
    { nop 7
      alc alcf=1, alct=1 }
    { pass %lcntex, @p0
      landp @p0, @p0, @p4
      pass @p4, %pred6 }
    { nop 2 }
    TPRED "lcntex of 1", %pred5
    TPRED "lcntex of 0", %pred6
    END
    .data
    .align 16
input: .quad 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
output: .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .text
