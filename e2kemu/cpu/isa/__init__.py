"""The one description of e2k: operations, syllables, registers, traps and CPU models.

Everything that knows an instruction reads it from here: decoder, encoder, assembler, disassembler,
the executors and the generated documentation. This package imports nothing of e2kemu.
"""
