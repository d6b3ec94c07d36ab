"""The native tiers: e2k code executed as host code that LLVM generates.

module      what
values      the value builder that writes LLVM IR
region      one region of guest code as an LLVM function: the machine that translates
layout      the memory shared between generated code and Python: context, jump cache, software TLBs
runtime     what native code calls: slow memory paths, call and return
interp      the native interpreter, and the loop that runs regions and it in turn
codegen     LLVM itself: IR text to host code, and giving it back
translator  which code is translated, when and where it is kept
compiling   from an address to a region; the compiling thread
paths registers memory floating   parts of the machine that translates

Nothing here says what an operation means: that is ``cpu/isa`` and ``wide_semantics``. Whatever generated code
does not do itself it leaves to the reference tier, one wide instruction at a time.
"""
