"""``-smp``: how many CPUs, and how they are grouped.

``[cpus=]n[,maxcpus=n][,sockets=n][,cores=n][,threads=n]`` with QEMU's rules: what is left out follows from the
rest, cores before sockets before threads; the product of the groups must be ``maxcpus``. CPUs cannot be plugged in
later: ``maxcpus`` above ``cpus`` only says how many places there would be. The grouping is shown (``query-cpus-fast``);
guests see only numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from e2kemu.errors import OptionError
from e2kemu.options import Options

KEYS = ("cpus", "maxcpus", "sockets", "cores", "threads")


@dataclass(frozen=True)
class Topology:
    """How CPUs are grouped: threads in a core, cores in a socket."""

    sockets: int
    cores: int
    threads: int

    @property
    def places(self) -> int:
        """CPUs there is room for."""
        return self.sockets * self.cores * self.threads

    def place(self, cpu: int) -> dict[str, int]:
        """Where CPU number ``cpu`` is, in the words of ``query-cpus-fast``."""
        core, thread = divmod(cpu, self.threads)
        socket, core = divmod(core, self.cores)
        return {"socket-id": socket, "core-id": core, "thread-id": thread}


def parse_smp(text: str) -> tuple[int, Topology]:
    """(CPUs, their grouping) of ``-smp``. Raises OptionError."""
    options = Options(text, implied="cpus")
    given = {key: options.get_number(key, 0) for key in KEYS}
    zero = next((key for key in KEYS if key in options and not given[key]), None)
    options.finish()
    if zero is not None:
        raise OptionError("Invalid CPU topology: CPU topology parameters must be greater than zero")
    cpus, places, sockets, cores, threads = (given[key] for key in KEYS)
    wanted = places or cpus
    if not wanted:
        sockets, cores, threads = sockets or 1, cores or 1, threads or 1
    elif not cores:
        sockets, threads = sockets or 1, threads or 1
        cores = wanted // (sockets * threads)
    elif not sockets:
        threads = threads or 1
        sockets = wanted // (cores * threads)
    elif not threads:
        threads = wanted // (sockets * cores)
    topology = Topology(sockets, cores, threads)
    places = wanted or topology.places
    cpus = cpus or places
    if topology.places != places:
        raise OptionError("Invalid CPU topology: product of the hierarchy must match maxcpus: "
                          f"sockets ({sockets}) * cores ({cores}) * threads ({threads}) != maxcpus ({places})")
    if places < cpus:
        raise OptionError("Invalid CPU topology: maxcpus must be equal to or greater than smp: "
                          f"sockets ({sockets}) * cores ({cores}) * threads ({threads}) == maxcpus ({places}) "
                          f"< smp_cpus ({cpus})")
    return cpus, topology
