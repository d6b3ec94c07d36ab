// What the start of Embox for e2k (its board with an Elbrus-8C) does to the machine, in its order: facts from its public
// sources, code of our own. Two CPUs enter at the first byte, which is also entry 0 of the trap table. CPU 1 ends
// in its idle loop; CPU 0 reads boot block and MP table, prints, takes interrupts of the system timer with the MMU off and
// on, and ends with exit status 0. Status 1: something is not as it should be; 2: a trap that is no interrupt.

#define CPUS        2
#define LAPIC       0xfee00000
#define IOAPIC      0xfec00000
#define BLOCK       0x00ff0100
#define TABLES      0x01040000
#define STACK0      0x01140000
#define STACK1      0x01180000
#define EXIT        0x1010000f4

// Accesses to devices are those to I/O pages (mas 6); boot block and tables are read by physical address (mas 1).
.macro OUT address, value
        addd 0, \address, %r40
        addd 0, \value, %r41
        stw,2 %r41, [ %r40 + 0 ], mas=6
.endm
.macro IN address, to
        addd 0, \address, %r40
    {
        nop 4
        ldw,2 [ %r40 + 0 ], \to, mas=6
    }
.endm
.macro PHYS size, address, to
        addd 0, \address, %r40
    {
        nop 4
        ld\size,2 [ %r40 + 0 ], \to, mas=1
    }
.endm
.macro NEED value, is
        addd 0, \is, %r41
        cmpedb \value, %r41, %pred0
        ibranch wrong ? ~%pred0
.endm
.macro ADD1 counter
        addd 0, \counter, %r42
.Ladd_\counter\@:
    {
        nop 4
        ldw,0 [ %r42 + 0 ], %r43, mas=0x7
    }
        adds 1, %r43, %r43
    {
        stw,2 %r43, [ %r42 + 0 ], mas=0x2
        ibranch .Ladd_\counter\@ ? %MLOCK
    }
        .word 0x00008001, 0x30000084        // wait st_c, sas: older CPUs do not know sas
.endm
.macro PUTC
        // the character in r45, the port in r30
.Lputc\@:
    {
        nop 4
        ldb,2 [ %r30 + 0 ], %r44, mas=6
    }
        cmpandedb %r44, 4, %pred0
        ibranch .Lputc\@ ? %pred0
        stb,2 %r45, [ %r30 + 1 ], mas=6
    {
        nop 4
        ldb,2 [ %r30 + 0 ], %r44, mas=6
    }
.endm
.macro SAY character
        addd 0, \character, %r45
        PUTC
.endm

        .text
entry0:                                     // the first CPU_COUNT times a CPU that starts, then traps
        setwd wsz=13, nfx=1
        rrd %ctpr1, %r1
        rrd %ctpr2, %r2
        rrd %ctpr3, %r3
        rrd %ilcr, %r4
        rrd %lsr, %r5
        getsp -0x40, %r0
        std %r1, [ %r0 + 0 ]
        std %r2, [ %r0 + 8 ]
        std %r3, [ %r0 + 16 ]
        std %r4, [ %r0 + 24 ]
        std %r5, [ %r0 + 32 ]
        disp %ctpr1, entered
        ct %ctpr1

        .org 0x1800
entered:
        setwd wsz=28, nfx=1
        addd 0, entries, %r10
        ldw [ %r10 + 0 ], %r10
        cmplsb %r10, CPUS, %pred0
        ibranch boot ? %pred0

tirs:                                       // a trap: empty the TIRs
        rrd %tir.hi, %r10
        rrd %tir.lo, %r11
        shrd %r10, 56, %r12
        cmpedb %r12, 0, %pred0
        ibranch tirs ? ~%pred0
        rwd %r11, %tir.lo
        shrd %r10, 32, %r12
        cmpandedb %r12, 1, %pred0
        ibranch trapped ? %pred0
        IN LAPIC + 0xff0, %r12
        subs %r12, 0x20, %r12
        NEED %r12, 2
        addd 0, ticks, %r10
        ldw [ %r10 + 0 ], %r11
        adds %r11, 1, %r11
        stw %r11, [ %r10 + 0 ]
        OUT LAPIC + 0xb0, 0
        ldd [ %r0 + 0 ], %r1
        ldd [ %r0 + 8 ], %r2
        ldd [ %r0 + 16 ], %r3
        ldd [ %r0 + 24 ], %r4
        ldd [ %r0 + 32 ], %r5
        rwd %r1, %ctpr1
        rwd %r2, %ctpr2
        rwd %r3, %ctpr3
        rwd %r4, %ilcr
        rwd %r5, %lsr
    {
        nop 3
    }
    {
        done
    }

