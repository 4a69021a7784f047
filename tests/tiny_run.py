"""Runs train.py or eval.py with a network of a few thousand weights, "tiny".

    python tests/tiny_run.py train.py --config.model.variant=tiny …

Processes of a cluster share what they compile, which JAX on CPUs does not let them do.
If RECORDS names a folder, each process writes there which records it trains on, lines
of (example of the stream, name of the record), in no order.
"""

import os
import runpy
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).parents[1]


def share_programs() -> None:
    """Lets the processes' keys of the compilation cache agree."""
    from jax._src import cache_key

    # JAX's own differs from process to process, and so all of them would compile.
    def hash_devices(hash_obj, devices):
        hash_obj.update(str([device.id for device in devices.flat]).encode())

    cache_key._hash_accelerator_config = hash_devices


def write_records(folder: Path) -> None:
    """Lets every reader of the training stream tell what it reads."""
    from data import stream

    file = (folder / f"{uuid.uuid4()}.txt").open("w", buffering=1)
    initialize = stream.TrainReader.__init__

    def initialize_and_tell(self, source, make, *args):
        def make_and_tell(record, k):
            file.write(f"{k} {os.path.basename(record.name)}\n")
            return make(record, k)

        initialize(self, source, make_and_tell, *args)

    stream.TrainReader.__init__ = initialize_and_tell


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from segnext_jax.models import segnext

    segnext.VARIANTS["tiny"] = segnext.Variant((8, 16, 24, 32), (1, 1, 1, 1), 32, 4)
    share_programs()
    if "SILENCE_S" in os.environ:
        from segnext_jax.parallel import liveness

        liveness._SILENCE_S = float(os.environ["SILENCE_S"])
    if "RECORDS" in os.environ:
        write_records(Path(os.environ["RECORDS"]))
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
