"""Devices as a mesh."""
