// Quotients and remainders: 64 by 32 bits unsigned and signed, then 32 by 32, then 64 by 64.
    BEGIN
loop:
    ROW8
    TO "udivx,5 %dr1, %r2, %r10"
    TO "umodx,5 %dr1, %r2, %r10"
    TO "sdivx,5 %dr3, %r4, %r10"
    TO "smodx,5 %dr3, %r4, %r10"
    TO "udivs,5 %r5, %r6, %r10"
    TO "sdivs,5 %r5, %r6, %r10"
    TO "udivd,5 %dr7, %dr8, %dr10"
    TO "sdivd,5 %dr7, %dr8, %dr10"
    NEXT loop, 64
    END
