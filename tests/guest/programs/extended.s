// 80 bits: %dr12 and %dr13 are made from significands and exponents; %r5 is FPCR, %dr6 a double, %r7 a single, %dr8 an integer.
    .macro TX text
    { addd,0 0, %dr9, %dr10
      addd,1 0, 0, %dr11
      addd,2 0, 0, %dr14 }
    { nop 5
      rws,0 0, %fpsr }
    { nop 7
      \text }
    { rrs,0 %fpsr, %r14
      movfi,1 %dr10, %r11 }
    IS %dr10
    IS %dr11
    IS %dr14
    .endm
    // to a register without extension
    .macro TXN text
    { addd,0 0, %dr9, %dr10
      addd,1 0, 0, %dr11
      addd,2 0, 0, %dr14 }
    { nop 5
      rws,0 0, %fpsr }
    { nop 7
      \text }
    { rrs,0 %fpsr, %r14 }
    IS %dr10
    IS %dr11
    IS %dr14
    .endm
    .macro TXP text
    { cmpedb,0 0, 1, %pred0
      cmpedb,1 0, 0, %pred1
      addd,2 0, 0, %dr10
      addd,3 0, 0, %dr11
      addd,4 0, 0, %dr14 }
    { nop 5
      rws,0 0, %fpsr }
    { nop 4
      \text, %pred0 }
    { nop 4
      \text, %pred1 }
    { addd,1 %dr10, 1, %dr10 ? %pred0
      rrs,0 %fpsr, %r14 }
    { addd,0 %dr10, 2, %dr10 ? %pred1 }
    IS %dr10
    IS %dr11
    IS %dr14
    .endm

    BEGIN
loop:
    ROW8
    { nop 5
      rws,0 %r5, %fpcr }
    { movif,1 %dr1, %r2, %dr12
      movif,4 %dr3, %r4, %dr13 }
    TX "fxaddxx %dr12, %dr13, %dr10"
    TX "fxadddx %dr12, %dr6, %dr10"
    TX "fxaddsx %dr12, %r7, %dr10"
    TX "fxsubxx %dr12, %dr13, %dr10"
    TX "fxsubdx %dr12, %dr6, %dr10"
    TX "fxsubsx %dr12, %r7, %dr10"
    TX "fxmulxx %dr12, %dr13, %dr10"
    TX "fxmuldx %dr12, %dr6, %dr10"
    TX "fxmulsx %dr12, %r7, %dr10"
    TX "fxdivxx %dr12, %dr13, %dr10"
    TX "fxdivdx %dr12, %dr6, %dr10"
    TX "fxdivsx %dr12, %r7, %dr10"
    TX "fxsqrttxx,5 %dr12, %dr12, %dr10"
    TXP "fxcmpeqxb %dr12, %dr13"
    TXP "fxcmpltxb %dr12, %dr13"
    TXP "fxcmplexb %dr12, %dr13"
    TXP "fxcmpuodxb %dr12, %dr13"
    TXP "fxcmpneqxb %dr12, %dr13"
    TXP "fxcmpnltxb %dr12, %dr13"
    TXP "fxcmpnlexb %dr12, %dr13"
    TXP "fxcmpodxb %dr12, %dr13"
    TXN "fxtofd %dr12, %dr10"
    TXN "fxtofs %dr12, %r10"
    TXN "fxtoid %dr12, %dr10"
    TXN "fxtoidtr %dr12, %dr10"
    TXN "fxtois %dr12, %r10"
    TXN "fxtoistr %dr12, %r10"
    TX "fstofx %r7, %dr10"
    TX "fdtofx %dr6, %dr10"
    TX "istofx %r8, %dr10"
    TX "idtofx %dr8, %dr10"
    NEXT loop, 64
    END
