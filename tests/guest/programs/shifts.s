// Shifts and rotations by %dr3 (up to 31) and %dr4 (up to 63), fields %dr5 of 32 and %dr6 of 64 bits, sign extension.
    BEGIN
loop:
    ROW8
    TO "shls %r1, %r3, %r10"
    TO "shld %dr1, %dr4, %dr10"
    TO "shrs %r1, %r3, %r10"
    TO "shrd %dr1, %dr4, %dr10"
    TO "sars %r1, %r3, %r10"
    TO "sard %dr1, %dr4, %dr10"
    TO "scls %r1, %r3, %r10"
    TO "scld %dr1, %dr4, %dr10"
    TO "scrs %r1, %r3, %r10"
    TO "scrd %dr1, %dr4, %dr10"
    TO "getfs %r1, %r5, %r10"
    TO "getfd %dr1, %dr6, %dr10"
    TO "insfs %r1, %r5, %r2, %r10"
    TO "insfd %dr1, %dr6, %dr2, %dr10"
    TO "sxt 0, %r1, %dr10"
    TO "sxt 1, %r1, %dr10"
    TO "sxt 2, %r1, %dr10"
    TO "sxt 4, %r1, %dr10"
    TO "sxt 5, %r1, %dr10"
    TO "sxt 6, %r1, %dr10"
    NEXT loop, 64
    END
