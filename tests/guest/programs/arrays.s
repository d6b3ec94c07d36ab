// The array access unit: a prefetch program, mova of all sizes, array stores with steps, its registers.
    BEGIN
    // a sum over 16 bytes, halves, words, doubles: four programs
    .macro TSUM op, program
    { ldisp %ctpr2, \program }
    { disp %ctpr1, 1f
      addd,0 0, input, %dr1
      addd,1 0, 0, %dr10
      addd,2 0, 0, %dr11 }
    { nop 7
      rwd,0 (1 << 37) | 8, %lsr }
    { nop 4
      aaurwd,2 %dr1, %aad0 }
    { bap }
1:
    { alc alcf=1, alct=1
      ct %ctpr1 ? %NOT_LOOP_END
      addd,0 %dr10, %dr11, %dr10
      \op,0 area=0, ind=0, am=1, be=0, %r11 }
    { eap }
    { addd,0 %dr10, %dr11, %dr10 }
    IS %dr10
    .endm
    TSUM movab, bytes
    TSUM movah, halves
    TSUM movaw, words
    TSUM movad, doubles
    // a step of two elements, through %aaincr, and a start at %aaind
    { ldisp %ctpr2, stepped
      addd,0 0, input, %dr1
      addd,1 0, 2, %dr2
      addd,2 0, 8, %dr3 }
    { aaurwd,2 %dr1, %aad0
      aaurw,5 %r2, %aaincr2 }
    { nop 4
      aaurwd,2 %dr3, %aaind1 }
    { bap }
    { movad,0 area=0, ind=0, am=1, be=0, %r10
      movad,1 area=0, ind=8, am=1, be=0, %r11 }
    { movad,0 area=0, ind=0, am=1, be=0, %r12 }
    { eap }
    TIS first, %dr10
    TIS beside, %dr11
    TIS stepped, %dr12
    // an element narrower than asked for is diagnostic
    { ldisp %ctpr2, bytes
      nop 5 }
    { bap }
    { movad,0 area=0, ind=0, am=1, be=0, %r10 }
    { eap }
    TTAG narrow, %dr10
    // stores by descriptor: the index steps when asked to
    { addd,0 0, output, %dr4
      addd,1 0, 0, %dr5
      addd,2 0, 0x1111, %dr6
      addd,3 0, 0x2222, %dr7 }
    { aaurwd,2 %dr4, %aad3
      aaurwd,5 %dr5, %aasti1 }
    { staad,2 %dr6, %aad3 [ %aasti1 ]
      incr,2 %aaincr0 }
    { staad,2 %dr7, %aad3 [ %aasti1 + 8 ] }
    { staah,2 %r6, %aad3 [ %aasti1 ]
      incr,2 %aaincr0 }
    { nop 4
      ldd,0 [ %dr4 + 0 ], %dr10
      ldd,2 [ %dr4 + 8 ], %dr11
      ldd,3 [ %dr4 + 16 ], %dr12 }
    TIS "stored", %dr10
    TIS "stored half", %dr11
    TIS "stored beyond", %dr12
    { nop 4
      aaurrd,5 %aasti1, %dr10 }
    TIS "index", %dr10
    { ldaad,2 %aad3 [ %aasti1 ], %dr10 }
    TIS "loaded by descriptor", %dr10
    END
    .align 8
bytes:
    { fapb ct=1, dcd=0, fmt=1, mrng=1, d=0, incr=0, ind=0, asz=1, abs=0, disp=0 }
halves:
    { fapb ct=1, dcd=0, fmt=2, mrng=2, d=0, incr=0, ind=0, asz=1, abs=0, disp=0 }
words:
    { fapb ct=1, dcd=0, fmt=3, mrng=4, d=0, incr=0, ind=0, asz=1, abs=0, disp=0 }
doubles:
    { fapb ct=1, dcd=0, fmt=4, mrng=8, d=0, incr=0, ind=0, asz=1, abs=0, disp=0 }
stepped:
    { fapb ct=1, dcd=0, fmt=4, mrng=16, d=0, incr=2, ind=1, asz=5, abs=0, disp=8 }
    .data
    .align 16
input: .quad 0x8877665544332211, 0x1020304050607080, 3, 4, 5, 6, 7, 8
output: .quad 0, 0, 0xffffffffffffffff, 0
    .text