trapped:
        OUT EXIT, 2
wrong:
        OUT EXIT, 1
        ibranch wrong

boot:
        setbn rsz=3, rbs=24, rcur=0
        wait ma_c=1, fl_c=1, all_e=1, all_c=1
        ADD1 entries
        IN LAPIC + 0x20, %r12
        shrs %r12, 24, %r12
        cmpesb %r12, 0, %pred0
        ibranch first ? %pred0
.Lsync:
        addd 0, sync, %r10
        ldw [ %r10 + 0 ], %r10
        cmpesb %r10, 0, %pred0
        ibranch .Lsync ? %pred0
        addd 0, context1, %b[1]
        ibranch switch
first:
        ADD1 sync
        addd 0, context0, %b[1]
switch:
        addd 0, nowhere, %b[0]
    {
        nop 4
        disp %ctpr1, context_switch
    }
        call %ctpr1, wbs=24
        ibranch wrong

context_switch:
        setwd wsz=0x10, nfx=0
        rrd %upsr, %r2
        std %r2, [ %r0 + 0x50 ]
        andnd %r2, 0xa0, %r2
        rwd %r2, %upsr
        flushr
        nop 2
        flushc
        nop 3
        rrd %cr0.lo, %r2
        rrd %cr0.hi, %r3
        rrd %cr1.lo, %r4
        rrd %cr1.hi, %r5
        std %r2, [ %r0 + 0 ]
        std %r3, [ %r0 + 8 ]
        std %r4, [ %r0 + 16 ]
        std %r5, [ %r0 + 24 ]
        rrd %usd.lo, %r3
        rrd %usd.hi, %r4
        rrd %psp.lo, %r5
        rrd %psp.hi, %r6
        rrd %pcsp.lo, %r7
        rrd %pcsp.hi, %r8
        std %r3, [ %r0 + 0x20 ]
        std %r4, [ %r0 + 0x28 ]
        std %r5, [ %r0 + 0x30 ]
        std %r6, [ %r0 + 0x38 ]
        std %r7, [ %r0 + 0x40 ]
        std %r8, [ %r0 + 0x48 ]
        ldd [ %r1 + 0 ], %r2
        ldd [ %r1 + 8 ], %r3
        ldd [ %r1 + 16 ], %r4
        ldd [ %r1 + 24 ], %r5
        rwd %r2, %cr0.lo
        rwd %r3, %cr0.hi
        rwd %r4, %cr1.lo
        rwd %r5, %cr1.hi
        ldd [ %r1 + 0x20 ], %r3
        ldd [ %r1 + 0x28 ], %r4
        ldd [ %r1 + 0x30 ], %r5
        ldd [ %r1 + 0x38 ], %r6
        ldd [ %r1 + 0x40 ], %r7
        ldd [ %r1 + 0x48 ], %r8
        rwd %r3, %usd.lo
        rwd %r4, %usd.hi
        rwd %r5, %psp.lo
        rwd %r6, %psp.hi
        rwd %r7, %pcsp.lo
        rwd %r8, %pcsp.hi
        ldd [ %r1 + 0x50 ], %r2
        rwd %r2, %upsr
    {
        nop 5
        return %ctpr3
    }
        ct %ctpr3

idle:                                       // CPU 1
        setwd wsz=24, nfx=1
        ADD1 idled
.Lidle:
        ibranch .Lidle

kernel:                                     // CPU 0, on stacks of its own
        setwd wsz=28, nfx=1
.Lothers:
        addd 0, idled, %r10
        ldw [ %r10 + 0 ], %r10
        cmplsb %r10, CPUS - 1, %pred0
        ibranch .Lothers ? %pred0
        getsp -0x100, %r10                  // the stack is that of the context
        NEED %r10, STACK0 - 0x20000 - 0x100
        rrs %psr, %r10
        ors %r10, 0x32, %r10
        rws %r10, %psr
        rrs %upsr, %r10
        andns %r10, 1, %r10
        rws %r10, %upsr
        addd 0, entries, %r10
        addd 0, 8, %r11
        stw %r11, [ %r10 + 0 ]

        // MP table: signatures, then entry after entry to the timer's
        PHYS d, BLOCK + 0x30, %r20
        PHYS w, %r20, %r10
        NEED %r10, 0x5f504d5f
        addd %r20, 8, %r21
        PHYS d, %r21, %r20
        PHYS w, %r20, %r10
        NEED %r10, 0x504d4350
        addd %r20, 34, %r21
        PHYS h, %r21, %r22
        addd %r20, 44, %r20
        addd 0, 0, %r31
