"""Every entry of TASKS keeps the contract of `Task`."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmlite import recipe
from lvmlite.images import Geometry
from lvmlite.metrics import METRICS
from lvmlite.tasks import TASK_CONFIGS, TASKS, build_task


def photo(shape, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((7, 7, 1), np.uint8))[: shape[0], : shape[1]]


def native(annotation, shape, rng):
    """A random annotation of a name listed in `Sample`."""
    if annotation in ("classes", "instances"):
        return rng.integers(0, 6, shape).astype(np.uint16)
    if annotation == "depth":
        return np.where(rng.random(shape) < 0.1, 0, rng.uniform(1, 20, shape)).astype(np.float32)
    assert annotation == "normals", f"say here what a random {annotation} is"
    vectors = rng.normal(size=(*shape, 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(rng.random((*shape, 1)) < 0.1, 0, vectors).astype(np.float32)


def annotated(task, shape, seed):
    rng = np.random.default_rng(seed)
    if task.annotation is None:
        return task.derive(photo(shape, seed), rng)
    return native(task.annotation, shape, rng)


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


def test_config_defaults_work_and_name_the_task(name):
    config = recipe.build(TASK_CONFIGS[name], {})
    assert config.task == name
    assert isinstance(build_task(config), TASKS[name])
    assert recipe.build(TASK_CONFIGS[name], recipe.to_dict(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.task = "other"


def test_metrics_are_known(name):
    task = build_task(TASK_CONFIGS[name]())
    assert task.metrics
    assert set(task.metrics) <= set(METRICS)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_picture_and_back(data):
    """uint8 RGB of the annotation's size; the same twice; read and drawn again the same but for rounding."""
    task = build_task(TASK_CONFIGS[data.draw(st.sampled_from(sorted(TASKS)))]())
    shape = data.draw(st.tuples(st.integers(8, 33), st.integers(8, 33)))
    annotation = annotated(task, shape, data.draw(st.integers(0, 99)))
    before = annotation.copy()
    picture = task.render(annotation)
    assert picture.shape == (*shape, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, task.render(annotation.copy()))
    read = task.read(picture)
    assert read.shape == annotation.shape
    assert np.abs(task.render(read).astype(int) - picture).max() <= 1
    assert np.array_equal(annotation, before, equal_nan=True)


def test_any_picture_can_be_read(name):
    task = build_task(TASK_CONFIGS[name]())
    for picture in (photo((16, 24)), np.zeros((1, 1, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)):
        read = task.read(picture)
        assert read.shape[:2] == picture.shape[:2]
        assert np.isfinite(read).all()


def test_judged_perfect_on_its_own_drawing(name):
    task = build_task(TASK_CONFIGS[name]())
    truth = annotated(task, (24, 24), 3)
    best = {"depth_absrel": 0, "depth_delta1": 1, "miou": 1, "normal_angle": 0, "edge_f1": 1, "psnr": 100}
    for metric_name in task.metrics:
        metric = METRICS[metric_name]()
        metric.update(task.read(task.render(truth)), truth)
        assert metric.compute() == pytest.approx(best.get(metric_name, 0), abs=0.25)


def test_derive_is_a_function_of_photo_and_rng(name):
    task = build_task(TASK_CONFIGS[name]())
    image = photo((20, 28))
    before = image.copy()
    first = task.derive(image, np.random.default_rng(5))
    assert (first is None) == (task.annotation is not None)
    if first is not None:
        assert first.shape[:2] == (20, 28)
        assert np.array_equal(first, task.derive(image, np.random.default_rng(5)))
        assert np.array_equal(image, before)


@pytest.mark.parametrize("geometry", [Geometry(size=16), Geometry(size=16, fit="pad"), Geometry(size=16, fit="crop")])
def test_fit_keeps_native_values(name, geometry):
    task = build_task(TASK_CONFIGS[name]())
    if task.annotation is None:
        return
    annotation = native(task.annotation, (30, 50), np.random.default_rng(0))
    fitted = task.fit(annotation, geometry)
    assert fitted.shape[:2] == (16, 16)
    assert fitted.dtype == annotation.dtype
    assert set(np.unique(fitted)) <= {*np.unique(annotation), 0}


def test_unknown_task_is_refused():
    @dataclasses.dataclass
    class Other:
        task: str = "segmentations"

    with pytest.raises(ValueError, match="no task 'segmentations'; the tasks are segmentation, depth"):
        build_task(Other())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("segmentation", {"n_classes": 0}, "n_classes.*1.*1000"),
        ("segmentation", {"n_classes": 151}, "painter150 has 150 colours"),
        ("segmentation", {"palette": "painter"}, "palette.*painter150"),
        ("segmentation", {"palete": "distinct"}, "palete.*did you mean 'palette'"),
        ("segmentation", {"variants": 0}, "variants"),
        ("depth", {"near": 5.0, "far": 5.0}, "near must be above 0 and below far"),
        ("depth", {"near": -1.0}, "near"),
        ("inpainting", {"min_area": 0.5}, "min_area 0.5"),
        ("inpainting", {"max_boxes": 0}, "max_boxes"),
        ("edges", {"low": 3.0}, "low 3.0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(name, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        recipe.build(TASK_CONFIGS[name], settings, f"data.kinds.{name}")
    assert str(error.value).startswith(f"data.kinds.{name}")
    assert "\n" not in str(error.value)
