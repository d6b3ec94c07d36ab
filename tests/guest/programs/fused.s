// Fused multiply and add (from v6 on).
    BEGIN
loop:
    ROW8
    TF "fmad %dr1, %dr2, %dr3, %dr10"
    TF "fmas %r5, %r6, %r7, %r10"
    TF "fmsd %dr1, %dr2, %dr3, %dr10"
    TF "fmss %r5, %r6, %r7, %r10"
    TF "fnmad %dr1, %dr2, %dr3, %dr10"
    TF "fnmas %r5, %r6, %r7, %r10"
    TF "fnmsd %dr1, %dr2, %dr3, %dr10"
    TF "fnmss %r5, %r6, %r7, %r10"
    NEXT loop, 64
    END
