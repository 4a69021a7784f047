"""Pallas kernels for TPUs, which Mosaic compiles."""
