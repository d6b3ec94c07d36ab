// A boot ROM that works on the first virtio disk by polling: every 4 KiB block (BLOCKS of them, STRIDE sectors
// apart) is read and compared with what was written a lap ago, written anew and read back; then 'L' is printed
// and the next lap begins. The first word of a sector is (lap << 32 | sector). A wrong word prints 'F' and
// exits with 4; a device that does not answer as it should, with 3. DELAY: microseconds of rest after a block.
#define VIRTIO  0x81301000
#define SERIAL  0x1010003f8
#define EXIT    0x1010000f4
#define REST    0x1010000f8
#define MEMORY  0x100000        // descriptors; +0x1000 driver area, +0x2000 device area
#define HEADER  0x103000        // header of the request; +16 status
#define OUT     0x104000
#define IN      0x106000
#define SIZE    8

.macro POKE offset, value
        addd,0 0, \value, %r6
        stw,2 %r6, [ %r1 + \offset ]
.endm

.macro DESCRIBE number, address, length, flags, following
        addd,0 0, \address, %r6
        std,2 %r6, [ %r2 + 16 * \number ]
        addd,0 0, \length, %r6
        stw,2 %r6, [ %r2 + 16 * \number + 8 ]
        addd,0 0, \flags, %r6
        sth,2 %r6, [ %r2 + 16 * \number + 12 ]
        addd,0 0, \following, %r6
        sth,2 %r6, [ %r2 + 16 * \number + 14 ]
.endm

// One request for the 8 sectors from %r10 on; 1: type, 2: buffer, 3: its flags
.macro REQUEST type, buffer, flags
        addd,0 0, \type, %r6
        addd,0 0, HEADER, %r7
        std,2 %r6, [ %r7 + 0 ]
        std,2 %r10, [ %r7 + 8 ]
        addd,0 0, 0xff, %r6
        stb,2 %r6, [ %r7 + 16 ]
        DESCRIBE 0, HEADER, 16, 1, 1
        DESCRIBE 1, \buffer, 4096, 1 + \flags, 2
        DESCRIBE 2, HEADER + 16, 1, 2, 0
        addd,0 %r3, 1, %r3
        andd,0 %r3, 0xffff, %r3
        sth,2 %r3, [ %r2 + 0x1002 ]     // the ring holds descriptor 0 everywhere
        POKE 0x50, 0
1:
        ldh,0 [ %r2 + 0x2002 ], %r6
        cmpesb,0 %r6, %r3, %pred0
        ibranch 1b ? ~%pred0
        ldb,0 [ %r7 + 16 ], %r6
        cmpesb,0 %r6, 0, %pred0
        ibranch broken ? ~%pred0
.endm

// Compare the first words of IN's sectors with lap %r8
.macro COMPARE
        shld,0 %r8, 32, %r11
        ord,0 %r11, %r10, %r11
        addd,0 0, IN, %r12
        addd,0 0, 8, %r13
2:
        ldd,0 [ %r12 + 0 ], %r6
        cmpedb,0 %r6, %r11, %pred0
        ibranch fault ? ~%pred0
        addd,0 %r11, 1, %r11
        addd,0 %r12, 512, %r12
        subd,0 %r13, 1, %r13
        cmpedb,0 %r13, 0, %pred0
        ibranch 2b ? ~%pred0
.endm

    .text
    .global _start
_start:
    {
        setwd wsz=32, nfx=1
    }
        addd,0 0, VIRTIO, %r1
        addd,0 0, MEMORY, %r2
        addd,0 0, SERIAL, %r9
        ldw,0 [ %r1 + 0 ], %r6
        cmpesb,0 %r6, 0x74726976, %pred0
        ibranch broken ? ~%pred0
        ldw,0 [ %r1 + 8 ], %r6
        cmpesb,0 %r6, 2, %pred0
        ibranch broken ? ~%pred0
        POKE 0x70, 0
        POKE 0x70, 3
        POKE 0x24, 1
        POKE 0x20, 1                    // VERSION_1
        POKE 0x70, 11
        ldw,0 [ %r1 + 0x70 ], %r6
        cmpesb,0 %r6, 11, %pred0
        ibranch broken ? ~%pred0
        POKE 0x30, 0
        POKE 0x38, SIZE
        POKE 0x80, MEMORY
        POKE 0x90, MEMORY + 0x1000
        POKE 0xa0, MEMORY + 0x2000
        POKE 0x44, 1
        POKE 0x70, 15
        addd,0 0, 0, %r3
        addd,0 0, 1, %r4                // lap

lap:
        addd,0 0, 0, %r5                // block
        addd,0 0, 0, %r10               // its first sector
block:
        subd,0 %r4, 1, %r8
        cmpedb,0 %r8, 0, %pred0
        ibranch first ? %pred0
        REQUEST 0, IN, 2
        COMPARE
first:
        addd,0 %r4, 0, %r8
        shld,0 %r8, 32, %r11
        ord,0 %r11, %r10, %r11
        addd,0 0, OUT, %r12
        addd,0 0, 8, %r13
3:
        std,2 %r11, [ %r12 + 0 ]
        addd,0 %r11, 1, %r11
        addd,0 %r12, 512, %r12
        subd,0 %r13, 1, %r13
        cmpedb,0 %r13, 0, %pred0
        ibranch 3b ? ~%pred0
        REQUEST 1, OUT, 0
        REQUEST 0, IN, 2
        COMPARE
        addd,0 0, REST, %r7
        addd,0 0, DELAY, %r6
        stw,2 %r6, [ %r7 + 0 ]
        addd,0 %r10, STRIDE, %r10
        addd,0 %r5, 1, %r5
        cmpedb,0 %r5, BLOCKS, %pred0
        ibranch block ? ~%pred0
        addd,0 0, 0x4c, %r6
        stb,2 %r6, [ %r9 + 0 ]
        addd,0 %r4, 1, %r4
        ibranch lap

fault:
        addd,0 0, 0x46, %r6
        stb,2 %r6, [ %r9 + 0 ]
        addd,0 0, 4, %r6
        ibranch exit
broken:
        addd,0 0, 3, %r6
exit:
        addd,0 0, EXIT, %r7
        stw,2 %r6, [ %r7 + 0 ]
4:
        ibranch 4b
