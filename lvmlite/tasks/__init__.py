"""Tasks: annotations that can be drawn as pictures. A new one is a file and a line here."""

from __future__ import annotations

from typing import Any

from lvmlite.tasks.base import Task
from lvmlite.tasks.boundaries import Boundaries
from lvmlite.tasks.boxes import Boxes
from lvmlite.tasks.degradations import LowLight, Noise, Rain
from lvmlite.tasks.depth import Depth, RelativeDepth
from lvmlite.tasks.disparity import Disparity
from lvmlite.tasks.edges import Edges
from lvmlite.tasks.foreground import Foreground
from lvmlite.tasks.instances import Instances
from lvmlite.tasks.keypoint import Keypoint
from lvmlite.tasks.normals import Normals
from lvmlite.tasks.paired import Paired
from lvmlite.tasks.panoptic import Panoptic
from lvmlite.tasks.photometric import Colourisation, Inpainting
from lvmlite.tasks.pose import Pose
from lvmlite.tasks.segmentation import Segmentation

TASKS: dict[str, type[Any]] = {
    "segmentation": Segmentation,
    "instances": Instances,
    "panoptic": Panoptic,
    "foreground": Foreground,
    "boxes": Boxes,
    "depth": Depth,
    "relative_depth": RelativeDepth,
    "disparity": Disparity,
    "normals": Normals,
    "edges": Edges,
    "boundaries": Boundaries,
    "pose": Pose,
    "keypoint": Keypoint,
    "paired": Paired,
    "colourisation": Colourisation,
    "inpainting": Inpainting,
    "noise": Noise,
    "rain": Rain,
    "low_light": LowLight,
}

# name -> config dataclass, for `recipe.one_of("task", lambda: TASK_CONFIGS)`
TASK_CONFIGS: dict[str, type[Any]] = {name: task.Config for name, task in TASKS.items()}


def build_task(config: Any) -> Task:
    """The task of a config of TASK_CONFIGS, chosen by its field `task`.

    Raises:
        ValueError: no such task.
    """
    name = getattr(config, "task", None)
    if name not in TASKS:
        raise ValueError(f"no task {name!r}; the tasks are {', '.join(TASKS)}")
    task: Task = TASKS[name](config)
    return task
