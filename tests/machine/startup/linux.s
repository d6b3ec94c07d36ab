// What the start of Linux for e2k does to the machine, in its order: facts from its public sources (boot_head, boot_init,
// boot_smp, early consoles, PIC and clocks), code of our own. All CPUs come in by system call 12 with the boot block's
// address in %r1. The kernel is linked at 0xe20000000000 and runs at its physical addresses until translation is on. CPU 0
// ends with exit status 0; 1: something is not as it should be, 2: a trap.
//
// V6: instruction set v6, entries of its own format, EPIC; else local APIC.

#define CPUS        2
#define KERNEL      0xe20000000000
#define PHYS_BASE   0x02000000
#define PAGE_OFFSET 0xd00000000000
#define IO_BASE     0xe40000000000
#define ROOT        0x02100000
#define STACKS      0x02200000
#define SERIAL      0x81200040
#define SIC         0x110000000
#define EXIT        0x1010000f4
#define PA(place)   (place - KERNEL + PHYS_BASE)
#ifdef V6
#define PIC         0xfee00000
#define PIC_ID      0x10
#define PIC_BSP     0
#define PIC_SHIFT   0
#define PTE         0x6f                    // P, W, PV, VALID, A, D
#define TABLE       0x2f
#else
#define PIC         0xfee00000
#define PIC_ID      0x20
#define PIC_BSP     0x10
#define PIC_SHIFT   24
#define PTE         0x30000000063           // PV, VALID, D, A, W, P
#define TABLE       0x30000000023
#endif

.macro IN size, address, to
        addd 0, \address, %r50
    {
        nop 4
        ld\size,2 [ %r50 + 0 ], \to, mas=6
    }
.endm
.macro OUT size, address, value
        addd 0, \address, %r50
        addd 0, \value, %r51
        st\size,2 %r51, [ %r50 + 0 ], mas=6
.endm
.macro NEED value, is
        addd 0, \is, %r51
        cmpedb \value, %r51, %pred0
        ibranch wrong ? ~%pred0
.endm
.macro WAIT_ALL
        wait ma_c=1, fl_c=1, all_e=1, all_c=1
.endm
.macro SET register, value
        addd 0, \value, %r50
        rwd %r50, %\register
.endm
.macro MMU register, value
        addd 0, \value, %r50
        mmurw %r50, %\register
.endm
// All CPUs meet: a counter goes up to their number; the first one lets the others go.
.macro MEET counter
        addd %r40, \counter - KERNEL, %r52
.Lmeet_\counter:
    {
        nop 4
        ldw,0 [ %r52 + 0 ], %r53, mas=0x7
    }
        adds 1, %r53, %r53
    {
        stw,2 %r53, [ %r52 + 0 ], mas=0x2
        ibranch .Lmeet_\counter ? %MLOCK
    }
        wait st_c=1, ld_c=1
.Lmet_\counter:
        ldw [ %r52 + 0 ], %r53
        cmplsb %r53, CPUS, %pred0
        ibranch .Lmet_\counter ? %pred0
.endm
// Map the page of 1 << r12 bytes at r10 to the address r11.
.macro MAP tag
        addd 0, ROOT, %r20
    .irp shift, 39, 30, 21
        addd 0, \shift, %r24
        shrd %r11, \shift, %r21
        andd %r21, 511, %r21
        shld %r21, 3, %r21
        addd %r20, %r21, %r21               // its place
        cmpedb %r12, %r24, %pred0
        ibranch .Lleaf_\tag ? %pred0
        ldd [ %r21 + 0 ], %r20
        cmpedb %r20, 0, %pred0
        ibranch .Lthere_\tag\()_\shift ? ~%pred0
        addd 0, PA(next), %r22
        ldd [ %r22 + 0 ], %r20
        addd %r20, 0x1000, %r23
        std %r23, [ %r22 + 0 ]
        ord %r20, TABLE, %r20
        std %r20, [ %r21 + 0 ]
