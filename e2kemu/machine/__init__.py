"""Machines: boards, builder, run state."""
