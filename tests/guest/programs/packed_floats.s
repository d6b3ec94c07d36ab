// Packed single and double in 64 bits: %dr5 %dr6 are pairs of singles.
    BEGIN
loop:
    ROW8
    TF "pfaddd %dr1, %dr2, %dr10"
    TF "pfadds %dr5, %dr6, %dr10"
    TF "pfsubd %dr1, %dr2, %dr10"
    TF "pfsubs %dr5, %dr6, %dr10"
    TF "pfmuld %dr1, %dr2, %dr10"
    TF "pfmuls %dr5, %dr6, %dr10"
    TF "pfmind %dr1, %dr2, %dr10"
    TF "pfmins %dr5, %dr6, %dr10"
    TF "pfmaxd %dr1, %dr2, %dr10"
    TF "pfmaxs %dr5, %dr6, %dr10"
    TF "pfcmpeqd %dr1, %dr2, %dr10"
    TF "pfcmpeqs %dr5, %dr6, %dr10"
    TF "pfcmpltd %dr1, %dr2, %dr10"
    TF "pfcmplts %dr5, %dr6, %dr10"
    TF "pfcmpled %dr1, %dr2, %dr10"
    TF "pfcmples %dr5, %dr6, %dr10"
    TF "pfcmpuodd %dr1, %dr2, %dr10"
    TF "pfcmpuods %dr5, %dr6, %dr10"
    TF "pfcmpneqd %dr1, %dr2, %dr10"
    TF "pfcmpneqs %dr5, %dr6, %dr10"
    TF "pfcmpnltd %dr1, %dr2, %dr10"
    TF "pfcmpnlts %dr5, %dr6, %dr10"
    TF "pfcmpnled %dr1, %dr2, %dr10"
    TF "pfcmpnles %dr5, %dr6, %dr10"
    TF "pfcmpodd %dr1, %dr2, %dr10"
    TF "pfcmpods %dr5, %dr6, %dr10"
    NEXT loop, 64
    END
