// Transfers of control: branches with every condition, prepared and not, calls in all registers, computed targets.
    .macro TTAKEN name, condition
    { disp %ctpr1, 1f
      addd,0 0, 1, %dr10
      nop 5 }
    { ct %ctpr1 ? \condition }
    { addd,0 0, 0, %dr10 }
1:
    IS %dr10
    .endm
    .macro TBRANCH name, condition
    { addd,0 0, 1, %dr10 }
    { ibranch 1f ? \condition }
    { addd,0 0, 0, %dr10 }
1:
    IS %dr10
    .endm

    BEGIN
    { nop 7
      rwd,0 (1 << 37) | 5, %lsr }
    { nop 4
      cmpedb,0 0, 0, %pred0
      cmpedb,1 0, 1, %pred1 }
    TTAKEN "true", %pred0
    TTAKEN "not true", ~%pred0
    TTAKEN "false", %pred1
    TTAKEN "not false", ~%pred1
    TTAKEN "NOT_LOOP_END", %NOT_LOOP_END
    TTAKEN "LOOP_END", %LOOP_END
    TTAKEN "true or LOOP_END", "%pred0 || %LOOP_END"
    TTAKEN "false or LOOP_END", "%pred1 || %LOOP_END"
    TTAKEN "true and NOT_LOOP_END", "%pred0 && %NOT_LOOP_END"
    TTAKEN "false and NOT_LOOP_END", "%pred1 && %NOT_LOOP_END"
    { nop 7
      rwd,0 (1 << 37), %lsr }
    TTAKEN "LOOP_END at the end", %LOOP_END
    TTAKEN "NOT_LOOP_END at the end", %NOT_LOOP_END
    TTAKEN "false or LOOP_END at the end", "%pred1 || %LOOP_END"
    TTAKEN "true and NOT_LOOP_END at the end", "%pred0 && %NOT_LOOP_END"
    TBRANCH "ibranch true", %pred0
    TBRANCH "ibranch false", %pred1
    TBRANCH "ibranch not false", ~%pred1
    // what is in the wide instruction of a transfer happens, and nothing behind it
    { addd,0 0, 1, %dr10
      disp %ctpr2, behind
      nop 5 }
    { addd,0 %dr10, 2, %dr10
      ct %ctpr2 }
    { addd,0 %dr10, 4, %dr10 }
behind:
    TIS "beside a transfer", %dr10
    // a condition that is computed in the same wide instruction is the old one
    { addd,0 0, 1, %dr10
      nop 4 }
    { cmpedb,0 0, 1, %pred0
      ibranch old ? %pred0 }
    { addd,0 0, 0, %dr10 }
old:
    TIS "the old condition", %dr10
    { nop 4
      cmpedb,0 0, 0, %pred0 }
    // calls through all transfer registers; a computed one
    { disp %ctpr1, add_one
      addd,0 0, 0, %db[0]
      nop 5 }
    { call %ctpr1, wbs=24 }
    { disp %ctpr2, add_one
      nop 5 }
    { call %ctpr2, wbs=24 }
    { disp %ctpr3, add_one
      nop 5 }
    { call %ctpr3, wbs=24 }
    TIS "three calls", %db[0]
    { addd,0 0, add_one, %dr1 }
    { nop 5
      movtd,0 %dr1, %ctpr1 }
    { call %ctpr1, wbs=24 }
    TIS "a computed call", %db[0]
    // a call that does not happen, a return that does not happen
    { disp %ctpr1, add_one
      nop 5 }
    { call %ctpr1, wbs=24 ? %pred1 }
    TIS "no call", %db[0]
    { disp %ctpr1, early
      addd,0 0, 1, %db[0]
      nop 5 }
    { call %ctpr1, wbs=24 }
    TIS "an early return", %db[0]
    { disp %ctpr1, early
      addd,0 0, 0, %db[0]
      nop 5 }
    { call %ctpr1, wbs=24 }
    TIS "a late return", %db[0]
    // a table of branches
    { addd,0 0, 0, %dr1
      addd,1 0, 0, %dr10 }
next_case:
    { shld,0 %dr1, 3, %dr2 }
    { nop 4
      ldd,0 [ %dr2 + cases ], %dr3 }
    { nop 5
      movtd,0 %dr3, %ctpr1 }
    { ct %ctpr1 }
case0:
    { addd,0 %dr10, 1, %dr10 }
    { ibranch end_case }
case1:
    { addd,0 %dr10, 10, %dr10 }
    { ibranch end_case }
case2:
    { addd,0 %dr10, 100, %dr10 }
end_case:
    { addd,0 %dr1, 1, %dr1
      cmpedb,1 %dr1, 2, %pred2
      nop 2 }
    { ibranch next_case ? ~%pred2 }
    TIS "a table of branches", %dr10
    // where a disp of this place points, and its tag
    { disp %ctpr1, here
      addd,0 0, here, %dr1
      nop 5 }
    { nop 4
      rrd,0 %ctpr1, %dr2 }
here:
    { andd,0 %dr2, 0xffffffffffff, %dr3
      shrd,1 %dr2, 54, %dr4 }
    { subd,0 %dr3, %dr1, %dr10
      andd,1 %dr4, 7, %dr11 }
    TIS "distance", %dr10
    TIS "tag", %dr11
    { ldisp %ctpr2, here
      nop 5 }
    { nop 4
      rrd,0 %ctpr2, %dr2 }
    { shrd,0 %dr2, 57, %dr10 }
    { andd,0 %dr10, 3, %dr10 }
    TIS "opcode of ldisp", %dr10
    // a call empties the transfer registers
    { disp %ctpr2, here }
    { disp %ctpr1, add_one
      nop 5 }
    { call %ctpr1, wbs=24 }
    { nop 4
      rrd,0 %ctpr2, %dr2 }
    { shrd,0 %dr2, 54, %dr10 }
    { andd,0 %dr10, 7, %dr10 }
    TIS "tag behind a call", %dr10
    END
    .align 8
add_one:
    { setwd wsz=8, nfx=1
      return %ctpr3
      addd,0 %dr0, 1, %dr0
      nop 5 }
    { ct %ctpr3 }
    .align 8
early:
    { setwd wsz=8, nfx=1
      return %ctpr3
      cmpedb,0 %dr0, 1, %pred3
      addd,1 %dr0, 10, %dr0
      nop 5 }
    { ct %ctpr3 ? %pred3 }
    { addd,0 %dr0, 100, %dr0
      return %ctpr3
      nop 5 }
    { ct %ctpr3 }
    .data
    .align 8
cases: .quad case0, case1, case2
    .text
