// Integer operations: logic, arithmetic, shifts, rotations, fields, multiplication, division, combined
// operations, literals of every size. The expected values were computed apart from the emulator.
#include "selftest.inc"
    TEST alu
    {
        addd 0, 0x123456789abcdef0, %r10
        addd 0, 0xfedcba9876543211, %r11
    }
        addd 0, 37, %r12
        andd %r10, %r11, %r20
    CHECK "andd r10 r11", %r20, 0x1214121812141210
        ands %r10, %r11, %r20
    CHECK32 "ands r10 r11", %r20, 0x12141210
        ord %r10, %r11, %r20
    CHECK "ord r10 r11", %r20, 0xfefcfef8fefcfef1
        ors %r10, %r11, %r20
    CHECK32 "ors r10 r11", %r20, 0xfefcfef1
        xord %r10, %r11, %r20
    CHECK "xord r10 r11", %r20, 0xece8ece0ece8ece1
        xors %r10, %r11, %r20
    CHECK32 "xors r10 r11", %r20, 0xece8ece1
        andnd %r10, %r11, %r20
    CHECK "andnd r10 r11", %r20, 0x20446088a8cce0
        andns %r10, %r11, %r20
    CHECK32 "andns r10 r11", %r20, 0x88a8cce0
        ornd %r10, %r11, %r20
    CHECK "ornd r10 r11", %r20, 0x1337577f9bbfdffe
        orns %r10, %r11, %r20
    CHECK32 "orns r10 r11", %r20, 0x9bbfdffe
        xornd %r10, %r11, %r20
    CHECK "xornd r10 r11", %r20, 0x1317131f1317131e
        xorns %r10, %r11, %r20
    CHECK32 "xorns r10 r11", %r20, 0x1317131e
        addd %r10, %r11, %r20
    CHECK "addd r10 r11", %r20, 0x1111111111111101
        adds %r10, %r11, %r20
    CHECK32 "adds r10 r11", %r20, 0x11111101
        subd %r10, %r11, %r20
    CHECK "subd r10 r11", %r20, 0x13579be02468acdf
        subs %r10, %r11, %r20
    CHECK32 "subs r10 r11", %r20, 0x2468acdf
        shld %r10, 0, %r20
    CHECK "shld r10 0", %r20, 0x123456789abcdef0
        shrd %r11, 0, %r20
    CHECK "shrd r11 0", %r20, 0xfedcba9876543211
        sard %r11, 0, %r20
    CHECK "sard r11 0", %r20, 0xfedcba9876543211
        scld %r10, 0, %r20
    CHECK "scld r10 0", %r20, 0x123456789abcdef0
        scrd %r10, 0, %r20
    CHECK "scrd r10 0", %r20, 0x123456789abcdef0
        shld %r10, 1, %r20
    CHECK "shld r10 1", %r20, 0x2468acf13579bde0
        shrd %r11, 1, %r20
    CHECK "shrd r11 1", %r20, 0x7f6e5d4c3b2a1908
        sard %r11, 1, %r20
    CHECK "sard r11 1", %r20, 0xff6e5d4c3b2a1908
        scld %r10, 1, %r20
    CHECK "scld r10 1", %r20, 0x2468acf13579bde0
        scrd %r10, 1, %r20
    CHECK "scrd r10 1", %r20, 0x91a2b3c4d5e6f78
        shld %r10, 5, %r20
    CHECK "shld r10 5", %r20, 0x468acf13579bde00
        shrd %r11, 5, %r20
    CHECK "shrd r11 5", %r20, 0x7f6e5d4c3b2a190
        sard %r11, 5, %r20
    CHECK "sard r11 5", %r20, 0xfff6e5d4c3b2a190
        scld %r10, 5, %r20
    CHECK "scld r10 5", %r20, 0x468acf13579bde02
        scrd %r10, 5, %r20
    CHECK "scrd r10 5", %r20, 0x8091a2b3c4d5e6f7
        shld %r10, 31, %r20
    CHECK "shld r10 31", %r20, 0x4d5e6f7800000000
        shrd %r11, 31, %r20
    CHECK "shrd r11 31", %r20, 0x1fdb97530
        sard %r11, 31, %r20
    CHECK "sard r11 31", %r20, 0xfffffffffdb97530
        scld %r10, 31, %r20
    CHECK "scld r10 31", %r20, 0x4d5e6f78091a2b3c
        scrd %r10, 31, %r20
    CHECK "scrd r10 31", %r20, 0x3579bde02468acf1
        shld %r10, 37, %r20
    CHECK "shld r10 37", %r20, 0x579bde0000000000
        shrd %r11, 37, %r20
    CHECK "shrd r11 37", %r20, 0x7f6e5d4
        sard %r11, 37, %r20
    CHECK "sard r11 37", %r20, 0xfffffffffff6e5d4
        scld %r10, 37, %r20
    CHECK "scld r10 37", %r20, 0x579bde02468acf13
        scrd %r10, 37, %r20
    CHECK "scrd r10 37", %r20, 0xc4d5e6f78091a2b3
        shld %r10, 63, %r20
    CHECK "shld r10 63", %r20, 0x0
        shrd %r11, 63, %r20
    CHECK "shrd r11 63", %r20, 0x1
        sard %r11, 63, %r20
    CHECK "sard r11 63", %r20, 0xffffffffffffffff
        scld %r10, 63, %r20
    CHECK "scld r10 63", %r20, 0x91a2b3c4d5e6f78
        scrd %r10, 63, %r20
    CHECK "scrd r10 63", %r20, 0x2468acf13579bde0
        shls %r10, 0, %r20
    CHECK32 "shls r10 0", %r20, 0x9abcdef0
        shrs %r10, 0, %r20
    CHECK32 "shrs r10 0", %r20, 0x9abcdef0
        sars %r10, 0, %r20
    CHECK32 "sars r10 0", %r20, 0x9abcdef0
        scls %r10, 0, %r20
    CHECK32 "scls r10 0", %r20, 0x9abcdef0
        scrs %r10, 0, %r20
    CHECK32 "scrs r10 0", %r20, 0x9abcdef0
        shls %r10, 1, %r20
    CHECK32 "shls r10 1", %r20, 0x3579bde0
        shrs %r10, 1, %r20
    CHECK32 "shrs r10 1", %r20, 0x4d5e6f78
        sars %r10, 1, %r20
    CHECK32 "sars r10 1", %r20, 0xcd5e6f78
        scls %r10, 1, %r20
    CHECK32 "scls r10 1", %r20, 0x3579bde1
        scrs %r10, 1, %r20
    CHECK32 "scrs r10 1", %r20, 0x4d5e6f78
        shls %r10, 5, %r20
    CHECK32 "shls r10 5", %r20, 0x579bde00
        shrs %r10, 5, %r20
    CHECK32 "shrs r10 5", %r20, 0x4d5e6f7
        sars %r10, 5, %r20
    CHECK32 "sars r10 5", %r20, 0xfcd5e6f7
        scls %r10, 5, %r20
    CHECK32 "scls r10 5", %r20, 0x579bde13
        scrs %r10, 5, %r20
    CHECK32 "scrs r10 5", %r20, 0x84d5e6f7
        shls %r10, 31, %r20
    CHECK32 "shls r10 31", %r20, 0x0
        shrs %r10, 31, %r20
    CHECK32 "shrs r10 31", %r20, 0x1
        sars %r10, 31, %r20
    CHECK32 "sars r10 31", %r20, 0xffffffff
        scls %r10, 31, %r20
    CHECK32 "scls r10 31", %r20, 0x4d5e6f78
        scrs %r10, 31, %r20
    CHECK32 "scrs r10 31", %r20, 0x3579bde1
        sxt 0, %r10, %r20
    CHECK "sxt 0 r10", %r20, 0xfffffffffffffff0
        sxt 4, %r10, %r20
    CHECK "sxt 4 r10", %r20, 0xf0
        sxt 1, %r10, %r20
    CHECK "sxt 1 r10", %r20, 0xffffffffffffdef0
        sxt 5, %r10, %r20
    CHECK "sxt 5 r10", %r20, 0xdef0
        sxt 2, %r10, %r20
    CHECK "sxt 2 r10", %r20, 0xffffffff9abcdef0
        sxt 6, %r10, %r20
    CHECK "sxt 6 r10", %r20, 0x9abcdef0
        getfd %r10, 0x208, %r20
    CHECK "getfd r10 0x208", %r20, 0xde
        getfd %r10, 0x304, %r20
    CHECK "getfd r10 0x304", %r20, 0xdef
        getfd %r10, 0xfc, %r20
    CHECK "getfd r10 0xfc", %r20, 0x1
        insfd %r10, 0x208, %r11, %r20
    CHECK "insfd r10 0x208 r11", %r20, 0xf0123456789abc11
        insfd %r10, 0x610, %r11, %r20
    CHECK "insfd r10 0x610 r11", %r20, 0xdef0123456543211
        muls %r10, %r11, %r20
    CHECK32 "muls r10 r11", %r20, 0xf0d5adf0
        muld %r10, %r11, %r20
    CHECK "muld r10 r11", %r20, 0x35a1df76f0d5adf0
        umulx %r10, %r11, %r20
    CHECK "umulx r10 r11", %r20, 0x4785f2fef0d5adf0
        smulx %r10, %r11, %r20
    CHECK "smulx r10 r11", %r20, 0xd131c0edf0d5adf0
        umulhd %r10, %r11, %r20
    CHECK "umulhd r10 r11", %r20, 0x121fa00ad77d7422
        smulhd %r10, %r11, %r20
    CHECK "smulhd r10 r11", %r20, 0xffeb49923cc09532
        udivd %r11, %r12, %r20
    CHECK "udivd r11 r12", %r20, 0x6e35efd33a16923
        sdivd %r11, %r12, %r20
    CHECK "sdivd r11 r12", %r20, 0xfff820b80332b53f
        udivs %r10, %r12, %r20
    CHECK32 "udivs r10 r12", %r20, 0x42e9e3d
        sdivs %r10, %r12, %r20
    CHECK32 "sdivs r10 r12", %r20, 0xfd435ff9
        add_andd %r10, %r11, %r12, %r20
    CHECK "add_andd r10 r11 r12", %r20, 0x1
        add_ord %r10, %r11, %r12, %r20
    CHECK "add_ord r10 r11 r12", %r20, 0x1111111111111125
        add_xord %r10, %r11, %r12, %r20
    CHECK "add_xord r10 r11 r12", %r20, 0x1111111111111124
        shl_addd %r10, 3, %r11, %r20
    CHECK "shl_addd r10 3 r11", %r20, 0x907f6e5d4c3b2991
        add_subd %r10, %r12, %r11, %r20
    CHECK "add_subd r10 r12 r11", %r20, 0xeca8641fdb9752fc
        sub_rsubd %r10, %r12, %r11, %r20
    CHECK "sub_rsubd r10 r12 r11", %r20, 0x13579be02468acba
        and_addd %r10, %r11, %r12, %r20
    CHECK "and_addd r10 r11 r12", %r20, 0x1214121812141235
        shr_xord %r10, 32, %r11, %r20
    CHECK "shr_xord r10 32 r11", %r20, 0xfedcba9864606469
        xor_ord %r10, %r11, %r12, %r20
    CHECK "xor_ord r10 r11 r12", %r20, 0xece8ece0ece8ece5
        addd 0, 0x0, %r20
    CHECK "literal 0x0", %r20, 0x0
        addd 0, 0xf, %r20
    CHECK "literal 0xf", %r20, 0xf
        addd 0, 0x10, %r20
    CHECK "literal 0x10", %r20, 0x10
        addd 0, 0x7fff, %r20
    CHECK "literal 0x7fff", %r20, 0x7fff
        addd 0, 0x8000, %r20
    CHECK "literal 0x8000", %r20, 0x8000
        addd 0, 0xffff, %r20
    CHECK "literal 0xffff", %r20, 0xffff
        addd 0, -0x1, %r20
    CHECK "literal -0x1", %r20, 0xffffffffffffffff
        addd 0, -0x8000, %r20
    CHECK "literal -0x8000", %r20, 0xffffffffffff8000
        addd 0, -0x8001, %r20
    CHECK "literal -0x8001", %r20, 0xffffffffffff7fff
        addd 0, 0x7fffffff, %r20
    CHECK "literal 0x7fffffff", %r20, 0x7fffffff
        addd 0, 0x80000000, %r20
    CHECK "literal 0x80000000", %r20, 0x80000000
        addd 0, 0xffffffff, %r20
    CHECK "literal 0xffffffff", %r20, 0xffffffff
        addd 0, -0x80000000, %r20
    CHECK "literal -0x80000000", %r20, 0xffffffff80000000
        addd 0, 0x123456789abcdef0, %r20
    CHECK "literal 0x123456789abcdef0", %r20, 0x123456789abcdef0
        addd 0, 0x8000000000000000, %r20
    CHECK "literal 0x8000000000000000", %r20, 0x8000000000000000
    // several operations read before any of them writes
    {
        addd %r10, 0, %r21
        addd %r11, 0, %r20
    }
    {
        addd %r20, 1, %r21
        addd %r21, 1, %r20
    }
    CHECK "exchange 1", %r20, 0x123456789abcdef1
    CHECK "exchange 2", %r21, 0xfedcba9876543212
    // the highest channel wins
    {
        addd,0 0, 1, %r20
        addd,1 0, 2, %r20
        addd,5 0, 3, %r20
    }
    CHECK "same result register", %r20, 3
    END_TEST
