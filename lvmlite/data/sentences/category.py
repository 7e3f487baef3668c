"""Pictures of one class in a row: LVM's category sentences (section 3.1): groups of 2, 4, 8 or 16; 16 pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from lvmlite.data.build import IMAGE
from lvmlite.data.keyed import Draws, key_of, mix, permute_each
from lvmlite.data.sentences.base import Columns, SentenceType, Share
from lvmlite.data.store import Shard
from lvmlite.recipe import Range


@dataclass
class CategoryConfig:
    """Groups of pictures, each group of one class.

    Attributes:
        groups: sizes of a group; one type each. A class of fewer pictures is left out.
        pictures: in a sentence; a multiple of each size.
    """

    sentence: Literal["category"] = "category"
    share: Share = 1.0
    sources: list[str] | None = None
    groups: list[Annotated[int, Range(2)]] = field(default_factory=lambda: [2, 4, 8, 16])
    pictures: Annotated[int, Range(2)] = 16

    def __post_init__(self) -> None:
        if not self.groups:
            raise ValueError("groups is empty: name at least one size, e.g. [2]")
        if wrong := [g for g in self.groups if self.pictures % g]:
            raise ValueError(f"{self.pictures} pictures are not made of whole groups of {wrong[0]}")


class Category(SentenceType):
    """Items are groups: each epoch deals every class's pictures anew into groups, so a picture is seen at most once.

    The pictures that a class has beyond a multiple of the size sit out an epoch, others each time. The same class of
    several sources is several classes. Of a clip the first frame is read.
    """

    def __init__(self, group: int, pictures: int, table: ClassTable):
        self.name, self.group, self.table = f"category/{group}", group, table
        self.items_per_sentence, self.n_pictures = pictures // group, pictures
        self.kinds = [IMAGE] * pictures
        self.ends = np.cumsum(table.counts // group)
        self.n_items = int(self.ends[-1]) if len(self.ends) else 0
        few = int((table.counts < group).sum())
        self.left_out = {f"classes of fewer than {group} pictures": few} if few else {}

    @classmethod
    def expand(cls, config: CategoryConfig, shards: Sequence[Shard], columns: Columns) -> list[SentenceType]:
        table = ClassTable(shards, columns)
        return [cls(group, config.pictures, table) for group in dict.fromkeys(config.groups)]

    def cells(self, items: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        table = self.table
        label = np.searchsorted(self.ends, items, side="right")  # (n, groups of a sentence)
        place = (items - (self.ends[label] - table.counts[label] // self.group))[..., None] * self.group
        place = place + np.arange(self.group)
        with np.errstate(over="ignore"):
            keys = mix(mix(label.astype(np.uint64)) ^ draws.epochs.astype(np.uint64))
            keys = mix(keys ^ np.uint64(key_of(draws.key, "classes")))
        keys, n = (
            np.broadcast_to(keys[..., None], place.shape),
            np.broadcast_to(table.counts[label][..., None], place.shape),
        )
        member = permute_each(keys.ravel(), place.ravel(), n.ravel()).reshape(place.shape)
        at = ((table.ends - table.counts)[label][..., None] + member).reshape(len(items), -1)
        return table.column[at], table.row[at]


class ClassTable:
    """Pictures sorted by class. `column`, `row`: (n,); `counts`, `ends`: (classes,) how many, and where each ends."""

    def __init__(self, shards: Sequence[Shard], columns: Columns):
        numbers: dict[tuple[str, str], int] = {}
        labels, column, row = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for shard in shards:
            if not shard.info.categories:
                continue
            names = [(shard.info.source, name) for name in shard.info.categories]
            number = np.array([numbers.setdefault(name, len(numbers)) for name in names])
            samples = shard.samples()
            samples = samples[samples[:, 2] >= 0]
            labels.append(number[samples[:, 2]])
            column.append(np.full(len(samples), columns.add(shard, IMAGE), np.int64))
            row.append(samples[:, 0])
        label = np.concatenate(labels)
        order = np.argsort(label, kind="stable")
        self.column, self.row = np.concatenate(column)[order], np.concatenate(row)[order]
        self.counts = np.bincount(label, minlength=len(numbers))
        self.ends = np.cumsum(self.counts)
