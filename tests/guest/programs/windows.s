// Register windows: parameters and results, sizes, areas of %b, the stacks and deep recursion.
    BEGIN
    // a callee sees from its %r0 on what the caller has from wbs on, and returns it there
    { disp %ctpr1, swap
      addd,0 0, 11, %db[0]
      addd,1 0, 22, %db[1]
      addd,2 0, 33, %dr20 }
    { nop 4 }
    { call %ctpr1, wbs=24 }
    TIS "first result", %db[0]
    TIS "second result", %db[1]
    TIS "what the callee does not see", %dr20
    // recursion 200 deep: registers and chain go to memory and come back
    { disp %ctpr1, sum
      addd,0 0, 200, %db[0] }
    { nop 4 }
    { call %ctpr1, wbs=24 }
    TIS "sum", %db[0]
    // the same with everything written out at each level
    { disp %ctpr1, flushed
      addd,0 0, 12, %db[0] }
    { nop 4 }
    { call %ctpr1, wbs=24 }
    TIS "sum with flushes", %db[0]
    // fibonacci: two calls in every frame
    { disp %ctpr1, fib
      addd,0 0, 11, %db[0] }
    { nop 4 }
    { call %ctpr1, wbs=24 }
    TIS "fib", %db[0]
    // names of one register
    { addd,0 0, 55, %dr49 }
    TIS "b1 is r49", %db[1]
    { setbn rbs=20, rsz=3, rcur=1 }
    { addd,0 0, 66, %dr42 }
    TIS "b0 of the second quad", %db[0]
    { setbn rbs=24, rsz=7, rcur=0 }
    // a window that grows: its new registers are empty, the result may be in the new part
    { setwd wsz=28, nfx=1 }
    { setwd wsz=32, nfx=1
      addd,0 0, 77, %dr63 }
    TIS "the last register", %dr63
    TTAG "an empty register", %dr60
    { setwd wsz=28, nfx=1 }
    { setwd wsz=32, nfx=1 }
    TTAG "a register that left the window", %dr63
    // 32-bit results in a window with dbl clear the other half
    { setwd wsz=32, nfx=1, dbl=1
      addd,0 0, POISON, %dr10 }
    { adds,0 0, 5, %r10 }
    TIS "with dbl", %dr10
    { setwd wsz=32, nfx=1, dbl=0
      addd,0 0, POISON, %dr10 }
    { adds,0 0, 5, %r10 }
    TIS "without dbl", %dr10
    // the user stack: down, and back by returning
    { nop 4
      getsp,0 0, %dr1 }
    { nop 4
      getsp,0 -64, %dr2 }
    { subd,0 %dr1, %dr2, %dr10 }
    TIS "64 bytes of stack", %dr10
    { nop 4
      getsp,0 64, %dr3 }
    { subd,0 %dr1, %dr3, %dr10 }
    TIS "given back", %dr10
    { disp %ctpr1, stack_user
      nop 5 }
    { call %ctpr1, wbs=24 }
    { nop 4
      getsp,0 0, %dr12 }
    { subd,0 %dr1, %dr12, %dr12
      subd,1 %dr1, %db[0], %dr11 }
    TIS "the callee's stack", %dr11
    TIS "freed by the return", %dr12
    // the caller's predicates are seen, and restored
    { nop 2
      cmpedb,0 0, 0, %pred5
      cmpedb,1 0, 1, %pred6 }
    { disp %ctpr1, predicates
      nop 5 }
    { call %ctpr1, wbs=24 }
    TIS "the callee's predicates", %db[0]
    TPRED "restored", %pred5
    TPRED "restored false", %pred6
    END

    .align 8
swap:
    { setwd wsz=8, nfx=1
      return %ctpr3 }
    { addd,0 0, %dr1, %dr0
      addd,1 0, %dr0, %dr1
      nop 5 }
    { ct %ctpr3 }
    .align 8
sum:
    { setwd wsz=16, nfx=1
      setbn rbs=8, rsz=7, rcur=0
      disp %ctpr1, sum
      nop 5 }
    { nop 2
      cmpedb,0 %dr0, 0, %pred0
      addd,1 0, %dr0, %dr5
      subd,3 %dr0, 1, %db[0] }
    { ibranch sum_end ? %pred0 }
    { call %ctpr1, wbs=8 }
    { addd,0 %db[0], %dr5, %dr0 }
sum_end:
    { nop 5
      return %ctpr3 }
    { ct %ctpr3 }
    .align 8
flushed:
    { setwd wsz=16, nfx=1
      setbn rbs=8, rsz=7, rcur=0
      disp %ctpr1, flushed
      nop 5 }
    { nop 2
      cmpedb,0 %dr0, 0, %pred0
      addd,1 0, %dr0, %dr5
      subd,3 %dr0, 1, %db[0] }
    { ibranch flushed_end ? %pred0 }
    { flushr
      flushc }
    { nop 2
      wait all_e=1 }
    { call %ctpr1, wbs=8 }
    { addd,0 %db[0], %dr5, %dr0 }
flushed_end:
    { nop 5
      return %ctpr3 }
    { ct %ctpr3 }
    .align 8
fib:
    { setwd wsz=16, nfx=1
      setbn rbs=8, rsz=7, rcur=0
      disp %ctpr1, fib
      nop 5 }
    { nop 2
      cmpledb,0 %dr0, 1, %pred0
      subd,1 %dr0, 1, %db[0]
      subd,3 %dr0, 2, %dr5 }
    { ibranch fib_end ? %pred0 }
    { call %ctpr1, wbs=8 }
    { disp %ctpr1, fib
      addd,0 0, %db[0], %dr6
      addd,1 0, %dr5, %db[0]
      nop 5 }
    { call %ctpr1, wbs=8 }
    { addd,0 %db[0], %dr6, %dr0 }
fib_end:
    { nop 5
      return %ctpr3 }
    { ct %ctpr3 }
    .align 8
stack_user:
    { setwd wsz=8, nfx=1
      return %ctpr3
      nop 5 }
    { nop 4
      getsp,0 -32, %dr0 }
    { ct %ctpr3 }
    .align 8
predicates:
    { setwd wsz=8, nfx=1
      return %ctpr3 }
    { addd,0 0, 0, %dr0 }
    { addd,0 %dr0, 1, %dr0 ? %pred5 }
    { addd,0 %dr0, 2, %dr0 ? %pred6 }
    { nop 3
      cmpedb,0 0, 1, %pred5
      cmpedb,1 0, 0, %pred6 }
    { ct %ctpr3 }
