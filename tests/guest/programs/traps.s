// Traps: the exception, its address and its channels, what a wide instruction that trapped has left undone, and what of
// several exceptions is told. The handler notes TIR in %dg22 and %dg23 and goes on at %dg24. %dr1 is diagnostic, %dr2 an address without memory, %dr3 one with, %pred5 diagnostic.
    .macro TTRAP name, text
    { addd,0 0, 3f, %dg24
      addd,1 0, 0, %dg22 }
    { addd,0 0, 2f, %dr6
      addd,1 0, %dr9, %dr10
      addd,2 0, 0, %dg23 }
    { addd,0 0, %dr6, %dg23 }
2:
    { \text }
3:
    { andd,0 %dg22, _f64 0xfffffffffff, %dr7
      getfd,1 %dg22, 44 | (6 << 6), %dr8 }
    { subd,0 %dg23, %dr6, %dr6 }
    IS %dr7
    IS %dr8
    IS %dr6
    IS %dr10
    .endm

    BEGIN
    { nop 7
      rwd,0 table, %oscud.lo }
    { nop 7
      rwd,0 0x1000000000000, %oscud.hi }
    { nop 7
      rwd,0 8, %osem }
    { addd,0 0, 0x4000000000000, %dr2
      addd,1 0, cell, %dr3 }
    { nop 4
      ldd,0,sm [ %dr2 + 0 ], %dr1
      addd,1 0, 0, %dr4
      addd,2 0, 1, %dr5 }
    { nop 7
      cmpedb,0,sm %dr1, 0, %pred5
      cmpedb,1 0, 0, %pred6
      cmpedb,3 0, 1, %pred7 }
    { addd,0 0, 0x80000000, %dr13
      addd,1 0, _f64 0x3ff0000000000000, %dr14 }
    // user mode from here on
    { nop 7
      rwd,0 0, %psr }
    TTRAP "division by 0", "udivd,5 %dr5, %dr4, %dr11; addd,0 0, 7, %dr10"
    TTRAP "sdivs of the least number", "sdivs,5 %r13, -1, %r11; addd,0 0, 7, %dr10"
    TTRAP "diagnostic operand", "addd,0 %dr1, 0, %dr11; addd,1 0, 7, %dr10"
    TTRAP "two of them", "addd,1 %dr1, 0, %dr11; addd,4 %dr1, 0, %dr10"
    TTRAP "operand and division", "adds,1 %r1, 0, %r11; udivd,5 %dr5, %dr4, %dr12; addd,0 0, 7, %dr10"
    TTRAP "diagnostic condition", "addd,0 0, 7, %dr10 ? %pred5"
    TTRAP "condition and operand", "addd,0 0, 7, %dr10 ? %pred5; addd,1 %dr1, 0, %dr11"
    TTRAP "of a transfer", "ibranch fail ? %pred5; addd,0 0, 7, %dr10"
    TTRAP "unprepared transfer", "ct %ctpr2; addd,0 0, 7, %dr10"
    TTRAP "window", "addd,0 %db[16], 0, %dr11; addd,1 0, 7, %dr10"
    TTRAP "privileged register", "rwd,0 0, %psr; addd,1 0, 7, %dr10"
    TTRAP "privileged transfer", "done"
    TTRAP "no such operation", "puttst,3 %dr5, %dr11; addd,1 0, 7, %dr10"
    TTRAP "software trap", "setsft; addd,1 0, 7, %dr10"
    TTRAP "user stack", "getsp,0 -0x7ffffff0, %dr11; addd,1 0, 7, %dr10"
    // nothing happens under a condition that is false
    TTRAP "no condition, no trap", "udivd,5 %dr5, %dr4, %dr11 ? %pred7; addd,0 0, 7, %dr10"
    TTRAP "speculative, no trap", "udivd,5,sm %dr5, %dr4, %dr11; addd,0 0, 7, %dr10"
    { puttagd,2 %dr5, 10, %dr12 }
    TTRAP "a descriptor is no number", "addd,0 %dr12, 0, %dr11; addd,1 0, 7, %dr10"
    { nop 5
      movtd,0 %dr1, %ctpr1 }
    TTRAP "diagnostic transfer register", "ct %ctpr1; addd,0 0, 7, %dr10"
    // floating point: switched off, and with an exception that is not masked
    { nop 7
      rrd,0 %upsr, %dr13 }
    { andnd,0 %dr13, 1, %dr12 }
    { nop 7
      rwd,0 %dr12, %upsr }
    TTRAP "floating point switched off", "faddd,0 %dr5, %dr5, %dr11; addd,1 0, 7, %dr10"
    { ord,0 %dr13, 1, %dr12 }
    { nop 7
      rwd,0 %dr12, %upsr }
    { nop 7
      rws,0 0x1d80, %pfpfr }
    TTRAP "division of doubles by 0", "fdivd,5 %dr14, %dr4, %dr11; addd,1 0, 7, %dr10"
    { nop 7
      rws,0 0x1f80, %pfpfr }
    // misaligned, with alignment checks
    { ord,0 %dr13, 5, %dr12 }
    { nop 7
      rwd,0 %dr12, %upsr }
    TTRAP "misaligned", "ldd,0 [ %dr3 + 4 ], %dr11; addd,1 0, 7, %dr10"
    { nop 7
      rwd,0 %dr13, %upsr }
    TTRAP "not checked", "ldd,0 [ %dr3 + 4 ], %dr11; addd,1 0, 7, %dr10"
    TTRAP "the last one", "setsft"
    END
    .align 0x800
table:
    { setwd wsz=4, nfx=1 }
    { nop 5
      rrd,0 %tir.hi, %dg22 }
    { nop 5
      rrd,0 %tir.lo, %dg23 }
    { nop 5
      rwd,0 %dg24, %cr0.hi }
    { done }
    // entry 3: a system call; without a trap table it goes to whoever runs this program
    .org table + 0x1800
    { setwd wsz=16, nfx=1
      setbn rbs=8, rsz=7, rcur=0 }
    { nop 7
      rwd,0 0, %oscud.hi }
    { sdisp %ctpr1, 0x3
      addd,0 0, %dr0, %db[0]
      addd,1 0, %dr1, %db[1]
      addd,2 0, %dr2, %db[2]
      addd,3 0, %dr3, %db[3]
      nop 5 }
    { call %ctpr1, wbs=8 }
    { return %ctpr3
      nop 5 }
    { ct %ctpr3 }
    .data
    .align 8
cell: .quad 0x1122334455667788, 0x99aabbccddeeff00
    .text
