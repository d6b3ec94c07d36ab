// Pairs and 128-bit registers in memory, stores under a mask, locked sequences of v5.
    BEGIN
    { addd,0 0, buffer, %dr3
      addd,1 0, bytes, %dr1
      addd,2 0, 0, %dr8 }
loop:
    { ldd,0 [ %dg18 + 0 ], %dr4
      ldd,2 [ %dg18 + 8 ], %dr5
      ldd,3 [ %dg18 + 16 ], %dr6 }
    // loaded from any address, stored to any address
    { nop 4
      ldqp,0 [ %dr1 + %dr4 ], %qpr12 }
    { stqp,2 %qpr12, [ %dr3 + %dr4 ] }
    { addd,0 %dr3, %dr4, %dr7 }
    { nop 4
      ldd,0 [ %dr7 + 0 ], %dr10
      ldd,2 [ %dr7 + 8 ], %dr11 }
    TIS "low half", %dr10
    TIS "high half", %dr11
    // a pair of registers
    { nop 4
      ldq,0 [ %dr1 + 0 ], %qr12 }
    TIS "first of a pair", %dr12
    TIS "second of a pair", %dr13
    { addd,0 0, %dr5, %dr12
      addd,1 0, %dr6, %dr13 }
    { stq,2 %qr12, [ %dr3 + 32 ] }
    { nop 4
      ldd,0 [ %dr3 + 32 ], %dr10
      ldd,2 [ %dr3 + 40 ], %dr11 }
    TIS "first stored", %dr10
    TIS "second stored", %dr11
    // bytes chosen by a mask
    { qppackdl,1 %dr5, %dr6, %qpr12
      std,2 %dr8, [ %dr3 + 48 ]
      std,5 %dr8, [ %dr3 + 56 ]
      addd,0 %dr3, 48, %dr7 }
    { stmqp,2 %qpr12, [ %dr7 + %dr5 ] }
    { nop 4
      ldd,0 [ %dr3 + 48 ], %dr10
      ldd,2 [ %dr3 + 56 ], %dr11 }
    TIS "chosen low", %dr10
    TIS "chosen high", %dr11
    // a locked addition whose store unlocks
    { std,2 %dr5, [ %dr3 + 0 ] }
retry:
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr10, mas=7 }
    { addd,0 %dr10, %dr6, %dr10 }
    { std,2 %dr10, [ %dr3 + 0 ], mas=5
      rbranch retry }
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr11 }
    TIS "locked sum", %dr11
    NEXT loop, 32
    END
    .data
    .align 16
bytes: .quad 0x8877665544332211, 0x00ffeeddccbbaa99, 0x1020304050607080, 0x0123456789abcdef
buffer: .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .text
