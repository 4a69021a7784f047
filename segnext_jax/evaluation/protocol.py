"""How an image is turned into scores: what the published protocols differ in."""

from typing import Any, Literal, NamedTuple, get_args

Mode = Literal["whole", "slide"]
Average = Literal["probabilities", "logits"]


class Protocol(NamedTuple):
    """What the device does with the views of an image; fields are those of config.eval.

    The views themselves (scales, sizes) are made by `data/evaluation.py`.
    """

    mode: Mode = "whole"
    crop_size: tuple[int, int] = (1024, 1024)  # of a window, to slide
    stride: tuple[int, int] = (768, 768)
    flip: bool = False
    pad_divisor: int = 1
    average: Average = "probabilities"

    @classmethod
    def from_config(cls, eval_config: Any) -> "Protocol":
        """Reads config.eval. Raises ValueError for values that make no sense."""
        protocol = cls(
            mode=eval_config.mode,
            crop_size=tuple(eval_config.crop_size),
            stride=tuple(eval_config.stride),
            flip=eval_config.flip,
            pad_divisor=eval_config.pad_divisor,
            average=eval_config.average,
        )
        rules = {
            "mode": (protocol.mode in get_args(Mode), "'whole' or 'slide'"),
            "crop_size": (_is_size(protocol.crop_size), "(h, w), both above 0"),
            # A larger stride would leave pixels between windows without a score.
            "stride": (
                _is_size(protocol.stride)
                and _is_size(protocol.crop_size)
                and all(
                    s <= c
                    for s, c in zip(protocol.stride, protocol.crop_size, strict=False)
                ),
                "(h, w), both above 0 and not above those of config.eval.crop_size"
                f" = {protocol.crop_size}",
            ),
            "pad_divisor": (protocol.pad_divisor >= 1, "1 (no padding) or more"),
            "average": (
                protocol.average in get_args(Average),
                "'probabilities' or 'logits'",
            ),
        }
        for key, (is_legal, legal) in rules.items():
            if not is_legal:
                raise ValueError(
                    f"config.eval.{key} is {getattr(protocol, key)!r}: use {legal}"
                )
        return protocol


def _is_size(value: tuple[int, ...]) -> bool:
    # A misspelt number on the command line is a text.
    return len(value) == 2 and all(isinstance(x, int) and x > 0 for x in value)
