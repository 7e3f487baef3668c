"""Constants are what an answer that ignores the query would be best off with."""

import numpy as np

from lvmlite.evaluate.protocols.floors import constants
from lvmlite.metrics import METRICS
from lvmlite.tasks import TASK_CONFIGS, build_task


def test_most_frequent_class_never_unlabelled():
    maps = [np.array([[0, 1], [2, 2]], np.uint8), np.array([[0, 1], [1, 2]], np.uint8), np.zeros((2, 2), np.uint8)]
    found = constants("miou", maps)
    assert found["constant"].tolist() == [[1, 1], [1, 1]]  # 1 and 2 thrice each: the lower
    assert found["constant per pixel"][0, 1] == 1
    assert found["constant per pixel"][1, 1] == 2
    assert found["constant per pixel"].dtype == np.uint8


def test_median_of_known_metres():
    maps = [np.full((1, 2), z, np.float32) for z in (2, 4, 9)]
    maps[1][0, 0] = 0
    found = constants("depth_absrel", maps)
    assert found["constant per pixel"].tolist() == [[2, 4]]
    assert found["constant"].tolist() == [[4, 4]]
    assert constants("depth_absrel", [np.zeros((1, 2), np.float32)])["constant"].tolist() == [[0, 0]]


def test_mean_direction_is_a_unit_vector():
    maps = [np.tile(np.float32(v), (1, 1, 1)) for v in ([1, 0, 0], [0, 1, 0])]
    np.testing.assert_allclose(constants("normal_angle", maps)["constant"][0, 0], [0.5**0.5, 0.5**0.5, 0], rtol=1e-6)
    assert not constants("normal_angle", [np.zeros((1, 1, 3), np.float32)])["constant"].any()


def test_lines_where_they_are_frequent():
    found = constants("edge_f1", [np.array([[True, False]]), np.array([[True, False]])])
    assert found["constant per pixel"].tolist() == [[True, False]]
    assert found["constant"].tolist() == [[True, True]]


def test_mean_of_pictures_with_and_without_channels():
    grey = [np.full((2, 2), v, np.uint8) for v in (10, 20)]
    assert (constants("psnr", grey)["constant"] == 15).all()
    colour = [np.tile(np.uint8([v, 0, 200]), (2, 2, 1)) for v in (10, 20)]
    assert constants("psnr", colour)["constant"][1, 1].tolist() == [15, 0, 200]


def test_every_task_has_constants():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name, config in TASK_CONFIGS.items():
        task = build_task(config())
        read = [task.read(picture) for picture in noise]
        found = constants(task.metrics[0], read)
        if not METRICS[task.metrics[0]].same_shape:
            assert found == {}, name
            continue
        assert set(found) == {"constant", "constant per pixel"}, name
        for annotation in found.values():
            assert annotation.shape == read[0].shape
            assert annotation.dtype == read[0].dtype


def test_an_unknown_metric_has_none():
    assert constants("fid", [np.zeros((2, 2))]) == {}
