"""Fuzzing: inputs without end for the decoder, disassembler and assembler, from a seed that is printed.

``python -m tests.fuzz.code --seconds 3600 --seed N`` and ``python -m tests.fuzz.asm ...``; ``test_fuzz`` runs
each for a moment.
"""
