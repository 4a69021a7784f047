"""SegNeXt on ADE20K, 150 classes: 512², 160k steps of 16 images.

    python train.py --config configs/ade20k.py:t       or s, b, l

Reads datasets/ADEChallengeData2016; its layout is in data/sources/ade20k.py. This is
the authors' recipe. Published mIoU on the validation set, single / multiple scales with
flip, from ImageNet weights (`--config.init_from.path`, with part=backbone):

            T             S             B             L
  authors   41.1 / 42.2   44.3 / 45.8   48.5 / 49.9   51.0 / 52.1
  mmseg     41.50 / 42.59 44.16 / 45.81 48.03 / 49.68 50.99 / 52.10

mmsegmentation starts its decay after the warm-up (schedule.form=paddle) and has NMF of
rank 16 in B and L (model.decoder=mmseg). Both score images that are fitted into
(512, 2048), and then the authors stretch them to multiples of 32, as is done here;
mmsegmentation pads them (`eval.py --protocol mmseg1x`). For several scales with flip:
`eval.py --protocol official --multi_scale`.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "ade20k"
    config.data.root = "datasets/ADEChallengeData2016"
    config.data.train_split = "training"
    config.data.val_split = "validation"
    config.data.resize_to = (512, 2048)
    config.data.crop_size = (512, 512)
    config.train.batch_size = 16
    protocols.apply(config, "official")
    return config
