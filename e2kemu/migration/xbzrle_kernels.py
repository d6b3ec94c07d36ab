"""The inner loops of XBZRLE as LLVM IR. What the code is, and what the callers promise, is in ``xbzrle.py``.

``xbzrle_encode`` looks at a page twice. First 64 bytes at a time: which have changed goes, a bit for each byte, into
``masks``, and the numbers of changed bytes and of runs are counted; no code is shorter than their sum with two
bytes a run, so most overflows are found before anything is written. Then run by run, by counting zeroes of the
masks. Up to 16 bytes of a run are copied as 16, what is too much is overwritten by what follows: so the
output needs room for ``SLACK`` bytes behind the longest code that is tried.

``xbzrle_check`` and ``xbzrle_apply`` are one walk over the runs, without and with storing. It never reads outside of
[start, end) of the data nor writes outside of the page, whatever the data are.
"""

from __future__ import annotations

from ctypes import c_int64, c_void_p
from functools import cache

from e2kemu.memory.dirty import PAGE_SIZE
from e2kemu.native import Kernels, Signature, compile_ir

SLACK = 128
"""Bytes that encoding may write behind a full page of code: 64 for the long forms of numbers (one for each 128
bytes of a page that are equal or changed) until that is noticed, 16 for the last copy."""

assert PAGE_SIZE == 4096, "the masks have a bit for each byte of such a page"

