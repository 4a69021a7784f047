"""MSCAN-T on ImageNet: the backbone of SegNeXt-T, pre-trained.

    python train.py --config configs/imagenet_mscan_t.py

Reads `imagenet2012` of TensorFlow Datasets from datasets/tfds, which it must have
prepared (ArrayRecord). 300 epochs, as 375 300 steps of 1024 images of 224².
Published top-1 on the validation set: 75.9 % (Guo et al. 2022, SegNeXt).

The recipe is that of the Visual Attention Network, in its train.py and train.sh of 8
GPUs × 128 images, which drive timm. Where its paper differs (section 4.1: a learning
rate of 5e-4) the scripts are followed. Other than there, moments of BatchNorm and λ of
mixup are of the whole batch instead of each GPU's, the learning rate changes by steps
instead of epochs, and the 10 epochs at 1e-6 after the 300 are left out.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    return common.base("classification")
