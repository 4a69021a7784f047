"""What a wrong flag is answered."""

import pytest

from configs import common
from segnext_jax.visual.console import name_misspelt_key


def test_misspelt_key_names_the_nearest():
    def parse(argv):
        return common.base().modle

    with pytest.raises(SystemExit, match="no config key 'modle': Did you"):
        name_misspelt_key(parse)([])


def test_other_arguments_pass():
    assert name_misspelt_key(lambda argv: argv[1:])(["train.py", "a"]) == ["a"]
