// Sums, products and logic of 32 and 64 bits on pairs of numbers.
    BEGIN
loop:
    ROW
    T2 addd
    T2S adds
    T2 subd
    T2S subs
    T2 andd
    T2S ands
    T2 ord
    T2S ors
    T2 xord
    T2S xors
    T2 andnd
    T2S andns
    T2 ornd
    T2S orns
    T2 xornd
    T2S xorns
    T2 muld
    T2S muls
    T2 umulhd
    T2 smulhd
    T2X umulx
    T2X smulx
    NEXT loop, 32
    END
