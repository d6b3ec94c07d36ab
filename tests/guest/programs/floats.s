// Single and double: %dr1 %dr2 %dr3 are doubles, %r5 %r6 %r7 singles, %dr8 is an integer.
    .macro TFP text
    { cmpedb,0 0, 1, %pred0
      cmpedb,1 0, 0, %pred1
      addd,2 0, 0, %dr10
      addd,3 0, 0, %dr11 }
    { nop 5
      rws,0 %r4, %pfpfr }
    { nop 4
      \text, %pred0 }
    { nop 4
      \text, %pred1 }
    { addd,1 %dr10, 1, %dr10 ? %pred0
      rrs,0 %pfpfr, %r11 }
    { addd,0 %dr10, 2, %dr10 ? %pred1 }
    IS %dr10
    IS %dr11
    .endm

    BEGIN
loop:
    ROW8
    TF "faddd %dr1, %dr2, %dr10"
    TF "fadds %r5, %r6, %r10"
    TF "fsubd %dr1, %dr2, %dr10"
    TF "fsubs %r5, %r6, %r10"
    TF "fmuld %dr1, %dr2, %dr10"
    TF "fmuls %r5, %r6, %r10"
    TF "fdivd %dr1, %dr2, %dr10"
    TF "fdivs %r5, %r6, %r10"
    TF "fmind %dr1, %dr2, %dr10"
    TF "fmins %r5, %r6, %r10"
    TF "fmaxd %dr1, %dr2, %dr10"
    TF "fmaxs %r5, %r6, %r10"
    TF "fsqrts,5 %r5, %r10"
    TF "fsqrttd,5 %dr1, %dr1, %dr10"
    TF "fadd_addd %dr1, %dr2, %dr3, %dr10"
    TF "fadd_adds %r5, %r6, %r7, %r10"
    TF "fadd_subd %dr1, %dr2, %dr3, %dr10"
    TF "fadd_subs %r5, %r6, %r7, %r10"
    TF "fadd_rsubd %dr1, %dr2, %dr3, %dr10"
    TF "fadd_rsubs %r5, %r6, %r7, %r10"
    TF "fsub_addd %dr1, %dr2, %dr3, %dr10"
    TF "fsub_adds %r5, %r6, %r7, %r10"
    TF "fsub_subd %dr1, %dr2, %dr3, %dr10"
    TF "fsub_subs %r5, %r6, %r7, %r10"
    TF "fsub_rsubd %dr1, %dr2, %dr3, %dr10"
    TF "fsub_rsubs %r5, %r6, %r7, %r10"
    TF "fmul_addd %dr1, %dr2, %dr3, %dr10"
    TF "fmul_adds %r5, %r6, %r7, %r10"
    TF "fmul_subd %dr1, %dr2, %dr3, %dr10"
    TF "fmul_subs %r5, %r6, %r7, %r10"
    TF "fmul_rsubd %dr1, %dr2, %dr3, %dr10"
    TF "fmul_rsubs %r5, %r6, %r7, %r10"
    TF "fcmpeqd %dr1, %dr2, %dr10"
    TF "fcmpeqs %r5, %r6, %r10"
    TFP "fcmpeqdb %dr1, %dr2"
    TFP "fcmpeqsb %r5, %r6"
    TF "fcmpltd %dr1, %dr2, %dr10"
    TF "fcmplts %r5, %r6, %r10"
    TFP "fcmpltdb %dr1, %dr2"
    TFP "fcmpltsb %r5, %r6"
    TF "fcmpled %dr1, %dr2, %dr10"
    TF "fcmples %r5, %r6, %r10"
    TFP "fcmpledb %dr1, %dr2"
    TFP "fcmplesb %r5, %r6"
    TF "fcmpuodd %dr1, %dr2, %dr10"
    TF "fcmpuods %r5, %r6, %r10"
    TFP "fcmpuoddb %dr1, %dr2"
    TFP "fcmpuodsb %r5, %r6"
    TF "fcmpneqd %dr1, %dr2, %dr10"
    TF "fcmpneqs %r5, %r6, %r10"
    TFP "fcmpneqdb %dr1, %dr2"
    TFP "fcmpneqsb %r5, %r6"
    TF "fcmpnltd %dr1, %dr2, %dr10"
    TF "fcmpnlts %r5, %r6, %r10"
    TFP "fcmpnltdb %dr1, %dr2"
    TFP "fcmpnltsb %r5, %r6"
    TF "fcmpnled %dr1, %dr2, %dr10"
    TF "fcmpnles %r5, %r6, %r10"
    TFP "fcmpnledb %dr1, %dr2"
    TFP "fcmpnlesb %r5, %r6"
    TF "fcmpodd %dr1, %dr2, %dr10"
    TF "fcmpods %r5, %r6, %r10"
    TFP "fcmpoddb %dr1, %dr2"
    TFP "fcmpodsb %r5, %r6"
    TF "fdtofs %dr1, %r10"
    TF "fstofd %r5, %dr10"
    TF "fdtoid %dr1, %dr10"
    TF "fdtoidtr %dr1, %dr10"
    TF "fdtois %dr1, %r10"
    TF "fdtoistr %dr1, %r10"
    TF "fstoid %r5, %dr10"
    TF "fstoidtr %r5, %dr10"
    TF "fstois %r5, %r10"
    TF "fstoistr %r5, %r10"
    TF "idtofd %dr8, %dr10"
    TF "idtofs %dr8, %r10"
    TF "istofd %r8, %dr10"
    TF "istofs %r8, %r10"
    NEXT loop, 64
    END
