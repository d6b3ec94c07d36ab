// Compares of 32 and 64 bits with every condition.
    BEGIN
loop:
    ROW
    TP "cmpodb %dr1, %dr2"
    TP "cmposb %r1, %r2"
    TP "cmpbdb %dr1, %dr2"
    TP "cmpbsb %r1, %r2"
    TP "cmpedb %dr1, %dr2"
    TP "cmpesb %r1, %r2"
    TP "cmpbedb %dr1, %dr2"
    TP "cmpbesb %r1, %r2"
    TP "cmpsdb %dr1, %dr2"
    TP "cmpssb %r1, %r2"
    TP "cmppdb %dr1, %dr2"
    TP "cmppsb %r1, %r2"
    TP "cmpldb %dr1, %dr2"
    TP "cmplsb %r1, %r2"
    TP "cmpledb %dr1, %dr2"
    TP "cmplesb %r1, %r2"
    TP "cmpandedb %dr1, %dr2"
    TP "cmpandesb %r1, %r2"
    TP "cmpandsdb %dr1, %dr2"
    TP "cmpandssb %r1, %r2"
    TP "cmpandpdb %dr1, %dr2"
    TP "cmpandpsb %r1, %r2"
    TP "cmpandledb %dr1, %dr2"
    TP "cmpandlesb %r1, %r2"
    NEXT loop, 32
    END
