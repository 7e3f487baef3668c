import itertools
import json

import numpy as np
import pytest

from lvmlite.tasks import official, palettes


def test_ade20k_is_the_published_table():
    table = official.ade20k()
    assert table.shape == (151, 3)
    assert table[:5].tolist() == [[0, 0, 0], [120, 120, 120], [180, 120, 120], [6, 230, 230], [80, 50, 50]]
    assert table[-2:].tolist() == [[102, 255, 0], [92, 0, 255]]
    assert int(table.sum()) == 58427
    same = [pair for pair in itertools.combinations(range(151), 2) if (table[pair[0]] == table[pair[1]]).all()]
    assert same == [(7, 49)]  # road and skyscraper


def test_cityscapes_is_in_order_of_train_ids():
    table = official.cityscapes()
    assert table.shape == (20, 3)
    assert table[[0, 1, 12, 14, 19]].tolist() == [
        [0, 0, 0],
        [128, 64, 128],
        [220, 20, 60],
        [0, 0, 142],
        [119, 11, 32],
    ]
    assert palettes.least_distance(table) == 20


def test_voc_follows_its_formula():
    table = official.voc()
    assert table.shape == (22, 3)
    known = {0: [224, 224, 192], 1: [0, 0, 0], 2: [128, 0, 0], 9: [64, 0, 0], 16: [192, 128, 128], 21: [0, 64, 128]}
    for class_id, colour in known.items():
        assert table[class_id].tolist() == colour
    assert palettes.least_distance(table) == 64


def test_a_file_holds_one_colour_for_each_class(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([[255, 0, 0], [0, 255, 0], [1, 2, 3]]))
    assert palettes.canonical(str(path)).tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0], [1, 2, 3]]
    assert palettes.canonical(str(path), 2).tolist() == [[0, 0, 0], [255, 0, 0], [0, 255, 0]]
    with pytest.raises(ValueError, match=r"mine.json has 3 colours, n_classes is 4; lower it"):
        palettes.canonical(str(path), 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[1, 2, 3]", "broken JSON"),
        ('{"a": 1}', "expected a list"),
        ("[]", "expected a list"),
        ("[[1, 2, 3], [1, 2]]", "colour 2 is"),
        ("[[1, 2, 256]]", "colour 1 is"),
        ("[[1, 2, 3.5]]", "colour 1 is"),
        ("[[1, 2, true]]", "colour 1 is"),
        ("[[9, 9, 9], [1, 2, 3], [9, 9, 9]]", "colour 3, .* is that of class 1 already"),
        ("[[0, 0, 0]]", "colour 1, .* is that of unlabelled already"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        official.from_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        official.from_file(tmp_path / "none.json")
    with pytest.raises(ValueError, match="'painter' is none of painter150, ade20k, cityscapes, voc, distinct"):
        palettes.canonical("painter")


@pytest.mark.parametrize(
    ("name", "n"), [("painter150", 150), ("ade20k", 150), ("cityscapes", 19), ("voc", 21), ("distinct", 150)]
)
def test_a_palette_has_all_its_colours_unless_fewer_are_asked_for(name, n):
    assert len(palettes.canonical(name)) == n + 1
    assert np.array_equal(palettes.canonical(name, 5), palettes.canonical(name)[:6])


@pytest.mark.parametrize("name", ["painter150", "ade20k", "cityscapes", "voc"])
def test_more_classes_than_colours_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} has .* colours, n_classes is 151; lower it or use palette: distinct"):
        palettes.check(name, 151)
