// Tags: written, read, moved, combined by halves, kept and lost in memory.
    BEGIN
    { addd,0 0, _f64 0x1122334455667788, %dr1 }
    { puttagd,2 %dr1, 0, %dr2 }
    { puttagd,2 %dr1, 5, %dr3 }
    { puttagd,2 %dr1, 10, %dr4 }
    { puttagd,2 %dr1, 1, %dr5 }
    { puttagd,2 %dr1, 4, %dr6 }
    TTAG numeric, %dr2
    TTAG diagnostic, %dr3
    TTAG label, %dr4
    TTAG low-diagnostic, %dr5
    TTAG high-diagnostic, %dr6
    // reading a tag reads no value; only 32 bits are written
    { addd,0 0, %dr9, %dr10 }
    { gettagd,2 %dr3, %r10 }
    TIS gettagd-keeps-the-upper-half, %dr10
    { addd,0 0, %dr9, %dr10 }
    { gettags,2 %r6, %r10 }
    TIS gettags-sees-the-low-half, %dr10
    // a 32-bit operation looks at its half alone
    { addd,0 0, 0, %dr10 }
    { adds,0 %r6, 0, %r10 }
    TIS low-half-is-numeric, %dr10
    // movtd copies tags, also of what is no number
    { movtd,0 %dr4, %dr10 }
    TTAG moved-label, %dr10
    { movtd,0 %dr3, %dr10 }
    TTAG moved-diagnostic, %dr10
    { movts,0 %r5, %r10 }
    TTAG moved-half, %dr10
    // a result of 32 bits has the tag of its half, the other half keeps its own
    { puttagd,2 %dr1, 5, %dr10 }
    { adds,0 0, 0, %r10 }
    TTAG written-half, %dr10
    // speculative: the result of a diagnostic operand
    { addd,0,sm %dr3, 0, %dr10 }
    TTAG spread, %dr10
    TRAW spread-value, %dr10
    { addd,0 0, 0, %dr10 }
    { adds,0,sm %r5, 0, %r10 }
    TTAG spread-half, %dr10
    TRAW spread-half-value, %dr10
    // a value stored by std,sm comes back as a number
    { std,2,sm %dr3, [ 0 + cell ] }
    { nop 4
      ldd,0 [ 0 + cell ], %dr10 }
    TTAG loaded, %dr10
    TIS loaded-value, %dr10
    END
    .data
    .align 8
cell: .quad 0
    .text
