"""Weights of other implementations: their names, their layouts and their files."""
