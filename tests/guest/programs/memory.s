// Loads and stores of all sizes at all alignments; order within a wide instruction; lock checks, locks, barriers.
    BEGIN
    { addd,0 0, bytes, %dr1
      addd,1 0, 0, %dr2
      addd,2 0, buffer, %dr3 }
loop:
    { ldd,0 [ %dg18 + 0 ], %dr4
      ldd,2 [ %dg18 + 8 ], %dr5 }
    TO "ldb,0 [ %dr1 + %dr4 ], %dr10"
    TO "ldh,2 [ %dr1 + %dr4 ], %dr10"
    TO "ldw,3 [ %dr1 + %dr4 ], %dr10"
    TO "ldd,5 [ %dr1 + %dr4 ], %dr10"
    { std,2 %dr5, [ %dr3 + %dr4 ]
      addd,0 0, 0x77, %dr6 }
    { stb,5 %r6, [ %dr3 + %dr4 ] }
    TO "ldd,0 [ %dr3 + %dr4 ], %dr10"
    { sth,2 %r5, [ %dr3 + %dr4 ] }
    TO "ldd,3 [ %dr3 + %dr4 ], %dr10"
    { stw,5 %r6, [ %dr3 + %dr4 ] }
    TO "ldd,5 [ %dr3 + %dr4 ], %dr10"
    NEXT loop, 32
    // a load sees stores of earlier wide instructions only; of two stores the later channel wins
    { addd,0 0, 1, %dr4
      addd,1 0, 2, %dr5 }
    { std,2 %dr4, [ %dr3 + 0 ] }
    { nop 4
      std,2 %dr5, [ %dr3 + 0 ]
      ldd,0 [ %dr3 + 0 ], %dr10 }
    TIS "a load beside a store", %dr10
    { std,2 %dr4, [ %dr3 + 0 ]
      std,5 %dr5, [ %dr3 + 0 ] }
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr10 }
    TIS "two stores", %dr10
    // an advanced load is checked: a store between is seen
    { nop 4
      ldd,0,sm [ %dr3 + 0 ], %dr10, mas=4 }
    { std,2 %dr4, [ %dr3 + 0 ] }
    { addd,0 0, 0, %dr11
      nop 4 }
    { ldd,2 [ %dr3 + 0 ], %dr10, mas=3
      rbranch conflict }
    { addd,0 %dr11, 1, %dr11 }
conflict:
    TIS "checked load", %dr10
    TIS "the check branches", %dr11
    // without a store it is not
    { nop 4
      ldd,0,sm [ %dr3 + 0 ], %dr10, mas=4 }
    { addd,0 0, 0, %dr11 }
    { std,2 %dr5, [ %dr3 + 64 ] }
    { nop 4
      ldd,2 [ %dr3 + 0 ], %dr10, mas=3
      rbranch none }
    { addd,0 %dr11, 1, %dr11 }
none:
    TIS "checked load without a store", %dr10
    TIS "the check does not branch", %dr11
    // an atomic addition
    { addd,0 0, 0, %dr12 }
again:
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr10, mas=7 }
    { addd,0 %dr10, 5, %dr10
      addd,1 %dr12, 1, %dr12 }
    { std,2 %dr10, [ %dr3 + 0 ], mas=2
      rbranch again }
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr11 }
    TIS "atomic addition", %dr11
    TIS "tries", %dr12
    // barriers change nothing
    { wait st_c=1, ld_c=1 }
    { wait all_c=1 }
    { wait all_e=1, fl_c=1 }
    { nop 4
      ldd,0 [ %dr3 + 0 ], %dr11, mas=0x20 }
    TIS "bypassing the caches", %dr11
    END
    .data
    .align 16
bytes: .byte 0x80, 1, 0xfe, 3, 0xc4, 5, 0x96, 7, 0xff, 9, 0xaa, 11, 0x8c, 13, 0xee, 15
    .quad 0x8877665544332211, 0
buffer: .quad 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    .text
