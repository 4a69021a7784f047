import pytest

from data.classes import CAMVID, CITYSCAPES
from data.sources import make_source


def test_makes_the_configured_source(write_cityscapes, data_config):
    data_config.root = str(write_cityscapes(count=4))
    source = make_source(data_config, data_config.train_split)
    assert (len(source), source.classes) == (4, CITYSCAPES)


def test_folder_takes_the_configured_classes(write_folder, data_config):
    data_config.update(source="folder", classes="camvid", root=str(write_folder()))
    assert make_source(data_config, "train").classes == CAMVID


def test_unknown_source(data_config):
    data_config.source = "ade"
    with pytest.raises(ValueError, match="'ade'; choose cityscapes, folder"):
        make_source(data_config, "train")


def test_cityscapes_refuses_other_classes(data_config):
    data_config.classes = "camvid"
    with pytest.raises(ValueError, match="set it to 'cityscapes'"):
        make_source(data_config, "train")
