"""Kernels for GPUs, written in Triton by way of Pallas."""
