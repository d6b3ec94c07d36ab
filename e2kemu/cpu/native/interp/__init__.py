"""The native interpreter: cold code in host code, without a compiler's pause.

module        what
handlers      the meaning of an operation as a function of host code
control       the beginning of a wide instruction and its conditions, also as host code
finish        its end: results, windows, transfers; the loop around it all
decoder       bytes of guest code to records that handlers execute; channels: the operations in it
lowlevel      the compiler of the part of Python that control and decoder are written in
tables        the decoder's tables
layout        records, tables and the interpreter's part of the context
build cache   making the host code, keeping it on disk
interpreter   the interpreter of one CPU
"""
