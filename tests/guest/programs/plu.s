// The predicate logic unit. %pred2 %pred3 %pred4 are bits 0, 1, 2 of %dr1; %pred5 to %pred7 get the results.
    .macro TPLU text
    { cmpandedb,0 %dr1, 8, %pred5
      cmpandedb,1 %dr1, 8, %pred6
      cmpandedb,3 %dr1, 8, %pred7 }
    { nop 2
      addd,0 0, 0, %dr10 }
    { nop 1
      \text }
    { addd,0 %dr10, 1, %dr10 ? %pred5 }
    { addd,0 %dr10, 2, %dr10 ? %pred6 }
    { addd,0 %dr10, 4, %dr10 ? %pred7 }
    IS %dr10
    .endm

    BEGIN
loop:
    ROW
    { cmpandedb,0 %dr1, 1, %pred2
      cmpandedb,1 %dr1, 2, %pred3
      cmpandedb,3 %dr1, 4, %pred4 }
    { nop 4 }
    { pass %pred2, @p0
      landp ~@p0, ~@p0, @p4
      pass @p4, %pred2 }
    { pass %pred3, @p0
      landp ~@p0, ~@p0, @p4
      pass @p4, %pred3 }
    { pass %pred4, @p0
      landp ~@p0, ~@p0, @p4
      pass @p4, %pred4 }
    TPLU "pass %pred2, @p0; pass %pred3, @p1; andp @p0, @p1, @p4; pass @p4, %pred5"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; andp ~@p0, @p1, @p4; pass @p4, %pred5"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; andp @p0, ~@p1, @p4; pass @p4, %pred6"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; landp @p0, @p1, @p4; pass @p4, %pred5"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; landp ~@p0, ~@p1, @p4; pass @p4, %pred7"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; movep @p0, @p1, @p4; pass @p4, %pred5"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; movep ~@p0, ~@p1, @p4; pass @p4, %pred5"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; pass %pred4, @p2; andp @p0, @p1, @p4; landp @p4, ~@p2, @p5; pass @p4, %pred5; pass @p5, %pred6"
    TPLU "pass %pred2, @p0; pass %pred3, @p1; pass %pred4, @p2; landp @p0, @p1, @p4; movep @p2, ~@p4, @p5; andp ~@p4, ~@p5, @p6; pass @p4, %pred5; pass @p5, %pred6"
    NEXT loop, 32
    END