# Variables are stack slots: the optimiser makes registers of them.
TEXT = """
declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.cttz.i64(i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

; A number below 16384 at %to (two bytes are written, whatever it takes); returns the bytes it takes.
define internal i64 @put_number(ptr %to, i64 %value) alwaysinline {
  %wide = icmp ugt i64 %value, 127
  %high = shl i64 %value, 1
  %high1 = and i64 %high, -256
  %low = and i64 %value, 127
  %both = or i64 %high1, %low
  %long = or i64 %both, 128
  %code = select i1 %wide, i64 %long, i64 %value
  %code16 = trunc i64 %code to i16
  store i16 %code16, ptr %to, align 1
  %size = select i1 %wide, i64 2, i64 1
  ret i64 %size
}

; n pages of %old and %new: lengths[n] (0: equal, -1: overflow), one of starts for each record, the records in %out.
; Returns the bytes of all records.
define i64 @xbzrle_encode(ptr noalias %old, ptr noalias %new, i64 %count,
                          ptr noalias %lengths, ptr noalias %starts, ptr noalias %out) {
entry:
  %masks = alloca [64 x i64], align 64
  %v_page = alloca i64
  %v_out = alloca i64         ; where the next record begins
  %v_record = alloca i64      ; number of the next record
  %v_word = alloca i64
  %v_carry = alloca i64       ; the bit before the present mask
  %v_changed = alloca i64
  %v_runs = alloca i64
  %v_mask = alloca i64
  %v_place = alloca i64       ; end of the last run
  %v_begin = alloca i64       ; of the present run
  %v_to = alloca i64
  store i64 0, ptr %v_page
  store i64 0, ptr %v_out
  store i64 0, ptr %v_record
  br label %pages

pages:
  %page = load i64, ptr %v_page
  %more_pages = icmp ult i64 %page, %count
  br i1 %more_pages, label %look, label %done

look:
  %base = shl i64 %page, 12
  %old_page = getelementptr i8, ptr %old, i64 %base
  %new_page = getelementptr i8, ptr %new, i64 %base
  %length_at = getelementptr i64, ptr %lengths, i64 %page
  store i64 0, ptr %v_word
  store i64 0, ptr %v_carry
  store i64 0, ptr %v_changed
  store i64 0, ptr %v_runs
  br label %look_word

look_word:
  %lw = load i64, ptr %v_word
  %lw_offset = shl i64 %lw, 6
  %old_at = getelementptr i8, ptr %old_page, i64 %lw_offset
  %new_at = getelementptr i8, ptr %new_page, i64 %lw_offset
  %old_bytes = load <64 x i8>, ptr %old_at, align 1
  %new_bytes = load <64 x i8>, ptr %new_at, align 1
  %differ = icmp ne <64 x i8> %old_bytes, %new_bytes
  %mask = bitcast <64 x i1> %differ to i64
  %mask_at = getelementptr i64, ptr %masks, i64 %lw
  store i64 %mask, ptr %mask_at
  %bits = call i64 @llvm.ctpop.i64(i64 %mask)
  %changed0 = load i64, ptr %v_changed
  %changed1 = add i64 %changed0, %bits
  store i64 %changed1, ptr %v_changed
  %carry = load i64, ptr %v_carry
  %shifted = shl i64 %mask, 1
  %before = or i64 %shifted, %carry
  %not_before = xor i64 %before, -1
  %begins = and i64 %mask, %not_before
  %begin_count = call i64 @llvm.ctpop.i64(i64 %begins)
  %runs0 = load i64, ptr %v_runs
  %runs1 = add i64 %runs0, %begin_count
  store i64 %runs1, ptr %v_runs
  %carry1 = lshr i64 %mask, 63
  store i64 %carry1, ptr %v_carry
  %lw1 = add i64 %lw, 1
  store i64 %lw1, ptr %v_word
  %looked = icmp eq i64 %lw1, 64
  br i1 %looked, label %judge, label %look_word

judge:
  %changed = load i64, ptr %v_changed
  %any = icmp ne i64 %changed, 0
  br i1 %any, label %judge_length, label %equal_page

equal_page:
  store i64 0, ptr %length_at
  br label %next_page

judge_length:
  %runs = load i64, ptr %v_runs
  %heads = shl i64 %runs, 1
  %least = add i64 %changed, %heads
  %too_long = icmp ugt i64 %least, 4096
  br i1 %too_long, label %overflow, label %write

overflow:
  store i64 -1, ptr %length_at
  br label %next_page

write:
  %record = load i64, ptr %v_out
  %code = add i64 %record, 11
  store i64 %code, ptr %v_to
  store i64 0, ptr %v_place
  br label %find_begin

find_begin:                       ; the first changed byte from v_place on
  %place = load i64, ptr %v_place
  %page_end = icmp ugt i64 %place, 4095
  br i1 %page_end, label %written, label %find_begin_here
find_begin_here:
  %fb_word = lshr i64 %place, 6
  %fb_bit = and i64 %place, 63
  %fb_keep = shl i64 -1, %fb_bit
  %fb_at = getelementptr i64, ptr %masks, i64 %fb_word
  %fb_mask = load i64, ptr %fb_at
  %fb_kept = and i64 %fb_mask, %fb_keep
  store i64 %fb_kept, ptr %v_mask
  store i64 %fb_word, ptr %v_word
  br label %find_begin_look
find_begin_look:
  %fbm = load i64, ptr %v_mask
  %fb_found = icmp ne i64 %fbm, 0
  br i1 %fb_found, label %begin_found, label %find_begin_next
find_begin_next:
  %fbw = load i64, ptr %v_word
  %fbw1 = add i64 %fbw, 1
  store i64 %fbw1, ptr %v_word
  %fb_none = icmp eq i64 %fbw1, 64
  br i1 %fb_none, label %written, label %find_begin_load
find_begin_load:
  %fbl_at = getelementptr i64, ptr %masks, i64 %fbw1
  %fbl = load i64, ptr %fbl_at
  store i64 %fbl, ptr %v_mask
  br label %find_begin_look

begin_found:
  %bf_bit = call i64 @llvm.cttz.i64(i64 %fbm, i1 true)
  %bf_word = load i64, ptr %v_word
  %bf_base = shl i64 %bf_word, 6
  %begin = or i64 %bf_base, %bf_bit
  store i64 %begin, ptr %v_begin
  %fe_keep = shl i64 -1, %bf_bit
  %fe_at = getelementptr i64, ptr %masks, i64 %bf_word
  %fe_mask = load i64, ptr %fe_at
  %fe_equal = xor i64 %fe_mask, -1
  %fe_kept = and i64 %fe_equal, %fe_keep
  store i64 %fe_kept, ptr %v_mask
  br label %find_end_look
find_end_look:                    ; the first equal byte behind it
  %fem = load i64, ptr %v_mask
  %fe_found = icmp ne i64 %fem, 0
  br i1 %fe_found, label %end_found, label %find_end_next
find_end_next:
  %few = load i64, ptr %v_word
  %few1 = add i64 %few, 1
  store i64 %few1, ptr %v_word
  %fe_none = icmp eq i64 %few1, 64
  br i1 %fe_none, label %run_to_page_end, label %find_end_load
find_end_load:
  %fel_at = getelementptr i64, ptr %masks, i64 %few1
  %fel = load i64, ptr %fel_at
  %fel_equal = xor i64 %fel, -1
  store i64 %fel_equal, ptr %v_mask
  br label %find_end_look
run_to_page_end:
  br label %emit
end_found:
  %ef_bit = call i64 @llvm.cttz.i64(i64 %fem, i1 true)
  %ef_word = load i64, ptr %v_word
  %ef_base = shl i64 %ef_word, 6
  %ef = or i64 %ef_base, %ef_bit
  br label %emit

emit:
  %end = phi i64 [ 4096, %run_to_page_end ], [ %ef, %end_found ]
  %begin_here = load i64, ptr %v_begin
  %equal = sub i64 %begin_here, %place
  %size = sub i64 %end, %begin_here
  %to = load i64, ptr %v_to
  %to_at = getelementptr i8, ptr %out, i64 %to
  %equal_size = call i64 @put_number(ptr %to_at, i64 %equal)
  %to1 = add i64 %to, %equal_size
  %to1_at = getelementptr i8, ptr %out, i64 %to1
  %size_size = call i64 @put_number(ptr %to1_at, i64 %size)
  %to2 = add i64 %to1, %size_size
  %to2_at = getelementptr i8, ptr %out, i64 %to2
  %from_at = getelementptr i8, ptr %new_page, i64 %begin_here
  %short = icmp ult i64 %size, 17
  %inside = icmp ult i64 %begin_here, 4081
  %as_16 = and i1 %short, %inside
  br i1 %as_16, label %copy_16, label %copy
copy_16:
  %sixteen = load <16 x i8>, ptr %from_at, align 1
  store <16 x i8> %sixteen, ptr %to2_at, align 1
  br label %copied
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %to2_at, ptr %from_at, i64 %size, i1 false)
  br label %copied
copied:
  %to3 = add i64 %to2, %size
  store i64 %to3, ptr %v_to
  store i64 %end, ptr %v_place
  br label %find_begin

written:
  %finish = load i64, ptr %v_to
  %length = sub i64 %finish, %code
  %over = icmp ugt i64 %length, 4096
  br i1 %over, label %overflow, label %keep
keep:
  store i64 %length, ptr %length_at
  %encoding = add i64 %record, 8
  %encoding_at = getelementptr i8, ptr %out, i64 %encoding
  store i8 1, ptr %encoding_at
  %high_at = getelementptr i8, ptr %encoding_at, i64 1
  %high = lshr i64 %length, 8
  %high8 = trunc i64 %high to i8
  store i8 %high8, ptr %high_at
  %low_at = getelementptr i8, ptr %encoding_at, i64 2
  %low8 = trunc i64 %length to i8
  store i8 %low8, ptr %low_at
  %number = load i64, ptr %v_record
  %start_at = getelementptr i64, ptr %starts, i64 %number
  store i64 %record, ptr %start_at
  %number1 = add i64 %number, 1
  store i64 %number1, ptr %v_record
  store i64 %finish, ptr %v_out
  br label %next_page

next_page:
  %page1 = add i64 %page, 1
  store i64 %page1, ptr %v_page
  br label %pages

done:
  %total = load i64, ptr %v_out
  ret i64 %total
}

; A number at %at (below %end): its value and where it ends, 0 when it is none.
define internal { i64, i64 } @take_number(ptr %data, i64 %at, i64 %end) alwaysinline {
entry:
  %first_at = getelementptr i8, ptr %data, i64 %at
  %first8 = load i8, ptr %first_at
  %first = zext i8 %first8 to i64
  %next = add i64 %at, 1
  %wide = icmp ugt i64 %first, 127
  br i1 %wide, label %second, label %narrow
narrow:
  %n0 = insertvalue { i64, i64 } undef, i64 %first, 0
  %n1 = insertvalue { i64, i64 } %n0, i64 %next, 1
  ret { i64, i64 } %n1
second:
  %there = icmp ult i64 %next, %end
  br i1 %there, label %read, label %bad
read:
  %second_at = getelementptr i8, ptr %data, i64 %next
  %second8 = load i8, ptr %second_at
  %second_value = zext i8 %second8 to i64
  %after = add i64 %at, 2
  %fits = icmp ult i64 %second_value, 128
  br i1 %fits, label %good, label %bad
good:
  %high = shl i64 %second_value, 7
  %low = and i64 %first, 127
  %value = or i64 %high, %low
  %w0 = insertvalue { i64, i64 } undef, i64 %value, 0
  %w1 = insertvalue { i64, i64 } %w0, i64 %after, 1
  ret { i64, i64 } %w1
bad:
  ret { i64, i64 } zeroinitializer
}

; %size (not 0) bytes, and no byte more.
define internal void @store_run(ptr %to, ptr %from, i64 %size) alwaysinline {
entry:
  %one = icmp eq i64 %size, 1
  br i1 %one, label %byte, label %more
byte:
  %b = load i8, ptr %from
  store i8 %b, ptr %to
  ret void
more:
  %few = icmp ult i64 %size, 4
  br i1 %few, label %pair, label %upto8
pair:
  call void @store_ends_2(ptr %to, ptr %from, i64 %size)
  ret void
upto8:
  %is8 = icmp ult i64 %size, 9
  br i1 %is8, label %quads, label %upto16
quads:
  call void @store_ends_4(ptr %to, ptr %from, i64 %size)
  ret void
upto16:
  %is16 = icmp ult i64 %size, 17
  br i1 %is16, label %octets, label %long
octets:
  call void @store_ends_8(ptr %to, ptr %from, i64 %size)
  ret void
long:
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret void
}

; The code of one page, data[%start] up to data[%end]; with %apply its runs are stored. False: it makes no sense.
define internal i1 @decode_page(ptr %data, i64 %start, i64 %end, ptr %page, i1 %apply) alwaysinline {
entry:
  %empty = icmp uge i64 %start, %end
  br i1 %empty, label %bad, label %run
run:
  %at = phi i64 [ %start, %entry ], [ %after, %stored ]
  %place = phi i64 [ 0, %entry ], [ %place1, %stored ]
  %e = call { i64, i64 } @take_number(ptr %data, i64 %at, i64 %end)
  %equal = extractvalue { i64, i64 } %e, 0
  %e_end = extractvalue { i64, i64 } %e, 1
  %e_bad = icmp eq i64 %e_end, 0
  %e_last = icmp uge i64 %e_end, %end
  %e_no = or i1 %e_bad, %e_last
  br i1 %e_no, label %bad, label %size_there
size_there:
  %s = call { i64, i64 } @take_number(ptr %data, i64 %e_end, i64 %end)
  %size = extractvalue { i64, i64 } %s, 0
  %from = extractvalue { i64, i64 } %s, 1
  %s_bad = icmp eq i64 %from, 0
  br i1 %s_bad, label %bad, label %sane
sane:
  %nothing = icmp eq i64 %size, 0
  %later = icmp ne i64 %at, %start
  %no_gap = icmp eq i64 %equal, 0
  %glued = and i1 %later, %no_gap
  %to = add i64 %place, %equal
  %place1 = add i64 %to, %size
  %outside = icmp ugt i64 %place1, 4096
  %after = add i64 %from, %size
  %missing = icmp ugt i64 %after, %end
  %w0 = or i1 %nothing, %glued
  %w1 = or i1 %outside, %missing
  %wrong = or i1 %w0, %w1
  br i1 %wrong, label %bad, label %fine
fine:
  br i1 %apply, label %store, label %stored
store:
  %to_at = getelementptr i8, ptr %page, i64 %to
  %from_at = getelementptr i8, ptr %data, i64 %from
  call void @store_run(ptr %to_at, ptr %from_at, i64 %size)
  br label %stored
stored:
  %more = icmp ult i64 %after, %end
  br i1 %more, label %run, label %good
good:
  ret i1 true
bad:
  ret i1 false
}

; The number of the first page whose code makes no sense, or -1.
define i64 @xbzrle_check(ptr noalias %data, ptr noalias %starts, ptr noalias %ends, i64 %count) {
entry:
  br label %loop
loop:
  %page = phi i64 [ 0, %entry ], [ %page1, %good ]
  %more = icmp ult i64 %page, %count
  br i1 %more, label %one, label %all_good
one:
  %start_at = getelementptr i64, ptr %starts, i64 %page
  %start = load i64, ptr %start_at
  %end_at = getelementptr i64, ptr %ends, i64 %page
  %end = load i64, ptr %end_at
  %fine = call i1 @decode_page(ptr %data, i64 %start, i64 %end, ptr null, i1 false)
  br i1 %fine, label %good, label %found
good:
  %page1 = add i64 %page, 1
  br label %loop
found:
  ret i64 %page
all_good:
  ret i64 -1
}

; Store what xbzrle_check has found good: page n lies at %memory + bases[n].
define void @xbzrle_apply(ptr noalias %data, ptr noalias %starts, ptr noalias %ends, ptr noalias %bases,
                          i64 %count, ptr noalias %memory) {
entry:
  br label %loop
loop:
  %page = phi i64 [ 0, %entry ], [ %page1, %one ]
  %more = icmp ult i64 %page, %count
  br i1 %more, label %one, label %done
one:
  %start_at = getelementptr i64, ptr %starts, i64 %page
  %start = load i64, ptr %start_at
  %end_at = getelementptr i64, ptr %ends, i64 %page
  %end = load i64, ptr %end_at
  %base_at = getelementptr i64, ptr %bases, i64 %page
  %base = load i64, ptr %base_at
  %to = getelementptr i8, ptr %memory, i64 %base
  %fine = call i1 @decode_page(ptr %data, i64 %start, i64 %end, ptr %to, i1 true)
  %page1 = add i64 %page, 1
  br label %loop
done:
  ret void
}
"""


def _store_ends(size: int) -> str:
    """A run of ``size`` to twice so many bytes: its two ends, which may overlap."""
    kind = f"i{8 * size}"
    return f"""
define internal void @store_ends_{size}(ptr %to, ptr %from, i64 %size) alwaysinline {{
  %rest = sub i64 %size, {size}
  %last_from = getelementptr i8, ptr %from, i64 %rest
  %last_to = getelementptr i8, ptr %to, i64 %rest
  %first = load {kind}, ptr %from, align 1
  %last = load {kind}, ptr %last_from, align 1
  store {kind} %first, ptr %to, align 1
  store {kind} %last, ptr %last_to, align 1
  ret void
}}
"""


@cache
def kernels() -> Kernels:
    """The functions, compiled at the first call."""
    address, number = c_void_p, c_int64
    return compile_ir(
        TEXT + "".join(map(_store_ends, (2, 4, 8))),
        {
            "xbzrle_encode": Signature(number, address, address, number, address, address, address),
            "xbzrle_check": Signature(number, address, address, address, number),
            "xbzrle_apply": Signature(None, address, address, address, address, number, address),
        },
    )
