"""Writes the outputs of the peers that the parity tests compare with.

From the root, each in the environment of its requirements in benchmarks/:

    PYTHONPATH=.:tests/models python -m tools.golden torch
    PYTHONPATH=.:tests/models python -m tools.golden paddle

`from_torch.py` and `from_paddle.py` say what is in the files.
"""

import importlib
import sys

PEERS = ("torch", "paddle")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in PEERS:
        raise SystemExit(f"usage: python -m tools.golden {{{','.join(PEERS)}}}")
    importlib.import_module(f"tools.golden.from_{sys.argv[1]}").main()


if __name__ == "__main__":
    main()
