"""Guest memory: RAM blocks, dirty log, address spaces."""
