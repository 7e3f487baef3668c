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
    pixels = max(7, -(-max(shape) // 9))
    return np.kron(blocks, np.ones((pixels, pixels, 1), np.uint8))[: shape[0], : shape[1]]


def native(annotation, shape, rng):
    """A random annotation of a name in `sample.ANNOTATIONS`."""
    height, width = shape
    if annotation in ("classes", "instances"):
        return rng.integers(0, 6, shape).astype(np.uint16)
    if annotation == "panoptic":
        blocks = rng.integers(0, 6, (3, 3)) * 1000 + rng.integers(1, 4, (3, 3))
        return np.kron(blocks, np.ones((height // 3 + 1, width // 3 + 1)))[:height, :width].astype(np.int32)
    if annotation == "boundaries":
        return (rng.integers(0, 6, shape) / 5).astype(np.float32)
    if annotation == "depth":
        return np.where(rng.random(shape) < 0.1, 0, rng.uniform(1, 20, shape)).astype(np.float32)
    if annotation == "disparity":
        return np.where(rng.random(shape) < 0.1, 0, rng.uniform(0.1, 0.25 * width, shape)).astype(np.float32)
    if annotation == "target":
        return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    if annotation == "boxes":
        left, top = rng.integers(1, width // 8, 2), rng.integers(1, height // 4, 2) + np.array([0, height // 2])
        right, bottom = left + rng.integers(4, width // 2, 2), top + rng.integers(4, height // 4 - 1, 2)
        return np.stack([left, top, right, bottom, rng.integers(1, 6, 2), [1, 2]], 1).astype(np.float32)
    if annotation == "pose":
        x, y = np.array(STANDING).T
        joints = np.stack([width * (x + 0.5), height * y, np.full(17, 2)], 1) + rng.uniform(-0.3, 0.3, (17, 3)) * [
            1,
            1,
            0,
        ]
        return joints[None].astype(np.float32)
    assert annotation == "normals", f"say here what a random {annotation} is"
    vectors = rng.normal(size=(*shape, 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return np.where(rng.random((*shape, 1)) < 0.1, 0, vectors).astype(np.float32)


# COCO's 17 joints of someone with spread arms and legs, x and y as shares of the side, x from the middle
STANDING = (
    *((0.0, 0.12), (0.05, 0.05), (-0.05, 0.05), (0.13, 0.08), (-0.13, 0.08), (0.16, 0.27), (-0.16, 0.27)),
    *((0.3, 0.33), (-0.3, 0.33), (0.43, 0.22), (-0.43, 0.22), (0.1, 0.55), (-0.1, 0.55), (0.18, 0.73), (-0.18, 0.73)),
    *((0.25, 0.93), (-0.25, 0.93)),
)
LISTS = ("boxes", "pose", "keypoints")  # annotations that are not maps


def sides(task):
    """Sizes at which a task is asked to draw: lists of points need room."""
    return st.sampled_from((96, 128)) if task.annotation in LISTS else st.integers(8, 33)


def annotated(task, side, seed):
    """A fitted annotation of a square photo, and the photo."""
    shape = (side, side)
    rng, image = np.random.default_rng(seed), photo(shape, seed)
    if task.annotation is None:
        return task.derive(image, rng), image
    return task.fit(native(task.annotation, shape, rng), Geometry(size=side), shape), image


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


@settings(max_examples=8, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", TASKS)
def test_picture_and_back(name, data):
    """uint8 RGB of the photo's size; the same twice; read and drawn again the same but for rounding."""
    task = build_task(TASK_CONFIGS[name]())
    side = data.draw(sides(task))
    annotation, image = annotated(task, side, data.draw(st.integers(0, 99)))
    before = annotation.copy()
    picture = task.render(annotation, image=image)
    assert picture.shape == (side, side, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, task.render(annotation.copy(), image=image))
    read = task.read(picture, image=image)
    if task.annotation not in LISTS:
        assert read.shape == annotation.shape
    assert np.abs(task.render(read, image=image).astype(int) - picture).max() <= 1
    assert np.array_equal(annotation, before, equal_nan=True)


def test_any_picture_can_be_read(name):
    task = build_task(TASK_CONFIGS[name]())
    for picture in (photo((16, 24)), np.zeros((1, 1, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)):
        for image in (None, picture[::-1].copy()):
            read = task.read(picture, image=image)
            assert np.isfinite(read).all()
            if task.annotation not in LISTS:
                assert read.shape[:2] == picture.shape[:2]


def test_every_variant_of_every_split_is_read_back(name):
    task = build_task(recipe.build(TASK_CONFIGS[name], VARIANTS.get(name, {})))
    annotation, image = annotated(task, 96, 4)
    pictures = {}
    for split in ("train", "val", "test"):
        for v in range(task.variants):
            picture = task.render(annotation, v, split, image)
            again = task.render(task.read(picture, v, split, image), v, split, image)
            assert np.abs(again.astype(int) - picture).max() <= 1
            pictures[split, v] = picture.tobytes()
    if "palette_seed" in {field.name for field in dataclasses.fields(TASK_CONFIGS[name])}:
        assert len(set(pictures.values())) == 1 + 3 * (task.variants - 1)  # 0 is the same for all splits


VARIANTS = {
    name: {"variants": 3} for name in ("segmentation", "instances", "panoptic", "boxes", "noise", "rain", "low_light")
}


def test_judged_perfect_on_its_own_drawing(name):
    task = build_task(TASK_CONFIGS[name]())
    truth, image = annotated(task, 96, 3)
    for metric_name in task.metrics:
        metric = METRICS[metric_name]()
        metric.update(task.read(task.render(truth, image=image), image=image), truth)
        best = {"psnr": 100}.get(metric_name, float(METRICS[metric_name].higher_is_better))
        assert metric.compute() == pytest.approx(best, abs=0.25)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_brought_back_to_the_photo(name, fit):
    """unfit undoes fit: exactly for points, up to a pixel of the smaller grid for maps, where "crop" did not cut."""
    task = build_task(TASK_CONFIGS[name]())
    if task.annotation is None:
        return
    shape, geometry = (60, 96), Geometry(size=192, fit=fit)
    annotation = native(task.annotation, shape, np.random.default_rng(1))
    back = task.unfit(task.fit(annotation, geometry, shape), geometry, shape)
    if name == "foreground":  # fit tells which ids count
        annotation = (annotation > 0).astype(back.dtype)
    if task.annotation in LISTS:
        inside = np.ones(annotation.shape[-2] if annotation.ndim == 3 else len(annotation), bool)
        wanted = annotation.reshape(-1, annotation.shape[-1])
        found = back.reshape(-1, wanted.shape[-1])
        if fit == "crop":
            low, high = (96 - 60) / 2, (96 + 60) / 2
            corners = wanted[:, [0, 2]] if name == "boxes" else wanted[:, [0]]
            inside = ((corners >= low) & (corners <= high)).all(1)
            if len(found) != len(wanted):
                return  # a box was cut away
        assert np.allclose(
            found[inside][:, : 4 if name == "boxes" else 2], wanted[inside][:, : 4 if name == "boxes" else 2], atol=1e-3
        )
    elif annotation.dtype != np.uint8:
        kept = slice(None) if fit != "crop" else slice(18, 78)
        assert np.allclose(back[:, kept], annotation[:, kept], atol=1e-4)


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
    fitted = task.fit(annotation, geometry, (30, 50))
    if name == "foreground":
        assert set(np.unique(fitted)) == {0, 1}
        return
    assert fitted.dtype == annotation.dtype
    if task.annotation in LISTS:
        return
    assert fitted.shape[:2] == (16, 16)
    if name not in ("paired", "disparity"):  # filtered, and scaled with the width
        assert set(np.unique(fitted)) <= {*np.unique(annotation), 0}


def test_unknown_task_is_refused():
    @dataclasses.dataclass
    class Other:
        task: str = "segmentations"

    with pytest.raises(ValueError, match="no task 'segmentations'; the tasks are segmentation, instances"):
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