.Lthere_\tag\()_\shift:
        addd 0, 0xfffffff000, %r23
        andd %r20, %r23, %r20
    .endr
        shrd %r11, 12, %r21
        andd %r21, 511, %r21
        shld %r21, 3, %r21
        addd %r20, %r21, %r21
        addd 0, PTE, %r23
        ibranch .Lput_\tag
.Lleaf_\tag:
        addd 0, PTE | 0x80, %r23
.Lput_\tag:
        ord %r10, %r23, %r23
        std %r23, [ %r21 + 0 ]
.endm
.macro SAY character
        // the serial port at r41
.Lsay_\@:
        addd 0, 0, %r50
        stb,2 %r50, [ %r41 + 0 ], mas=6
    {
        nop 4
        ldb,2 [ %r41 + 0 ], %r50, mas=6
    }
        cmpandedb %r50, 4, %pred0
        ibranch .Lsay_\@ ? %pred0
        addd 0, \character, %r50
        stb,2 %r50, [ %r41 + 1 ], mas=6
.endm

        .text
trap:                                       // entry 0 of the trap table
        setwd wsz=30, nfx=1
        rrd %tir.hi, %r10
        rrd %tir.lo, %r11
        OUT w, EXIT, 2
        ibranch trap

        .org 12 * 0x800
        // system call 12: r0 = 0, r1 = boot block
        setwd wsz=30, nfx=1
        WAIT_ALL
        SET upsr, 1
        IN w, PIC + PIC_BSP, %r42
        andd %r42, 0x100, %r42              // not 0: the first CPU
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        addd 0, 0, %dg\n
    .endr
        addd 0, PHYS_BASE, %r40
        cmpedb %r0, 0, %pred0
        ibranch wrong ? ~%pred0

        // the model, the boot block: signature, CPUs, kernel, memory, MP table, serial port
        rrd %idr, %r10
        shrd %r10, 15, %r44
        andd %r44, 31, %r44                 // the core
        andd %r10, 0xff, %r10
    {
        nop 4
        ldb,2 [ %r1 + 2 ], %r11
    }
        cmpedb %r10, %r11, %pred0
        ibranch wrong ? ~%pred0
        rrd %core_mode, %r10
        NEED %r10, 0
        ldh [ %r1 + 0 ], %r10
        NEED %r10, 0xe200
        ldh [ %r1 + 0x28 ], %r10
        NEED %r10, CPUS
        ldd [ %r1 + 8 ], %r10
        NEED %r10, PHYS_BASE
        ldd [ %r1 + 0xd8 ], %r10
        NEED %r10, 0
        ldd [ %r1 + 0x30 ], %r10
        ldw [ %r10 + 0 ], %r10
        NEED %r10, 0x5f504d5f
        ldd [ %r1 + 0x38 ], %r41
        NEED %r41, SERIAL
        IN w, PIC + PIC_ID, %r43
        shrs %r43, PIC_SHIFT, %r43
        andd %r43, 0xff, %r43               // the CPU's number
        cmpedb %r43, %r44, %pred0
        ibranch wrong ? ~%pred0
        MEET met0

        // PSR: UPSR decides about interrupts; registers of the kernel's image
        rrs %psr, %r10
        ors %r10, 0x50, %r10
        rws %r10, %psr
        SET gd.lo, PHYS_BASE + 0x10000 | 3 << 59
        SET gd.hi, 0x10000 << 32
        SET osgd.lo, PHYS_BASE + 0x10000 | 3 << 59
        SET osgd.hi, 0x10000 << 32
        SET cud.lo, PHYS_BASE | 1 << 59 | 1 << 58
        SET cud.hi, 0x100000 << 32
        SET oscud.lo, PHYS_BASE | 1 << 59 | 1 << 58
        SET oscud.hi, 0x100000 << 32
        shld %r43, 12, %r10
        addd %r10, 0x02300000, %r10
        mmurw %r10, %trap_point
    {
        nop 4
        mmurr %trap_point, %r11
    }
        cmpedb %r10, %r11, %pred0
        ibranch wrong ? ~%pred0
        MMU trap_count, 0
        MEET met1

        // page tables: by the first CPU. The kernel in pages of 2 MiB, memory at PAGE_OFFSET, devices, and the page where
        // translation is switched on at its equal address
        cmpedb %r42, 0, %pred0
        ibranch .Ltables ? %pred0
