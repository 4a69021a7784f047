import pytest

from data.sources import SOURCES, load_classes, make_source, source_classes
from data.sources.camvid import CAMVID
from data.sources.cityscapes import CITYSCAPES


def test_makes_the_configured_source(write_cityscapes, data_config):
    data_config.root = str(write_cityscapes(count=4))
    source = make_source(data_config, data_config.train_split)
    assert (len(source), source.classes) == (4, CITYSCAPES)
    assert source_classes(data_config) is CITYSCAPES


@pytest.mark.parametrize("name", SOURCES)
def test_classes_need_no_data(name, data_config):
    data_config.update(source=name, root="nowhere")
    assert source_classes(data_config) is SOURCES[name].classes


def test_folder_takes_the_classes_of_a_source(write_folder, data_config):
    data_config.update(source="folder", classes="camvid", root=str(write_folder()))
    classes = make_source(data_config, "train").classes
    assert (classes.names, classes.palette) == (CAMVID.names, CAMVID.palette)
    # But its labels hold train ids.
    assert classes.raw_to_train == {**{i: i for i in range(11)}, 255: 255}
    assert load_classes("cityscapes").raw_to_train[18] == 18


def test_folder_takes_a_class_file(write_folder, data_config, tmp_path):
    root = write_folder()
    text = "\ufeff0: sky 1 2 3\r\n1,2: ground 4 5 6\r\nignore 0 0 0\r\n"
    (root / "classes.txt").write_text(text, newline="")
    for classes in ("classes.txt", str(root / "classes.txt")):
        data_config.update(source="folder", classes=classes, root=str(root))
        table = make_source(data_config, "train").classes
        assert table.names == ("sky", "ground")
        assert table.raw_to_train == {0: 0, 1: 1, 2: 1, 255: 255}
        assert table.colour_to_train == {(1, 2, 3): 0, (4, 5, 6): 1, (0, 0, 0): 255}


def test_class_file_is_looked_for_in_the_root_first(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "classes.txt").write_text("there 0 0 0")
    monkeypatch.chdir(tmp_path)
    assert load_classes("classes.txt", str(tmp_path / "root")).names == ("there",)
    (tmp_path / "root/classes.txt").write_text("here 0 0 0")
    assert load_classes("classes.txt", str(tmp_path / "root")).names == ("here",)


def test_malformed_class_file_is_named(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("sky 1 2\n")
    with pytest.raises(ValueError, match=f"{path}:1: 'sky 1 2' is not"):
        load_classes("classes.txt", str(tmp_path))
    path.write_bytes("fenêtre 1 2 3".encode("latin-1"))
    with pytest.raises(ValueError, match=f"{path}: not UTF-8 text .* save it as UTF-8"):
        load_classes("classes.txt", str(tmp_path))


@pytest.mark.parametrize("classes", ["citiscapes", ""])
def test_unknown_classes_are_named_with_the_known_ones(classes, data_config):
    data_config.update(source="folder", classes=classes, root="some/root")
    with pytest.raises(
        FileNotFoundError, match=f"'{classes}' is.*ade20k,.*voc2012 nor.*'some/root'"
    ):
        make_source(data_config, "train")


def test_unknown_source_is_named_with_the_nearest_and_all(data_config):
    data_config.source = "cityscape"
    with pytest.raises(ValueError, match=r"'cityscape': did you mean 'cityscapes'\?"):
        make_source(data_config, "train")
    data_config.source = "?"
    with pytest.raises(
        ValueError, match=r"'\?': choose one of folder, shards, ade.*voc20"
    ):
        make_source(data_config, "train")


@pytest.mark.parametrize("name", ["shards", *SOURCES])
def test_sources_with_classes_refuse_others(name, data_config):
    data_config.update(source=name, classes="camvid")
    with pytest.raises(
        ValueError, match=f"'camvid', but source '{name}'.* leave it empty"
    ):
        make_source(data_config, "train")
