// Every form of a literal, in every place of the wide instruction.
    .macro TL text
    { addd,0 0, %dr9, %dr10 }
    { \text }
    IS %dr10
    .endm

    BEGIN
    TL "addd,0 15, 0, %dr10"
    TL "addd,0 31, 0, %dr10"
    TL "addd,0 0, 15, %dr10"
    TL "addd,0 0, -1, %dr10"
    TL "addd,0 0, _f16s,_lts0lo 0x7fff, %dr10"
    TL "addd,0 0, _f16s,_lts0lo 0x8000, %dr10"
    TL "addd,0 0, _f16s,_lts0hi 0x8000, %dr10"
    TL "addd,0 0, _f16s,_lts1lo 0x1234, %dr10"
    TL "addd,0 0, _f16s,_lts1hi 0xfffe, %dr10"
    TL "addd,0 0, _f32s,_lts0 0x80000000, %dr10"
    TL "addd,0 0, _f32s,_lts1 0x7fffffff, %dr10"
    TL "addd,0 0, _f32s,_lts2 0xdeadbeef, %dr10"
    TL "addd,0 0, _f32s,_lts3 0x12345678, %dr10"
    TL "addd,0 0, _f64,_lts0 0x123456789abcdef0, %dr10"
    TL "addd,0 0, _f64,_lts1 0xfedcba9876543210, %dr10"
    TL "addd,0 0, _f64,_lts2 0x8000000000000000, %dr10"
    TL "adds,0 0, _f16s 0x8000, %r10"
    TL "adds,0 0, _f32s 0x80000000, %r10"
    TL "subd,0 0, _f64 1, %dr10"
    // several in one wide instruction
    { addd,0 0, _f16s,_lts0lo 0x1111, %dr1
      addd,1 0, _f16s,_lts0hi 0x9222, %dr2
      addd,2 0, _f32s,_lts1 0x83333333, %dr3
      addd,3 0, _f64,_lts2 0x4444444455555555, %dr4
      addd,4 0, _f32s,_lts1 0x83333333, %dr5
      addd,5 0, _f32s,_lts2 0x55555555, %dr6 }
    TIS first, %dr1
    TIS second, %dr2
    TIS third, %dr3
    TIS fourth, %dr4
    TIS fifth, %dr5
    TIS sixth, %dr6
    // labels are numbers: what is at an address, distances, addresses in registers and in data
    { addd,0 0, table, %dr1
      addd,1 0, _f64,_lts2 table8, %dr2 }
    { ldd,0 [ %dr1 + 0 ], %dr3
      ldd,2 [ 0 + table ], %dr4
      ldd,3 [ %dr2 + 0 ], %dr5 }
    TIS "content", %dr3
    TIS "content of a label", %dr4
    { subd,0 %dr5, %dr1, %dr5 }
    TIS "a label in the data", %dr5
    END
    .data
    .align 8
table: .quad 0x0123456789abcdef
table8: .quad table + 24
    .text
