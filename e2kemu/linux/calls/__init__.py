"""The handlers of system calls, by theme; importing this package fills ``table.CALLS``."""
