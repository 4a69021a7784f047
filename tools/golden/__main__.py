"""Writes the outputs of the peers that the parity tests compare with.

From the root, each in the environment of its requirements in benchmarks/:

    PYTHONPATH=.:tests/models python -m tools.golden torch
    PYTHONPATH=.:tests/models python -m tools.golden paddle

Each module says what is in its files, and writes these alone if it is run instead:
`python -m tools.golden.augment_torch`.
"""

import importlib
import sys

PEERS = ("torch", "paddle")
# <part>_<peer>.py
PARTS = ("from", "augment", "losses", "evaluation")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in PEERS:
        raise SystemExit(f"usage: python -m tools.golden {{{','.join(PEERS)}}}")
    for part in PARTS:
        importlib.import_module(f"tools.golden.{part}_{sys.argv[1]}").main()


if __name__ == "__main__":
    main()
