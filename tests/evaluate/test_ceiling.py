"""Through a tokenizer and back: exact where nothing is lost, the floor where everything is."""

import numpy as np
import pytest

from lvmlite.evaluate.ceiling import metric_names, score, scores, through
from lvmlite.metrics import METRICS
from lvmlite.tasks import TASK_CONFIGS, build_task
from tests.evaluate.conftest import BlockColours, EveryPixel, Nothing

SEG = build_task(TASK_CONFIGS["segmentation"](palette="distinct", n_classes=5))


def maps(n=5):
    rng = np.random.default_rng(0)
    return [np.kron(rng.integers(0, 6, (4, 4)), np.ones((8, 8), int)) for _ in range(n)]


def test_what_loses_nothing_gives_the_very_pictures_and_a_full_score():
    drawn = np.stack([SEG.render(ids) for ids in maps()])
    np.testing.assert_array_equal(through(EveryPixel(), drawn, batch=2), drawn)
    assert score(SEG, "miou", maps(), through(EveryPixel(), drawn)).compute() == 1.0


def test_what_loses_all_scores_nothing():
    drawn = np.stack([SEG.render(ids) for ids in maps()])
    assert score(SEG, "miou", maps(), through(Nothing(), drawn)).compute() == 0.0
    assert score(SEG, "pixel_accuracy", maps(), through(Nothing(), drawn)).compute() == 0.0


def test_a_picture_each_pools_to_the_score_of_all():
    """mIoU of all pictures is that of their counts, and not the mean of five numbers."""
    rng = np.random.default_rng(1)
    noisy = np.stack([SEG.render(np.where(rng.random(ids.shape) < 0.3, 1, ids)) for ids in maps()])
    each = scores(SEG, ["miou"], maps(), noisy)["miou"]
    by_hand = METRICS["miou"]()
    for truth, picture in zip(maps(), noisy):
        by_hand.update(SEG.read(picture), truth)
    assert score(SEG, "miou", maps(), noisy).compute() == by_hand.compute()
    assert len(each) == 5
    assert np.mean([metric.compute() for metric in each]) != pytest.approx(by_hand.compute())


def test_photos_help_the_tasks_that_ask_for_them():
    boxes = build_task(TASK_CONFIGS["boxes"](n_classes=3))
    photo = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
    truth = np.array([[4, 4, 20, 22, 2, 0]], np.float32)
    drawn = boxes.render(truth, image=photo)[None]
    assert score(boxes, "box_f1", [truth], drawn, [photo]).compute() == 1.0


def test_pixel_accuracy_stands_beside_miou_only():
    assert metric_names(SEG) == ["miou", "pixel_accuracy"]
    assert metric_names(build_task(TASK_CONFIGS["depth"]())) == ["depth_absrel", "depth_delta1"]


def test_the_tokenizer_is_what_lowers_the_score():
    drawn = np.stack([SEG.render(ids) for ids in maps()])
    fine = np.stack([SEG.render(np.roll(ids, 2, 1)) for ids in maps()])  # borders inside its blocks
    kept = score(SEG, "miou", maps(), through(BlockColours(), drawn)).compute()
    cut = score(SEG, "miou", [np.roll(ids, 2, 1) for ids in maps()], through(BlockColours(), fine)).compute()
    assert kept == 1.0
    assert 0.2 < cut < 0.9
