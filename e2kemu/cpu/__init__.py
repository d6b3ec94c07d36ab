"""The CPU: the description of e2k (isa), its readers and the executors."""
