"""Monitors: QMP, HMP and the commands they share."""
