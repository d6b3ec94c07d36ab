"""What may be done with a page of memory, and what an access does: bits for everybody who checks one."""

READ, WRITE, EXECUTE = 1, 2, 4
"""What may be done with a page; 0: it is not there, or nobody may."""
