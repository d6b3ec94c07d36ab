// Speculative operations: loads that fault, what becomes of diagnostic values, conditions that are diagnostic.
    BEGIN
    { addd,0 0, 0x4000000000000, %dr1
      addd,1 0, 1, %dr2 }
    // a load without memory
    { nop 4
      ldd,0,sm [ %dr1 + 0 ], %dr3
      ldw,2,sm [ %dr1 + 4 ], %dr4
      ldb,3,sm [ %dr1 + 1 ], %dr5
      ldd,5,sm [ 0 + cell ], %dr6 }
    TTAG "ldd", %dr3
    TRAW "ldd", %dr3
    TTAG "ldw", %dr4
    TTAG "ldb", %dr5
    TTAG "a load that has memory", %dr6
    TIS "a load that has memory", %dr6
    // it spreads through operations of all kinds
    { addd,0,sm %dr3, 1, %dr10 }
    TTAG "addd", %dr10
    { nop 4
      muld,0,sm %dr2, %dr3, %dr10 }
    TTAG "muld", %dr10
    { nop 7
      faddd,0,sm %dr3, %dr2, %dr10 }
    TTAG "faddd", %dr10
    { nop 2
      paddh,0,sm %dr2, %dr3, %dr10 }
    TTAG "paddh", %dr10
    { shl_addd,1,sm %dr2, %dr3, %dr2, %dr10 }
    TTAG "shl_addd", %dr10
    { nop 4
      ldd,0,sm [ %dr3 + 0 ], %dr10 }
    TTAG "a load from a diagnostic address", %dr10
    { addd,0 0, 0, %dr10 }
    { adds,0,sm %r3, 1, %r10 }
    TTAG "adds", %dr10
    // a division by 0
    { nop 7
      udivd,5,sm %dr2, 0, %dr10 }
    TTAG "udivd", %dr10
    // not speculative, but neither used
    { addd,0 %dr2, 2, %dr10 }
    TTAG "addd of numbers", %dr10
    // a compare gives a diagnostic predicate
    { nop 2
      cmpedb,0,sm %dr3, 0, %pred5
      cmpedb,1 0, 0, %pred6
      cmpedb,3 0, 1, %pred7 }
    TDIAG "compared", %pred5
    { addd,0 0, 7, %dr10 }
    { addd,0,sm 0, 8, %dr10 ? %pred5 }
    TTAG "under a diagnostic condition", %dr10
    TRAW "under a diagnostic condition", %dr10
    // predicate logic: false and then does not look, true and then does
    { pass %pred7, @p0
      pass %pred5, @p1
      landp @p0, @p1, @p4
      andp @p0, @p1, @p5
      pass @p4, %pred8
      pass @p5, %pred9 }
    { nop 2 }
    TPRED "false landp diagnostic", %pred8
    TDIAG "false landp diagnostic", %pred8
    TDIAG "false andp diagnostic", %pred9
    { pass %pred6, @p0
      pass %pred5, @p1
      landp @p0, @p1, @p4
      pass @p4, %pred8 }
    { nop 2 }
    TDIAG "true landp diagnostic", %pred8
    { nop 2
      cmpedb,0 0, 0, %pred8 }
    { pass %pred7, @p0
      pass %pred5, @p1
      movep @p0, @p1, @p4
      pass @p4, %pred8 }
    { nop 2 }
    TPRED "movep that moves nothing", %pred8
    // what is not chosen does not matter
    { merged,0,sm %dr3, %dr2, %dr10, %pred6 }
    TIS "merge of the number", %dr10
    { merged,0,sm %dr3, %dr2, %dr10, %pred7 }
    TTAG "merge of the other", %dr10
    // a false condition: nothing happens to a diagnostic operand
    { addd,0 0, 9, %dr10 }
    { addd,0 %dr3, 0, %dr10 ? %pred7 }
    TIS "under a false condition", %dr10
    // speculative stores: no memory, no store
    { std,2,sm %dr2, [ %dr1 + 0 ] }
    { std,2,sm %dr2, [ 0 + cell ] }
    { nop 4
      ldd,0 [ 0 + cell ], %dr10 }
    TIS "std,sm", %dr10
    END
    .data
    .align 8
cell: .quad 0x1020304050607080
    .text
