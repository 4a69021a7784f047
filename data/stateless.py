"""Random numbers as pure functions of (seed, purpose, index).

They are made from the raw words of Philox, a published cipher: NumPy promises to keep
those, but not what its distributions and shuffles make of them.
"""

import numpy as np

# Keeps apart what is drawn for one seed.
ORDER = 0
AUGMENTATION = 1
RANDAUGMENT = 2


def uniform(seed: int, purpose: int, index: int, count: int) -> np.ndarray:
    """Returns `count` numbers in [0, 1), float64 [count]."""
    return (_words(seed, purpose, index, count) >> np.uint64(11)) * 2.0**-53


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Returns the order in which epoch `epoch` visits n records, int64 [n]."""
    return np.argsort(_words(seed, ORDER, epoch, n), kind="stable")


def _words(seed: int, purpose: int, index: int, count: int) -> np.ndarray:
    # The first word of the counter runs within one draw, the second tells draws apart.
    counter = np.array([0, index, 0, 0], np.uint64)
    key = np.array([seed % 2**64, purpose], np.uint64)
    return np.random.Philox(counter=counter, key=key).random_raw(count)
