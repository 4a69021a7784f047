"""PaddleSeg's SegNeXt: the Paddle side of parity checks.

Runs in the environment of `requirements-paddle.txt`; imports nothing of this project.
"""

import warnings
from typing import NamedTuple


class Variant(NamedTuple):
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    ham_channels: int = 256


# backbones/mscan.py of PaddleSeg 2.8.0; the decoder is that of all its configs.
VARIANTS = {
    "T": Variant((32, 64, 160, 256), (3, 3, 5, 2)),
    "S": Variant((64, 128, 320, 512), (2, 2, 4, 2)),
    "B": Variant((64, 128, 320, 512), (3, 3, 12, 3)),
    "L": Variant((64, 128, 320, 512), (3, 5, 27, 3)),
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about compilers that nothing here needs
    import paddle
    from paddleseg.models import SegNeXt
    from paddleseg.models.backbones.mscan import MSCAN


def build(variant: Variant, num_classes: int, *, nmf_rank: int = 16) -> paddle.nn.Layer:
    """PaddleSeg's SegNeXt for evaluation, NCHW [b 3 h w] in."""
    model = SegNeXt(
        MSCAN(embed_dims=list(variant.dims), depths=list(variant.depths)),
        decoder_cfg=dict(
            channels=variant.ham_channels,
            ham_channels=variant.ham_channels,
            ham_kwargs=dict(MD_R=nmf_rank),
        ),
        num_classes=num_classes,
    )
    model.eval()
    return model
