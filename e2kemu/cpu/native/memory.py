"""Memory, windows and transfers of a region.

A load or store looks its page up in the software TLB (``layout``); beside it waits a call of the runtime. Windows move
by setwd inside a region, by calls and returns only at its end.
"""

from __future__ import annotations

from typing import NoReturn

from e2kemu.cpu.config import Config
from e2kemu.cpu.isa.registers import CHAIN_RESIDENT, WINDOW_DOUBLES
from e2kemu.cpu.native.layout import ALIGNED, READS, SPECULATIVE, TLB_ENTRIES, USER, WRITES
from e2kemu.cpu.native.paths import LIKELY, Unsupported
from e2kemu.cpu.native.registers import Registers
from e2kemu.cpu.native.values import Ir
from e2kemu.cpu.state import BGR, BR, CR0_HI, CR1_LO, EMPTY_TAG, WD, WINDOW_END, Slot
from e2kemu.cpu.wide_control import TAG_LABEL, TAG_RETURN
from e2kemu.cpu.windows import TYPE_REGISTER_UNTIL

PAGES_KNOWN = 4
"""Pages remembered on a path, each for one base of addresses and one kind of access."""

ZEROED = "#zeroed"
"""Stands for the locals of registers that just entered the window, until it is known which there are."""


class Memory(Registers):
    """The part of a region machine that reaches memory."""

    def add(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        made = super().add(a, b, bits)
        if isinstance(made, str) and (bits or self.bits) == 64:
            for base, offset in ((a, b), (b, a)):
                if isinstance(base, str) and isinstance(offset, int) and base != made:
                    self._base[made] = base
        return made

    def _lookup(self, address: str, size: int, table: int, fast: str, slow: str) -> tuple[str, str]:
        """Emit the way to ``fast``, or to ``slow``, and at ``fast``: (page address, what to add to a guest address).

        When an access relative to the same base was near by on this path its page is looked at first: then the TLB
        need not be asked. Beside a hit waits the runtime, which asks it.
        """
        key = table, self._base.get(address, address)
        known = None if self._scopes else self.facts.pages.get(key)
        if known is not None:
            page, addend = known
            apart = self.name(f"and i64 {self.name(f'xor i64 {address}, {page}')}, {-4096 | size - 1}")
            self.emit(f"br i1 {self.name(f'icmp eq i64 {apart}, 0', 1)}, label %{fast}, label %{slow}{LIKELY}")
            self._label(fast)
            return page, addend
        number = self.name(f"lshr i64 {address}, 12")
        index = self.name(f"and i64 {number}, {TLB_ENTRIES - 1}")
        entry = self.name(f"getelementptr [2 x i64], ptr %{'reads' if table == READS else 'writes'}, i64 {index}")
        tag = self.name(f"load i64, ptr {entry}")
        wanted = self.name(f"and i64 {address}, {-4096 | size - 1}")
        self.emit(f"br i1 {self.name(f'icmp eq i64 {tag}, {wanted}', 1)}, label %{fast}, label %{slow}{LIKELY}")
        self._label(fast)
        addend = self.name(f"load i64, ptr {self.name(f'getelementptr i64, ptr {entry}, i64 1')}")
        if self._scopes:
            self._touched = True
        else:
            pages = self.facts.pages
            while len(pages) >= PAGES_KNOWN:
                del pages[next(iter(pages))]
            pages[key] = tag, addend
        return tag, addend

    def _host(self, address: str, addend: str) -> str:
        return self.name(f"inttoptr i64 {self.name(f'add i64 {address}, {addend}')} to ptr")

    def _meet(self, fast: str, slow: str, before: set[tuple[int, str]]) -> None:
        """Where the fast and the slow way meet: the slow one may have changed everything about pages.

        ``before``: those known in front of the lookup; one that came by it exists at ``fast`` only.
        """
        pages = self.facts.pages
        if self._scopes:
            self._touched = True
            return
        for key, (page, addend) in list(pages.items()):
            other = addend if key in before else "0"
            # no address is in page 1
            pages[key] = (self.name(f"phi i64 [ {page}, %{fast} ], [ 1, %{slow} ]"),
                          self.name(f"phi i64 [ {addend}, %{fast} ], [ {other}, %{slow} ]"))

    def _flags(self, size: int) -> int:
        strict = self.speculative and self.aligned
        flags = size | (SPECULATIVE if self.speculative else 0) | (ALIGNED if strict else 0)
        return flags | (USER if self.user_tlbs else 0)

    def load(self, address: Ir, size: int) -> Ir:
        text = self.as_bits(address, 64)
        fast, slow, join = self._new_label("fast"), self._new_label("slow"), self._new_label("have")
        fail, before = self._fail(), set(self.facts.pages)
        _, addend = self._lookup(text, size, READS, fast, slow)
        value = self.name(f"load atomic i{8 * size}, ptr {self._host(text, addend)} monotonic, align {size}")
        if size < 8:
            value = self.name(f"zext i{8 * size} {value} to i64")
        self.emit(f"br label %{join}")
        answer, first, status, bad = (self.fresh() for _ in range(4))
        self.outlined += [
            f"{slow}:", f"{answer} = call {{i64, i64}} @e2k_load(ptr %c, i64 {text}, i64 {self._flags(size)})",
            f"{first} = extractvalue {{i64, i64}} {answer}, 0", f"{status} = extractvalue {{i64, i64}} {answer}, 1",
            f"store i64 {status}, ptr %why", f"{bad} = icmp ne i64 {status}, 0",
            f"br i1 {bad}, label %{fail}, label %{join}"]
        self._label(join)
        loaded = self.name(f"phi i64 [ {value}, %{fast} ], [ {first}, %{slow} ]", 8 * size)
        self._meet(fast, slow, before)
        if self.order:
            self.fence(self.order)
        return loaded

    def store(self, address: Ir, size: int, value: Ir) -> None:
        if self.order:
            self.fence(self.order)
        self._will_store()
        text = self.as_bits(address, 64)
        short = self.narrow(self.trunc(value, 8 * size), 8 * size)
        full = short if size == 8 else self.as_bits(self.trunc(value, 8 * size), 64)
        fast, slow, join = self._new_label("fast"), self._new_label("slow"), self._new_label("done")
        fail, before = self._fail(), set(self.facts.pages)
        _, addend = self._lookup(text, size, WRITES, fast, slow)
        self.emit(f"store atomic i{8 * size} {short}, ptr {self._host(text, addend)} monotonic, align {size}")
        self.emit(f"br label %{join}")
        status, after, bad, fine = (self.fresh() for _ in range(4))
        stored = self._new_label("stored")
        self.outlined += [
            f"{slow}:", f"{status} = call i64 @e2k_store(ptr %c, i64 {text}, i64 {self._flags(size)}, i64 {full})",
            f"store i64 {status}, ptr %why",
            f"{bad} = icmp ugt i64 {status}, 1", f"br i1 {bad}, label %{fail}, label %{stored}",
            f"{stored}:", f"{after} = load i64, ptr %u", f"{fine} = or i64 {after}, {status}",
            f"store i64 {fine}, ptr %u", f"br label %{join}"]
        self._label(join)
        self._meet(fast, stored, before)

    def _will_store(self) -> None:
        """Before the first store of a wide instruction: ``%u`` will say whether to leave after it."""
        if not self._stored:
            self._stored = True
            self._prefix.append("store i64 0, ptr %u")

    def fence(self, order: str) -> None:
        self.emit(f"fence {order}")

    def take_lock(self, address: Ir, size: int, low: Ir, high: Ir) -> None:
        for slot, value in ((Slot.LOCK_ADDRESS, address), (Slot.LOCK_LOW, low), (Slot.LOCK_HIGH, high),
                            (Slot.LOCK_SIZE, size)):
            self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {self.name(self._state('X', slot))}")

    def store_locked(self, address: Ir, size: int, low: Ir, high: Ir) -> Ir:
        if size > 8:
            raise Unsupported("a conditional store of 16 bytes")
        self._will_store()
        text = self.as_bits(address, 64)
        holds = self.name(self._state("X", Slot.LOCK_SIZE))
        same: Ir = self.boolean(f"icmp eq i64 {self.name(f'load i64, ptr {holds}')}, {size}")
        place = self.name(f"load i64, ptr {self.name(self._state('X', Slot.LOCK_ADDRESS))}")
        same = self.and_(same, self.boolean(f"icmp eq i64 {place}, {text}"))
        self.emit(f"store i64 0, ptr {holds}")
        done = self.staged(0)
        self.if_(same, lambda: self.put(done, self._exchange(text, size, low)))
        return self.get(done)

    def _exchange(self, text: str, size: int, value: Ir) -> Ir:
        """A compare-exchange at guest address ``text`` with what the lock load has read: whether it happened."""
        bits = 8 * size
        short = self.narrow(self.trunc(value, bits), bits)
        full = short if size == 8 else self.as_bits(self.trunc(value, bits), 64)
        old = self.name(f"load i64, ptr {self.name(self._state('X', Slot.LOCK_LOW))}")
        expected = old if size == 8 else self.name(f"trunc i64 {old} to i{bits}", bits)
        fast, slow, join = self._new_label("fast"), self._new_label("slow"), self._new_label("done")
        fail, before = self._fail(), set(self.facts.pages)
        _, addend = self._lookup(text, size, WRITES, fast, slow)
        pair = self.name(f"cmpxchg ptr {self._host(text, addend)}, i{bits} {expected}, i{bits} {short} "
                         f"seq_cst seq_cst, align {size}")
        hit = self.name(f"zext i1 {self.name(f'extractvalue {{i{bits}, i1}} {pair}, 1', 1)} to i64")
        self.emit(f"br label %{join}")
        answer, found, status, after, bad, leave = (self.fresh() for _ in range(6))
        exchanged = self._new_label("exchanged")
        self.outlined += [
            f"{slow}:",
            f"{answer} = call {{i64, i64}} "
            f"@e2k_exchange(ptr %c, i64 {text}, i64 {size | (USER if self.user_tlbs else 0)}, i64 {old}, i64 {full})",
            f"{found} = extractvalue {{i64, i64}} {answer}, 0", f"{status} = extractvalue {{i64, i64}} {answer}, 1",
            f"store i64 {status}, ptr %why", f"{bad} = icmp ugt i64 {status}, 1",
            f"br i1 {bad}, label %{fail}, label %{exchanged}",
            f"{exchanged}:", f"{after} = load i64, ptr %u", f"{leave} = or i64 {after}, {status}",
            f"store i64 {leave}, ptr %u", f"br label %{join}"]
        self._label(join)
        happened = self.name(f"phi i64 [ {hit}, %{fast} ], [ {found}, %{exchanged} ]", 1)
        self._meet(fast, exchanged, before)
        return happened

    def store_if(self, condition: Ir, address: Ir, size: int, value: Ir) -> None:
        self.if_(condition, lambda: self.store(address, size, value))

    def physical_load(self, address: Ir, size: int) -> NoReturn:
        raise Unsupported("a physical address")

    def physical_store(self, address: Ir, size: int, value: Ir) -> NoReturn:
        raise Unsupported("a physical address")

    def special_load(self, opc: int, address: Ir, channel: int) -> NoReturn:
        raise Unsupported("a special load")

    def special_store(self, opc: int, address: Ir, value: Ir, channel: int) -> NoReturn:
        raise Unsupported("a special store")

    # -- windows and transfers ---------------------------------------------------------------------------

    def window_room(self, size: int) -> None:
        bottom = self.name(f"load i64, ptr {self.name(self._state('X', Slot.BOTTOM))}")
        live = self.name(f"sub i64 %b, {bottom}")
        self._step_if(self.boolean(f"icmp sgt i64 {live}, {WINDOW_DOUBLES - size}"))

    def set_window(self, old: int, new: int, fx: int, dbl: int) -> None:
        place = self.name(self._state("S", WD))
        wd = self.name(f"load i64, ptr {place}")
        kept = self.name(f"and i64 {wd}, {0x7FF | 0x7FF << 32}")
        self.emit(f"store i64 {self.name(f'or i64 {kept}, {new << 19 | fx << 48 | dbl << 49}')}, ptr {place}")
        self.then = self.then._replace(size=new, dbl=dbl)
        facts = self.facts
        if new > old:
            self.intrinsics.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            for part, size, byte in (("R", 8, 0), ("E", 8, 0), ("T", 1, EMPTY_TAG)):
                at = self.name(f"getelementptr i8, ptr %{part}w, i64 {size * old}")
                self.emit(f"call void @llvm.memset.p0.i64(ptr {at}, i8 {byte}, i64 {size * (new - old)}, i1 false)")
            self.emit(f"{ZEROED} {old} {new}")
            for register in range(old, new):
                facts.empty[register], facts.numeric[register] = 15, 0
                facts.values[register] = 0
        for register in range(new, old):
            facts.numeric.pop(register, None)

    def set_rotation(self, br: int, bgr: int) -> None:
        self.then = self.then._replace(br=br, bgr=bgr)
        self.emit(f"store i64 {br}, ptr {self.name(self._state('S', BR))}")
        self.emit(f"store i64 {bgr}, ptr {self.name(self._state('S', BGR))}")

    def wait_for_trap(self) -> NoReturn:
        raise Unsupported("wait trap")

    def wait_for_interrupt(self) -> NoReturn:
        raise Unsupported("wait int")

    def flush_windows(self) -> NoReturn:
        raise Unsupported("flushr")

    def flush_chain(self) -> NoReturn:
        raise Unsupported("flushc")

    def _chain(self) -> str:
        return self.name(f"load i64, ptr {self.name(self._state('X', Slot.CHAIN))}")

    def check_transfer(self, ctpr: Ir, is_call: bool, wbs: int, cfg: Config) -> None:
        if cfg.version <= TYPE_REGISTER_UNTIL:
            # frames hold the type register there, which the runtime does not know
            raise Unsupported("frames of old models")
        tag = self.and_(self.lshr(ctpr, 54), 7)
        if is_call:
            if 2 * wbs > cfg.size:
                self._to_step()
            self._step_if(self.xor(self.eq(tag, TAG_LABEL), 1))
            self._step_if(self.boolean(f"icmp uge i64 {self._chain()}, {CHAIN_RESIDENT}"))
            self._step_if(self.boolean(f"icmp ugt i64 %b, {WINDOW_END - WINDOW_DOUBLES - 2 * wbs}"))
            return

        def other() -> None:
            self._step_if(self.xor(self.eq(tag, TAG_RETURN), 1))
            self.prepare_return()

        self.if_(self.xor(self.eq(tag, TAG_LABEL), 1), other)

    def prepare_return(self) -> None:
        # whoever wrote CR0.hi may have chosen an address at which nothing can be
        self._step_if(self.xor(self.eq(self.and_(self.sreg(CR0_HI), 7), 0), 1))
        self._step_if(self.boolean(f"icmp eq i64 {self._chain()}, 0"))
        bottom = self.name(f"load i64, ptr {self.name(self._state('X', Slot.BOTTOM))}")
        # a direct load: the cached CR1.lo does not exist
        cr1 = self.name(f"load i64, ptr {self.name(self._state('S', CR1_LO))}")
        moved = self.name(f"and i64 {self.name(f'lshr i64 {cr1}, 32')}, 254")
        base = self.name(f"sub i64 %b, {moved}")
        self._step_if(self.boolean(f"icmp sgt i64 {bottom}, {base}"))
