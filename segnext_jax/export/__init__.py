"""The network as a program that runs without this project."""
