import os
from pathlib import Path

import pytest

from data.inputs import Input, find_inputs

FILES = ("a/1.jpg", "a/b/2.PNG", "a/b/3.mp4", "a/notes.md", "a/._1.jpg", "a/.git/4.png")
OUTPUT = "out"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for file in FILES:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find(*arguments, output=OUTPUT):
    return {path: name for path, name in find_inputs(arguments, output)}


def test_folder_is_searched_at_any_depth(tree):
    assert find("a") == {"a/1.jpg": "1", "a/b/2.PNG": "b/2", "a/b/3.mp4": "b/3"}


def test_names_of_files_are_below_what_they_have_in_common(tree):
    assert find("a/b/2.PNG") == {"a/b/2.PNG": "2"}
    assert find("a/1.jpg", str(tree / "a/b/2.PNG")) == {
        "a/1.jpg": "1",
        str(tree / "a/b/2.PNG"): "b/2",
    }


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a/*.jpg", {"a/1.jpg": "1"}),
        ("a/*", {"a/1.jpg": "1"}),
        ("*/b/*.PNG", {"a/b/2.PNG": "a/b/2"}),
        ("a/**/*.[Pm]*", {"a/b/2.PNG": "b/2", "a/b/3.mp4": "b/3"}),
    ],
)
def test_names_of_a_glob_are_below_its_fixed_part(tree, pattern, expected):
    assert find(pattern) == expected


def test_file_whose_name_looks_like_a_glob(tree):
    Path("a/[1].jpg").touch()
    assert find("a/[1].jpg") == {"a/[1].jpg": "[1]"}


def test_lines_of_a_list_are_found_from_here_or_from_the_list(tree):
    Path("a/list.txt").write_text(
        "\ufeffa/1.jpg\n\n b/2.PNG \r\nmissing.jpg\n", "utf-8"
    )
    assert find("a/list.txt") == {
        "a/1.jpg": "1",
        "a/b/2.PNG": "b/2",
        "a/missing.jpg": "missing",
    }


def test_each_file_once(tree):
    os.symlink("1.jpg", "a/same.jpg")
    assert list(find("a", "a/b/2.PNG", "a/*.jpg")) == [
        "a/1.jpg",
        "a/b/2.PNG",
        "a/b/3.mp4",
    ]


def test_results_of_an_earlier_run_are_no_inputs(tree):
    Path("a/out/overlay").mkdir(parents=True)
    Path("a/out/overlay/1.jpg").touch()
    assert "a/out/overlay/1.jpg" in find("a")
    for argument in ("a", "a/**"):
        assert set(find(argument, output="a/out")) == set(FILES[:3])


@pytest.mark.parametrize("argument", ["a/1.jpg", "a/b"])
@pytest.mark.parametrize("output", ["a", "."])
def test_results_do_not_go_where_inputs_are(tree, argument, output):
    with pytest.raises(ValueError, match=f"output folder {output} has the input a/"):
        find(argument, output=output)


@pytest.mark.parametrize(
    ("arguments", "file", "both"),
    [
        (["a"], "a/b/2.jpg", "a/b/2.PNG and a/b/2.jpg"),
        (["a/b", "a/*.jpg"], "a/b/1.jpg", "a/b/1.jpg and a/1.jpg"),
    ],
)
def test_two_results_of_one_name(tree, arguments, file, both):
    Path(file).touch()
    with pytest.raises(ValueError, match=f"{both} would both be called"):
        find(*arguments)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("a/*.gif", r"no image or video matches a/\*\.gif"),
        ("empty", "no image or video in the folder empty"),
        ("a/9.jpg", "there is no file or folder a/9.jpg"),
        ("empty.txt", "the list empty.txt is empty"),
    ],
)
def test_argument_that_stands_for_nothing_is_named(tree, argument, message):
    Path("empty").mkdir()
    Path("empty.txt").touch()
    with pytest.raises(FileNotFoundError, match=message):
        find("a", argument)


def test_list_in_another_encoding(tree):
    Path("list.txt").write_bytes("stra\xdfe.jpg".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list\.txt: not UTF-8"):
        find("list.txt")


def test_videos_are_told_by_their_suffix():
    assert Input("x/Clip.MOV", "Clip").is_video
    assert not Input("x/clip.jpg", "clip").is_video
