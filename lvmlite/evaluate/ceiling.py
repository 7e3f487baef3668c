"""The ceiling a tokenizer sets: what can still be read of an annotation that was drawn, encoded and decoded.

In: fitted annotations and a tokenizer, or any pictures of them. Out: metrics that add up, one for each picture.

This is the "ground truth rec." row of LVM-Lite's Tables 1 to 3. No model that answers in these codes is expected to
pass it; what drawing and reading alone lose is `score` of the drawn pictures themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lvmlite.metrics import METRICS, Metric
from lvmlite.tasks.base import Task
from lvmlite.tokenizers.base import Tokenizer, decode_tokens, encode_pictures


def through(tokenizer: Tokenizer, pictures: np.ndarray, batch: int = 64, bf16: bool = False) -> np.ndarray:
    """Pictures after the tokenizer: decode(encode(pictures)), (N, H, W, 3) uint8 -> (N, H, W, 3) uint8.

    Args:
        pictures: of the tokenizer's `image_size`.
        batch: pictures at a time; bf16: encode under autocast, where the device has it in hardware.
    """
    return decode_tokens(tokenizer, encode_pictures(tokenizer, pictures, batch, bf16), batch)


def scores(
    task: Task,
    metrics: Sequence[str],
    annotations: Sequence[Any],
    pictures: Sequence[np.ndarray] | np.ndarray,
    images: Sequence[np.ndarray] | np.ndarray | None = None,
) -> dict[str, list[Metric]]:
    """Read pictures with the task's canonical variant and count them against the truth.

    Args:
        metrics: names of METRICS.
        annotations: N true ones, fitted. pictures: N of them, (H, W, 3) uint8, as drawn or as they came back.
        images: the N photos they belong to, (H, W, 3) uint8, for tasks that read with the photo's help.

    Returns:
        metric -> N metrics, one a picture, to be pooled as a table needs.
    """
    counted: dict[str, list[Metric]] = {name: [] for name in metrics}
    for i, (truth, picture) in enumerate(zip(annotations, pictures, strict=True)):
        read = task.read(picture, image=None if images is None else images[i])
        for name, some in counted.items():
            some.append(one(name, read, truth))
    return counted


def score(
    task: Task,
    metric: str,
    annotations: Sequence[Any],
    pictures: Sequence[np.ndarray] | np.ndarray,
    images: Sequence[np.ndarray] | np.ndarray | None = None,
) -> Metric:
    """The metric of all pictures counted together, see `scores`: `score(...).compute()` is the number."""
    return pooled(scores(task, [metric], annotations, pictures, images)[metric])


def metric_names(task: Task) -> list[str]:
    """The task's metrics, and pixel accuracy beside mIoU."""
    return [*task.metrics, "pixel_accuracy"] if "miou" in task.metrics else list(task.metrics)


def one(name: str, prediction: Any, truth: Any) -> Metric:
    """The metric of one annotation read and its truth."""
    metric = METRICS[name]()
    metric.update(prediction, truth)
    return metric


def pooled(metrics: Sequence[Metric]) -> Metric:
    """All of them, at least one, counted together."""
    total = metrics[0].copy()
    for metric in metrics[1:]:
        total.merge(metric)
    return total
