"""Disk images: files that hold what is on a guest's disk, behind one interface (``image.BlockImage``)."""
