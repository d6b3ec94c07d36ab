// Sums with carries and carry-less products.
    BEGIN
loop:
    ROW
    TO "addcd %dr1, %dr2, %r3, %dr10"
    TO "subcd %dr1, %dr2, %r3, %dr10"
    TO "addcd_c %dr1, %dr2, %r3, %dr10"
    TO "subcd_c %dr1, %dr2, %r3, %dr10"
    T2 clmull
    T2 clmulh
    NEXT loop, 32
    END
