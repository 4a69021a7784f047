"""Operators as pure array functions."""