#ifdef V6
        SET core_mode, 1 << 5
        SET oscuir, 0
#endif
        addd 0, SERIAL & ~0xfff, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP serial
        addd 0, PIC, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP pic
        addd 0, 0x81300000, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP timer
        addd 0, 0xfec00000, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP ioapic
        addd 0, SIC, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP sic
        addd 0, PHYS_BASE, %r10
        addd 0, KERNEL, %r11
        addd 0, 21, %r12
        MAP text
        addd 0, 0x02200000, %r10
        addd 0, PAGE_OFFSET + 0x02200000, %r11
        MAP stacks
        addd 0, 0x02000000, %r10
        addd 0, PAGE_OFFSET + 0x02000000, %r11
        MAP memory
        addd 0, EXIT & ~0xfff, %r10
        addd %r10, IO_BASE, %r11
        addd 0, 12, %r12
        MAP exit
        addd 0, PA(switch), %r10
        andd %r10, ~0xfff, %r10
        addd 0, %r10, %r11
        MAP equal
.Ltables:
        MEET met2

        // the registers of the MMU, the stacks at their virtual addresses, then translation
        WAIT_ALL
        SET cuir, 0
        SET cutd, PHYS_BASE + 0x20000
#ifdef V6
        MMU os_vptb, 0xff8000000000         // spaces of their own, of which the system's has everything at first
        MMU os_pptb, ROOT
        MMU pid, 0
        MMU u_vptb, 0x7f8000000000
        MMU u_pptb, ROOT
        MMU os_vab, 0
        SET core_mode, 1 << 5 | 1 << 2
#else
        MMU elb_ptb, 0xff8000000000
        MMU root_ptb, ROOT
        MMU cont, 0
#endif
        WAIT_ALL
        shld %r43, 18, %r44
        addd 0, PAGE_OFFSET + STACKS, %r10
        addd %r44, %r10, %r44               // 256 KiB for each CPU
        addd 0, virtual, %r45
    {
        nop 4
        movtd %r45, %ctpr1
    }
        ibranch switch

        .align 4096
switch:
        flushr
        nop 2
        flushc
        nop 3
        ord %r44, 3 << 59, %r10
        rwd %r10, %psp.lo
        SET psp.hi, 0x8000 << 32
        addd %r44, 0x10000, %r10
        ord %r10, 3 << 59, %r10
        rwd %r10, %pcsp.lo
        SET pcsp.hi, 0x8000 << 32
        addd %r44, 0x30000, %r10
        rwd %r10, %sbr
        rwd %r10, %usd.lo
        SET usd.hi, 0x8000 << 32
        rrd %psr, %r10
        ord %r10, 4, %r10
        rwd %r10, %psr
        SET cud.lo, KERNEL | 1 << 59 | 1 << 58
        SET oscud.lo, KERNEL | 1 << 59 | 1 << 58
        SET gd.lo, KERNEL + 0x10000 | 3 << 59
        SET osgd.lo, KERNEL + 0x10000 | 3 << 59
        SET cutd, KERNEL + 0x20000
        WAIT_ALL
        SET ctpr2, 0
        SET ctpr3, 0
        MMU mmu_cr, 0x21
        WAIT_ALL
        setbn rsz=3, rbs=26, rcur=0
        addd 0, %r42, %b[0]
        addd 0, %r43, %b[1]
        call %ctpr1, wbs=26
