"""What reaches the console."""

import logging as standard_logging
from collections.abc import Callable

from absl import logging

# Orbax reports every file and thread, and warns of its own defaults; the others say
# what they try. What matters of it the loop says itself.
_THRESHOLDS = {
    "orbax": standard_logging.ERROR,
    "jax": standard_logging.WARNING,
    "etils": standard_logging.WARNING,
}


def quiet_libraries() -> None:
    """Shows what this project and CLU report, and of other libraries what is wrong."""
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_wanted)


def quiet_process(index: int) -> None:
    """Shows of process `index` of many, unless it is 0, only what is wrong."""
    if index > 0:
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_handler().setFormatter(_ProcessFormatter(index))


def name_misspelt_key(
    parse_flags: Callable[[list[str]], list[str]],
) -> Callable[[list[str]], list[str]]:
    """Makes a parser of flags say in one line what a wrong config key is nearest to.

    Args:
      parse_flags: argv → what is left of it, e.g. app.parse_flags_with_usage.
    """

    def parse(argv: list[str]) -> list[str]:
        try:
            return parse_flags(argv)
        except (KeyError, AttributeError) as error:
            reason = error.args[0]
            if isinstance(reason, KeyError):  # ml_collections wraps one in the other
                reason = reason.args[0]
            message = str(reason).replace("\n", ": ")
            raise SystemExit(f"no config key {message}") from None

    return parse


class _ProcessFormatter(logging.PythonFormatter):
    """absl's, after the number of the process."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def format(self, record: standard_logging.LogRecord) -> str:
        return f"process {self._index}: {super().format(record)}"


def _is_wanted(record: standard_logging.LogRecord) -> bool:
    return all(
        record.levelno >= threshold or f"/{package}/" not in record.pathname
        for package, threshold in _THRESHOLDS.items()
    )
