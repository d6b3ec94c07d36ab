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
    END
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
