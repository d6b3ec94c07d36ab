// Fused multiply and add (from v6 on).
    // the result, and PFPFR, which starts as %r4
    .macro TF text
    { addd,0 0, %dr9, %dr10
      addd,1 0, 0, %dr11 }
    { nop 5
      rws,0 %r4, %pfpfr }
    { nop 7
      \text }
    { rrs,0 %pfpfr, %r11 }
    IS %dr10
    IS %dr11
    .endm

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
