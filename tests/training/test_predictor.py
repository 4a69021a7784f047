import numpy as np
import pytest

from configs import common
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.checkpoint import write_weights
from segnext_jax.training.predictor import load_predictor
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights


def test_checkpoint_of_classification_is_refused(tmp_path):
    leaf = {"a": {"bias": np.zeros(1, np.float32)}}
    variables = {"params": leaf, "batch_stats": leaf}
    description = Description(common.base("classification"), ["dog"], [])
    write_weights(
        str(tmp_path), Weights(variables, None, {}, "native", []), description
    )
    with pytest.raises(ValueError, match=rf"{tmp_path} is a checkpoint of classific"):
        load_predictor(str(tmp_path), common.complete, make_mesh())
