// Merges: the second source where the condition holds. %pred2 is: the low bit of %dr3 is 0.
    BEGIN
loop:
    ROW
    { nop 2
      cmpandedb,0 %dr3, 1, %pred2 }
    TO "merged %dr1, %dr2, %dr10, %pred2"
    TO "merged %dr1, %dr2, %dr10, ~%pred2"
    TO "merges %r1, %r2, %r10, %pred2"
    TO "merges %r1, %r2, %r10, ~%pred2"
    TO "merged %dr1, 5, %dr10, %pred2"
    { ldd,0,sm [ 0 + 0x4000000000000 ], %dr12 }
    // what is not chosen may be diagnostic
    { nop 2
      cmpedb,0 0, 0, %pred3 }
    TO "merged %dr12, %dr2, %dr10, %pred3"
    TO "merged %dr1, %dr12, %dr10, ~%pred3"
    NEXT loop, 32
    END