.Lentry:
        PHYS b, %r20, %r10
        cmpedb %r10, 5, %pred0
        ibranch .Lnot_timer ? ~%pred0
        addd %r20, 8, %r21
        PHYS d, %r21, %r31
.Lnot_timer:
        addd 0, sizes, %r11
        ldb [ %r11 + %r10 ], %r11
        addd %r20, %r11, %r20
        subd %r22, 1, %r22
        cmpedb %r22, 0, %pred0
        ibranch .Lentry ? ~%pred0
        cmpedb %r31, 0, %pred0
        ibranch wrong ? %pred0
        shrd %r31, 32, %r10
        NEED %r10, 0
        PHYS w, BLOCK + 0x38, %r30
        PHYS b, BLOCK + 0x5c2, %r10
        NEED %r10, 7
        SAY 'b'

        // PCI: every device of bus 0 and 1 is asked for its id, 32 bits at a time
        addd 0, 0x200000000, %r20
        addd 0, 0, %r22
.Lpci:
    {
        nop 4
        ldw,2 [ %r20 + 0 ], %r10, mas=6
    }
        addd 0, 0xffffffff, %r11
        cmpedb %r10, %r11, %pred0
        addd,0 %r22, 1, %r22 ? ~%pred0
        addd %r20, 0x1000, %r20
        addd 0, 0x200200000, %r11
        cmpbdb %r20, %r11, %pred0
        ibranch .Lpci ? %pred0
        NEED %r22, 4                        // bridge; SPI, SPMC, ports
        SAY 'p'

        // the serial port with interrupts: it waits until a byte is on its way
.Lsnt:
        addd 0, 1, %r10
        stb,2 %r10, [ %r30 + 0 ], mas=6
    {
        nop 4
        ldb,2 [ %r30 + 0 ], %r10, mas=6
    }
        cmpandedb %r10, 1, %pred0
        ibranch .Lsnt ? ~%pred0
    .irp value, 1, 0x10, 9, 0x0a
        addd 0, \value, %r10
        stb,2 %r10, [ %r30 + 0 ], mas=6
    .endr
        SAY 'u'

        // interrupts on: UPSR, floating point, local APIC, pin 2 of the I/O APIC, system timer
        rrs %upsr, %r10
        ors %r10, 0xa1, %r10
        rws %r10, %upsr
        rrs %pfpfr, %r10
        ors %r10, 0x1f80, %r10
        rws %r10, %pfpfr
        addd 0, 0x37f, %r10
        rws %r10, %fpcr
        OUT LAPIC + 0xd0, 0x01000000
        OUT LAPIC + 0xe0, 0xf0000000
        IN LAPIC + 0xf0, %r10
        ors %r10, 0x100, %r10
        OUT LAPIC + 0xf0, %r10
        IN LAPIC + 0xd0, %r11
        OUT IOAPIC, 0x14
        OUT IOAPIC + 0x10, 0x822
        OUT IOAPIC, 0x15
        OUT IOAPIC + 0x10, %r11
        addd 0, 5000 << 9, %r10
        stw,2 %r10, [ %r31 + 0 ], mas=6
        addd 0, 7, %r10
        stw,2 %r10, [ %r31 + 12 ], mas=6
    {
        nop 4
        ldd,2 [ %r31 + 0x1c ], %r33, mas=6   // both halves of POWER_COUNTER at once
    }
        addd 0, 3, %r23
.Lticks:
        addd 0, ticks, %r10
        ldw [ %r10 + 0 ], %r10
        cmplsb %r10, %r23, %pred0
        ibranch .Lticks ? %pred0
    {
        nop 4
        ldd,2 [ %r31 + 0x1c ], %r34, mas=6
    }
        subd %r34, %r33, %r10
        cmpbdb %r10, 5000, %pred0           // three periods of 1 ms; a busy host makes up for late ones
        ibranch wrong ? %pred0
        cmpedb %r23, 6, %pred0
        ibranch .Lend ? %pred0
        SAY 't'

        // page tables of 4 KiB pages, equal addresses; no accessed and dirty bits
        addd 0, areas, %r20
