"""Linux for e2k programs: the kernel of a process, in Python, inside of the machine model (``-M linux-user``)."""