wrong:
        addd 0, EXIT, %r50
        addd 0, 1, %r51
        stw,2 %r51, [ %r50 + 0 ], mas=6
        addd 0, EXIT + IO_BASE, %r50
        stw,2 %r51, [ %r50 + 0 ], mas=6
        ibranch wrong

        .align 4096
virtual:                                    // r0: this is the first CPU, r1: its number
        setwd wsz=30, nfx=1
        addd 0, KERNEL, %r40
        addd 0, SERIAL + IO_BASE, %r41
        addd 0, PIC + IO_BASE, %r45
        addd 0, IO_BASE, %r46
#ifdef V6
        MMU os_vab, PAGE_OFFSET
#endif
        rrd %ip, %r10
        shrd %r10, 40, %r10
        NEED %r10, KERNEL >> 40
        addd 0, 0, %r10
        addd 0, 1, %r11
        std,2 %r10, [ %r11 + 0 ], mas=0x27  // TLB, instruction cache, data caches written back
        std,2 %r10, [ %r10 + 0 ], mas=0x27
        std,2 %r10, [ %r11 + 0 ], mas=0x07
        WAIT_ALL
        MEET met3
        cmpedb %r0, 0, %pred0
        ibranch .Lsecond ? %pred0
        SAY 'v'

        // registers that a kernel looks at or sets when it begins
    .irp name, upsr, idr, core_mode, wd, cwd, bgr, sbr, rpr, clkr, sclkr, sclkm1, sclkm2, sclkm3, cu_hw0, pshtp, pcshtp, dibcr
        rrd %\name, %r10
    .endr
    .irp name, dibsr, dimcr, dimar0, dimar1, dibar0, dibar1, dibar2, dibar3, dtcr, fpcr, fpsr, pfpfr, lsr, ilcr, osr0, cuir
        rrd %\name, %r10
    .endr
    .irp name, dibcr, dibsr, dimcr, dibar0, dibar1, dibar2, dibar3, osr0, osem, rpr
        SET \name, 0
    .endr
    .irp name, ddbcr, ddmcr, ddbsr, ddbar0, ddbar1, ddbar2, ddbar3, ddmar0, ddmar1
        mmurr %\name, %r10
        MMU \name, 0
    .endr
    .irp name, mmu_cr, trap_count, us_cl_d, us_cl_b, us_cl_up, us_cl_m0, mtrr0, mtrr32, pat, apic_base, mu_hw0
        mmurr %\name, %r10
    .endr
        MMU trap_count, 0
        SET fpcr, 0x37f
        SET pfpfr, 0x1f80
        SET fpsr, 0
        rrd %sclkm1, %r10                   // the system clock: its frequency, then seconds of its own
        addd 0, 0xffffffff, %r11
        andd %r10, %r11, %r10
        cmpedb %r10, 0, %pred0
        ibranch wrong ? %pred0
        addd 0, 9 << 32, %r12
        ord %r10, %r12, %r12
        rwd %r12, %sclkm1
        rrd %sclkr, %r12
        andd %r12, %r11, %r12
        cmpbdb %r12, %r10, %pred0
        ibranch wrong ? ~%pred0
        rrd %clkr, %r11
        rrd %clkr, %r12
        cmpbdb %r12, %r11, %pred0
        ibranch wrong ? %pred0
        SAY 'r'

        // the north bridge: nodes, memory, PCI
        addd 0, SIC + IO_BASE, %r20
    .irp offset, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x30, 0x90
    {
        nop 4
        ldw,2 [ %r20 + \offset ], %r10, mas=6
    }
    .endr
    {
        nop 4
        ldw,2 [ %r20 + 0x900 ], %r10, mas=6 // the I/O link: an IOHUB, and it is on
    }
        andd %r10, 1, %r10
        NEED %r10, 1
    {
        nop 4
        ldw,2 [ %r20 + 0x704 ], %r10, mas=6
    }
        shrs %r10, 31, %r10
        NEED %r10, 1
        SAY 's'

        // interrupt controllers, and the system timer until it has rung three times
        rrs %upsr, %r10
        andns %r10, 0xa0, %r10
        rws %r10, %upsr
        addd 0, 0x81300000 + IO_BASE, %r21
        addd 0, 0xfec00000 + IO_BASE, %r22
