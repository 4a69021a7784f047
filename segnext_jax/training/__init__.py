"""Losses, optimizer, the train step and the loop around it."""
