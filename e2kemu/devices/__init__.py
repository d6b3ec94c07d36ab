"""Devices, and the declaration of their state (vmstate)."""
