"""The memory management unit of a CPU: page tables, protection, its registers, the trap cellar.

``unit.Mmu`` is the unit; it knows nothing of executors. They ask it for pages (``walk``) and listen to ``on_change``.
See docs/privileged.md, section "MMU".
"""

from e2kemu.cpu.mmu.faults import PageFault
from e2kemu.cpu.mmu.unit import Mmu, Page

__all__ = ["Mmu", "Page", "PageFault"]
