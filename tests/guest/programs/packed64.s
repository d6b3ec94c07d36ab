// Packed integers in 64 bits. %dr4 is a count.
    BEGIN
loop:
    ROW
    T2 paddb
    T2 paddh
    T2 paddw
    T2 paddd
    T2 psubb
    T2 psubh
    T2 psubw
    T2 psubd
    T2 paddsb
    T2 paddsh
    T2 paddusb
    T2 paddush
    T2 psubsb
    T2 psubsh
    T2 psubusb
    T2 psubush
    T2 pminsb
    T2 pminsh
    T2 pminsw
    T2 pminub
    T2 pminuh
    T2 pminuw
    T2 pmaxsb
    T2 pmaxsh
    T2 pmaxsw
    T2 pmaxub
    T2 pmaxuh
    T2 pmaxuw
    T2 pavgusb
    T2 pavgush
    T2 pcmpeqb
    T2 pcmpeqh
    T2 pcmpeqw
    T2 pcmpeqd
    T2 pcmpgtb
    T2 pcmpgth
    T2 pcmpgtw
    T2 pcmpgtd
    T2 psignb
    T2 psignh
    T2 psignw
    T2 pmulhh
    T2 pmullh
    T2 pmulhrsh
    T2 pmulhuh
    T2 pmaddh
    T2 pmaddubsh
    T2 psadbw
    T2 phaddh
    T2 phaddw
    T2 phaddsh
    T2 phsubh
    T2 phsubw
    T2 phsubsh
    T2 packsshb
    T2 packushb
    T2 packsswh
    T2 packuswh
    T2 punpcklbh
    T2 punpcklhw
    T2 punpcklwd
    T2 punpckhbh
    T2 punpckhhw
    T2 punpckhwd
    T2 pmovmskb
    T2 pmovmskps
    T2 pmovmskpd
    T2 pandd
    T2 pandnd
    T2 pord
    T2 pxord
    TO "psllh %dr1, %dr4, %dr10"
    TO "psllw %dr1, %dr4, %dr10"
    TO "pslld %dr1, %dr4, %dr10"
    TO "psrlh %dr1, %dr4, %dr10"
    TO "psrlw %dr1, %dr4, %dr10"
    TO "psrld %dr1, %dr4, %dr10"
    TO "psrah %dr1, %dr4, %dr10"
    TO "psraw %dr1, %dr4, %dr10"
    TO "psllql %dr1, %dr2, 1, %dr10"
    TO "psllql %dr1, %dr2, 5, %dr10"
    TO "psllql %dr1, %dr2, 8, %dr10"
    TO "psllql %dr1, %dr2, 11, %dr10"
    TO "psllqh %dr1, %dr2, 1, %dr10"
    TO "psllqh %dr1, %dr2, 5, %dr10"
    TO "psllqh %dr1, %dr2, 8, %dr10"
    TO "psllqh %dr1, %dr2, 11, %dr10"
    TO "psrlql %dr1, %dr2, 1, %dr10"
    TO "psrlql %dr1, %dr2, 5, %dr10"
    TO "psrlql %dr1, %dr2, 8, %dr10"
    TO "psrlql %dr1, %dr2, 11, %dr10"
    TO "psrlqh %dr1, %dr2, 1, %dr10"
    TO "psrlqh %dr1, %dr2, 5, %dr10"
    TO "psrlqh %dr1, %dr2, 8, %dr10"
    TO "psrlqh %dr1, %dr2, 11, %dr10"
    TO "pshufh %dr2, 0x1b, %dr10"
    TO "pshufh %dr2, 0xc4, %dr10"
    TO "pshufw %dr1, %dr2, 0x1, %dr10"
    TO "pshufw %dr1, %dr2, 0xe, %dr10"
    TO "pshufw %dr1, %dr2, 0x7, %dr10"
    TO "pshufw %dr1, %dr2, 0x8, %dr10"
    T3 pmerge
    T3 plog_0x80
    T3 plog_0x96
    T3 plog_0xd8
    T3 plog_0xe8
    T3 plog_0xfe
    T3 plog_0x1d
    T3 plog_0x01
    NEXT loop, 32
    END