#ifdef V6
    {
        nop 4
        ldw,2 [ %r45 + 0 ], %r10, mas=6     // CTRL: soft enable
    }
        ors %r10, 0x400, %r10
        stw,2 %r10, [ %r45 + 0 ], mas=6
        addd 0, 0, %r10
        stw,2 %r10, [ %r45 + 0x70 ], mas=6  // CPR
        stw,2 %r10, [ %r45 + 0x80 ], mas=6  // ESR
        addd 0, 0x3ff, %r10
        stw,2 %r10, [ %r45 + 0x2a0 ], mas=6 // SVR
#else
    {
        nop 4
        ldw,2 [ %r45 + 0x30 ], %r10, mas=6  // version
    }
        addd 0, 0xff000000, %r10
        stw,2 %r10, [ %r45 + 0xe0 ], mas=6  // DFR
        addd 0, 0x01000000, %r10
        stw,2 %r10, [ %r45 + 0xd0 ], mas=6  // LDR
        addd 0, 0, %r10
        stw,2 %r10, [ %r45 + 0x80 ], mas=6  // TPR
        stw,2 %r10, [ %r45 + 0x280 ], mas=6 // ESR
        addd 0, 0x1ff, %r10
        stw,2 %r10, [ %r45 + 0xf0 ], mas=6  // SPIV
        addd 0, 0x10000, %r10
    .irp offset, 0x320, 0x340, 0x350, 0x360, 0x370
        stw,2 %r10, [ %r45 + \offset ], mas=6
    .endr
        addd 0, 1, %r10                     // I/O APIC: version, then pin 2 by its routing entry
        stw,2 %r10, [ %r22 + 0 ], mas=6
    {
        nop 4
        ldw,2 [ %r22 + 16 ], %r10, mas=6
    }
        andd %r10, 0xff0000, %r10
        NEED %r10, 23 << 16
        addd 0, 0x15, %r10
        stw,2 %r10, [ %r22 + 0 ], mas=6
        addd 0, 0, %r10
        stw,2 %r10, [ %r22 + 16 ], mas=6
        addd 0, 0x14, %r10
        stw,2 %r10, [ %r22 + 0 ], mas=6
        addd 0, 0x31, %r10
        stw,2 %r10, [ %r22 + 16 ], mas=6
#endif
        addd 0, 5000 << 9, %r10
        stw,2 %r10, [ %r21 + 0 ], mas=6
        addd 0, 7, %r10
        stw,2 %r10, [ %r21 + 12 ], mas=6
#ifndef V6
        addd 0, 3, %r23
.Lrings:
        addd 0, 0x81300000 + IO_BASE, %r21
    {
        nop 4
        ldw,2 [ %r45 + 0x210 ], %r10, mas=6 // IRR: vector 0x31
    }
        cmpandedb %r10, 1 << 17, %pred0
        ibranch .Lrings ? %pred0
    {
        nop 4
        ldw,2 [ %r45 + 0xff0 ], %r10, mas=6
    }
        NEED %r10, 0x31
        addd 0, 0, %r10
        stw,2 %r10, [ %r45 + 0xb0 ], mas=6
        subd %r23, 1, %r23
        cmpedb %r23, 0, %pred0
        ibranch .Lrings ? ~%pred0
#endif
        SAY 'i'
        SAY '\n'
        addd 0, EXIT + IO_BASE, %r50
        addd 0, 0, %r51
        stw,2 %r51, [ %r50 + 0 ], mas=6
.Lend:
        ibranch .Lend

.Lsecond:
        ibranch .Lend

        .align 4096
met0:   .word 0
met1:   .word 0
met2:   .word 0
met3:   .word 0
next:   .quad ROOT + 0x1000
