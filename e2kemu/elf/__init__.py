"""ELF for e2k: numbers, relocatable objects and executables in memory, reading them, archives, the static
linker.
"""
