"""One of several processes, which does nothing: see `Cluster` for its flags.

    python tests/liveness_run.py [--fail=ID] [--leave=ID] …

Process ID fails, or is done at once while the others go on for some seconds.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from segnext_jax.parallel import liveness, processes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail", type=int)
    parser.add_argument("--leave", type=int)
    parser.add_argument("--coordinator_address")
    parser.add_argument("--num_processes", type=int)
    parser.add_argument("--process_id", type=int)
    args = parser.parse_args()
    liveness._SILENCE_S = float(os.environ["SILENCE_S"])
    place = args.coordinator_address, args.num_processes, args.process_id
    processes.start_processes(*place)
    with liveness.ending_together():
        print("ready", flush=True)
        if args.leave == args.process_id:
            return
        if args.fail == args.process_id:
            raise OSError("disk/0.jpg cannot be read")
        time.sleep(100 if args.leave is None else 6)


if __name__ == "__main__":
    main()
