// Operations of the control unit that came later: rotation of the globals by a count, fills, more barriers.
    BEGIN
    { nop 5
      rwd,0 0xff, %bgr }
    { addd,0 0, 24, %dg24
      addd,1 0, 27, %dg27
      addd,2 0, 31, %dg31 }
    { abgc 3 }
    TIS "g24 after abgc 3", %dg24
    { abgc 4 }
    TIS "g24 after abgc 7", %dg24
    { rbgc }
    TIS "g24 after rbgc", %dg24
    { disp %ctpr1, filled
      addd,0 0, 5, %db[0]
      addd,1 0, 6, %dr20
      nop 5 }
    { call %ctpr1, wbs=24 }
    TIS "behind fills", %db[0]
    TIS "a register of the caller", %dr20
    { wait sas=1 }
    { wait sal=1 }
    { wait las=1, lal=1 }
    { wait mt=1 }
    TIS "behind barriers", %dr20
    // transfers without a %ctpr
    { addd,0 0, 5, %db[0]
      cmpesb,1 0, 0, %pred2
      nop 5 }
    { icall two_more, wbs=24 }
    TIS "behind icall", %db[0]
    { icall two_more, wbs=24 ? ~%pred2 }
    TIS "behind no icall", %db[0]
    { icall two_more, wbs=24 ? %pred2 }
    TIS "behind icall of a true condition", %db[0]
    { addd,0 0, two_more, %dr21
      addd,1 0, jumped, %dr22
      nop 5 }
    { icalld,0 wbs = 24, %dr21, %empty }
    TIS "behind icalld", %db[0]
    { icalld,0 wbs = 24, %dr21, %empty ? ~%pred2 }
    TIS "behind no icalld", %db[0]
    { addd,0 0, 1, %dr20
      nop 5 }
    { ibranchd,0 %dr22, %empty ? ~%pred2 }
    { addd,0 %dr20, 2, %dr20 }
    { ibranchd,0 %dr22, %empty }
    { addd,0 %dr20, 4, %dr20 }
    .align 8
jumped:
    TIS "behind ibranchd", %dr20
    END
    .align 8
two_more:
    { setwd wsz=8, nfx=1
      cmpesb,0 0, 1, %pred0
      addd,1 %dr0, 1, %dr0 
      nop 5 }
    { iret ? %pred0 }
    { addd,0 %dr0, 1, %dr0 }
    { iret }
    .align 8
filled:
    { setwd wsz=8, nfx=1
      return %ctpr3
      nop 5 }
    { flushr }
    { wait all_e=1 }
    { fillr }
    { wait all_e=1 }
    { flushc }
    { wait all_e=1 }
    { fillc }
    { addd,0 %dr0, 1, %dr0 }
    { ct %ctpr3 }
