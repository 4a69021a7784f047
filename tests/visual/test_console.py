"""What a wrong flag is answered, and who of many processes is heard."""

import pytest
from absl import logging

from configs import common
from segnext_jax.visual.console import name_misspelt_key, quiet_process


def test_misspelt_key_names_the_nearest():
    def parse(argv):
        return common.base().modle

    with pytest.raises(SystemExit, match="no config key 'modle': Did you"):
        name_misspelt_key(parse)([])


def test_other_arguments_pass():
    assert name_misspelt_key(lambda argv: argv[1:])(["train.py", "a"]) == ["a"]


@pytest.fixture
def absl_handler():
    """As it is at the start of a program, and again afterwards."""
    handler, verbosity = logging.get_absl_handler(), logging.get_verbosity()
    formatter = handler.python_handler.formatter
    logging.set_verbosity(logging.INFO)
    yield handler
    logging.set_verbosity(verbosity)
    handler.setFormatter(formatter)


def test_the_first_process_is_heard_as_one_alone(absl_handler):
    quiet_process(0)
    assert logging.get_verbosity() == logging.INFO
    assert absl_handler.format(_record()).endswith("] a file is damaged")
    assert "process" not in absl_handler.format(_record())


def test_of_the_others_only_what_is_wrong_with_their_number(absl_handler):
    quiet_process(3)
    assert logging.get_verbosity() == logging.WARNING
    line = absl_handler.format(_record())
    assert line.startswith("process 3: W") and line.endswith("] a file is damaged")


def _record():
    logger = logging.get_absl_logger()
    level = logging.converter.STANDARD_WARNING
    return logger.makeRecord("", level, "a.py", 1, "a file is damaged", (), None)
