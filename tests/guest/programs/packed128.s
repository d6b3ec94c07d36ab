// Packed integers in 128 bits (from v5 on). %qpr1, %qpr2, %qpr3 are the sources, %dr4 a count.
    .macro ROWQ
    { ldqp,0 [ %dg18 + 0 ], %qpr1
      ldqp,2 [ %dg18 + 16 ], %qpr2
      ldqp,3 [ %dg18 + 32 ], %qpr3
      ldd,5 [ %dg18 + 48 ], %dr4 }
    .endm
    .macro TQ text
    { qppackdl,1 %dr9, %dr9, %qpr10 }
    { nop 7
      \text }
    { stqp,2 %qpr10, [ 0 + result ] }
    { ldd,0 [ 0 + result ], %dr11 }
    { ldd,0 [ 8 + result ], %dr12 }
    IS %dr11
    IS %dr12
    .endm
    .data
    .align 16
result: .quad 0, 0

    BEGIN
loop:
    ROWQ
    TQ "qpaddb %qpr1, %qpr2, %qpr10"
    TQ "qpaddh %qpr1, %qpr2, %qpr10"
    TQ "qpaddw %qpr1, %qpr2, %qpr10"
    TQ "qpaddd %qpr1, %qpr2, %qpr10"
    TQ "qpsubb %qpr1, %qpr2, %qpr10"
    TQ "qpsubh %qpr1, %qpr2, %qpr10"
    TQ "qpsubw %qpr1, %qpr2, %qpr10"
    TQ "qpsubd %qpr1, %qpr2, %qpr10"
    TQ "qpaddsb %qpr1, %qpr2, %qpr10"
    TQ "qpaddsh %qpr1, %qpr2, %qpr10"
    TQ "qpaddusb %qpr1, %qpr2, %qpr10"
    TQ "qpaddush %qpr1, %qpr2, %qpr10"
    TQ "qpsubsb %qpr1, %qpr2, %qpr10"
    TQ "qpsubsh %qpr1, %qpr2, %qpr10"
    TQ "qpsubusb %qpr1, %qpr2, %qpr10"
    TQ "qpsubush %qpr1, %qpr2, %qpr10"
    TQ "qpminsb %qpr1, %qpr2, %qpr10"
    TQ "qpminsh %qpr1, %qpr2, %qpr10"
    TQ "qpminsw %qpr1, %qpr2, %qpr10"
    TQ "qpminub %qpr1, %qpr2, %qpr10"
    TQ "qpminuh %qpr1, %qpr2, %qpr10"
    TQ "qpminuw %qpr1, %qpr2, %qpr10"
    TQ "qpmaxsb %qpr1, %qpr2, %qpr10"
    TQ "qpmaxsh %qpr1, %qpr2, %qpr10"
    TQ "qpmaxsw %qpr1, %qpr2, %qpr10"
    TQ "qpmaxub %qpr1, %qpr2, %qpr10"
    TQ "qpmaxuh %qpr1, %qpr2, %qpr10"
    TQ "qpmaxuw %qpr1, %qpr2, %qpr10"
    TQ "qpavgusb %qpr1, %qpr2, %qpr10"
    TQ "qpavgush %qpr1, %qpr2, %qpr10"
    TQ "qpcmpeqb %qpr1, %qpr2, %qpr10"
    TQ "qpcmpeqh %qpr1, %qpr2, %qpr10"
    TQ "qpcmpeqw %qpr1, %qpr2, %qpr10"
    TQ "qpcmpeqd %qpr1, %qpr2, %qpr10"
    TQ "qpcmpgtb %qpr1, %qpr2, %qpr10"
    TQ "qpcmpgth %qpr1, %qpr2, %qpr10"
    TQ "qpcmpgtw %qpr1, %qpr2, %qpr10"
    TQ "qpcmpgtd %qpr1, %qpr2, %qpr10"
    TQ "qpsignb %qpr1, %qpr2, %qpr10"
    TQ "qpsignh %qpr1, %qpr2, %qpr10"
    TQ "qpsignw %qpr1, %qpr2, %qpr10"
    TQ "qpmulhh %qpr1, %qpr2, %qpr10"
    TQ "qpmullh %qpr1, %qpr2, %qpr10"
    TQ "qpmulhrsh %qpr1, %qpr2, %qpr10"
    TQ "qpmulhuh %qpr1, %qpr2, %qpr10"
    TQ "qpmaddh %qpr1, %qpr2, %qpr10"
    TQ "qpmaddubsh %qpr1, %qpr2, %qpr10"
    TQ "qpsadbw %qpr1, %qpr2, %qpr10"
    TQ "qpmullw %qpr1, %qpr2, %qpr10"
    TQ "qphaddh %qpr1, %qpr2, %qpr10"
    TQ "qphaddw %qpr1, %qpr2, %qpr10"
    TQ "qphaddsh %qpr1, %qpr2, %qpr10"
    TQ "qphsubh %qpr1, %qpr2, %qpr10"
    TQ "qphsubw %qpr1, %qpr2, %qpr10"
    TQ "qphsubsh %qpr1, %qpr2, %qpr10"
    TQ "qpacksshb %qpr1, %qpr2, %qpr10"
    TQ "qpackushb %qpr1, %qpr2, %qpr10"
    TQ "qpacksswh %qpr1, %qpr2, %qpr10"
    TQ "qpackuswh %qpr1, %qpr2, %qpr10"
    TQ "qpand %qpr1, %qpr2, %qpr10"
    TQ "qpandn %qpr1, %qpr2, %qpr10"
    TQ "qpor %qpr1, %qpr2, %qpr10"
    TQ "qpxor %qpr1, %qpr2, %qpr10"
    TQ "qpsllh %qpr1, %dr4, %qpr10"
    TQ "qpsllw %qpr1, %dr4, %qpr10"
    TQ "qpslld %qpr1, %dr4, %qpr10"
    TQ "qpsrlh %qpr1, %dr4, %qpr10"
    TQ "qpsrlw %qpr1, %dr4, %qpr10"
    TQ "qpsrld %qpr1, %dr4, %qpr10"
    TQ "qpsrah %qpr1, %dr4, %qpr10"
    TQ "qpsraw %qpr1, %dr4, %qpr10"
    TQ "qpsrcw %qpr1, %dr4, %qpr10"
    TQ "qpsrcd %qpr1, %dr4, %qpr10"
    TQ "qpswitchd %qpr1, %qpr10"
    TQ "qpswitchw %qpr1, %qpr10"
    TQ "qppackdl %dr1, %dr2, %qpr10"
    TQ "qpmulubhh %dr1, %qpr2, %qpr10"
    TQ "qpmsk2sgnb %qpr1, %r4, %qpr10"
    TQ "qpmerge %qpr1, %qpr2, %qpr3, %qpr10"
    TQ "qplog_0x80 %qpr1, %qpr2, %qpr3, %qpr10"
    TQ "qplog_0x96 %qpr1, %qpr2, %qpr3, %qpr10"
    TQ "qplog_0xd8 %qpr1, %qpr2, %qpr3, %qpr10"
    TQ "qplog_0x35 %qpr1, %qpr2, %qpr3, %qpr10"
    NEXT loop, 64
    END
