// The smaller operations of the control unit: event number, recovery points, hints, barriers.
    BEGIN
    { setei 0x5a }
    { nop 4
      rrd,0 %eir, %dr10 }
    TIS "event number", %dr10
    // a recovery point is the wide instruction that set it
    { addd,0 0, point, %dr1 }
point:
    { srp }
    { nop 4
      rrd,0 %rpr.lo, %dr10 }
    { subd,0 %dr10, %dr1, %dr10 }
    TIS "recovery point", %dr10
    { crp }
    { nop 4
      rrd,0 %rpr.lo, %dr10 }
    TIS "cleared", %dr10
    { addd,0 0, point2, %dr1 }
point2:
    { slrp }
    { nop 4
      rrd,0 %rpr.lo, %dr10 }
    { subd,0 %dr10, %dr1, %dr10 }
    TIS "recovery point of a loop", %dr10
    { crp }
    // hints and barriers leave everything as it is
    { addd,0 0, 1, %dr10
      pref %ipr0, disp=0x10 }
    { addd,0 %dr10, 2, %dr10
      wait st_c=1 }
    { addd,0 %dr10, 4, %dr10
      wait ld_c=1 }
    { addd,0 %dr10, 8, %dr10
      wait all_e=1 }
    { addd,0 %dr10, 16, %dr10
      wait ma_c=1 }
    TIS "beside hints and barriers", %dr10
    // a window by vfrpsz is one by setwd
    { setwd wsz=24, nfx=1 }
    { vfrpsz rpsz=2
      setwd wsz=32, nfx=1
      addd,0 0, 3, %dr63 }
    TIS "vfrpsz", %dr63
    { settr type=0x77
      setwd wsz=32, nfx=1 }
    TIS "settr", %dr63
    END
