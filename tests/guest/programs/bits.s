// Counts and reversal of bits.
    BEGIN
loop:
    ROW
    T1 bitrevd
    T1S bitrevs
    T1 lzcntd
    T1S lzcnts
    T1 popcntd
    T1S popcnts
    NEXT loop, 32
    END