.Larea:
        ldd [ %r20 + 0 ], %r21
        ldd [ %r20 + 8 ], %r22
        cmpedb %r22, 0, %pred0
        ibranch .Lmapped ? %pred0
.Lpage:
        addd 0, TABLES, %r10
    .irp shift, 39, 30, 21
        shrd %r21, \shift, %r11
        andd %r11, 511, %r11
        shld %r11, 3, %r11
        addd %r10, %r11, %r11
        ldd [ %r11 + 0 ], %r10
        cmpedb %r10, 0, %pred0
        ibranch .Lhave\shift ? ~%pred0
        addd 0, next_table, %r12
        ldd [ %r12 + 0 ], %r10
        addd %r10, 0x1000, %r13
        std %r13, [ %r12 + 0 ]
        ord %r10, 0x30000000103, %r10       // PV, VALID, G, W, P
        std %r10, [ %r11 + 0 ]
.Lhave\shift:
        andd %r10, 0xfffffff000, %r10
    .endr
        shrd %r21, 12, %r11
        andd %r11, 511, %r11
        shld %r11, 3, %r11
        ord %r21, 0x30000000103, %r12
        std %r12, [ %r10 + %r11 ]
        addd %r21, 0x1000, %r21
        subd %r22, 1, %r22
        cmpedb %r22, 0, %pred0
        ibranch .Lpage ? ~%pred0
        addd %r20, 16, %r20
        ibranch .Larea
.Lmapped:
        rrs %upsr, %r35                     // as in a critical section
        andns %r35, 0xa0, %r10
        rws %r10, %upsr
        addd 0, TABLES, %r10
        mmurw %r10, %root_ptb
        addd 0, 0xff8000000000, %r10
        mmurw %r10, %elb_ptb
        addd 0, 0, %r10
        mmurw %r10, %cont
        flushr
        nop 2
        flushc
        nop 3
        wait ma_c=1, fl_c=1, all_e=1, all_c=1
    {
        nop 4
        mmurr %mmu_cr, %r10
    }
        wait ma_c=1, fl_c=1, all_e=1, all_c=1
        addd 0, 0x21, %r10
        mmurw %r10, %mmu_cr
        wait ma_c=1, fl_c=1, all_e=1, all_c=1
    {
        nop 4
        mmurr %root_ptb, %r10
    }
        NEED %r10, TABLES
        wait st_c=1
        addd 0, 0, %r10
        addd 0, 1, %r11
        std,2 %r10, [ %r11 + 0 ], mas=0x27  // flush of the TLB
        wait fl_c=1, ma_c=1
        rws %r35, %upsr
        SAY 'm'
        addd 0, 6, %r23
        ibranch .Lticks
.Lend:
        SAY '\n'
        OUT EXIT, 0
.Lstop:
        ibranch .Lstop

        .align 64
entries:    .word 0
sync:       .word 0
idled:      .word 0
ticks:      .word 0
sizes:      .byte 20, 8, 16, 8, 8, 16, 24, 40, 8, 8, 8, 16, 8, 8, 8, 8
        .align 8
next_table: .quad TABLES + 0x1000
areas:      .quad 0x01000000, 512, LAPIC, 1, IOAPIC, 1, 0x81200000, 1, 0x81300000, 1, 0x101000000, 1, 0, 0
nowhere:    .skip 0x58
// cr0, cr1 (PSR: pm, ie, uie, nmie; ussz), usd, psp, pcsp with one entry, upsr: stacks are parts of one area
context0:   .quad 0, kernel, 0x33 << 57, 0x2000 << 36, STACK0 - 0x20000, 0x20000 << 32
            .quad STACK0 - 0x10000 | 3 << 59, 0x10000 << 32, STACK0 - 0x20000 | 3 << 59, 0x10000 << 32 | 32, 0
context1:   .quad 0, idle, 0x33 << 57, 0x2000 << 36, STACK1 - 0x20000, 0x20000 << 32
            .quad STACK1 - 0x10000 | 3 << 59, 0x10000 << 32, STACK1 - 0x20000 | 3 << 59, 0x10000 << 32 | 32, 0
