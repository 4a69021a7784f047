"""Writes generated street scenes in the layout of Cityscapes.

    python -m tools.generate_scenes datasets/street_scenes --num-train 240

Read them with config.data.source = "street_scenes" (or "cityscapes").
"""

import argparse

from data.sources import street_scenes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", help="folder to make")
    parser.add_argument("--num-train", type=int, default=street_scenes.NUM_TRAIN)
    parser.add_argument("--num-val", type=int, default=street_scenes.NUM_VAL)
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=street_scenes.SIZE,
        metavar=("HEIGHT", "WIDTH"),
    )
    parser.add_argument("--seed", type=int, default=street_scenes.SEED)
    args = parser.parse_args()
    try:
        street_scenes.generate(
            args.root,
            num_train=args.num_train,
            num_val=args.num_val,
            size=tuple(args.size),
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"{args.root}: {args.num_train} train and {args.num_val} val scenes")


if __name__ == "__main__":
    main()
