"""The painter of the generated street scenes (see data/sources/street_scenes.py)."""
