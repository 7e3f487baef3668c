"""Visual sentences: paths through grids. Each type says which cells are read, in which order.

In: the shards of one split and a config. Out: for many sentences at once, (column, row) of every picture.

An *item* is what an epoch counts: a frame, a sample, a pair. A sentence type draws `items_per_sentence` of its
`n_items` for each sentence. What else it needs at random it draws from `Draws`, a function of (seed, type, sentence).
One entry of a recipe may expand to several types, which share its tokens evenly: `pairs` to one per (source, kind,
order).
Papers: LVM section 3 and LVM-Lite section 3.2.

Adding a type: a config, a class with `expand` and `cells`, a line in SENTENCES.
"""

from __future__ import annotations

from typing import Any

from lvmlite.data.sentences.annotated_video import AnnotatedVideo, AnnotatedVideoConfig
from lvmlite.data.sentences.base import Columns, Frames, SentenceType
from lvmlite.data.sentences.category import Category, CategoryConfig
from lvmlite.data.sentences.multi import Multi, MultiConfig
from lvmlite.data.sentences.pairs import Pairs, PairsConfig
from lvmlite.data.sentences.single import Random, RandomConfig, Single, SingleConfig
from lvmlite.data.sentences.video import LongConfig, Video, VideoConfig, Views, ViewsConfig
from lvmlite.data.sentences.whole import Whole, WholeConfig

SENTENCES: dict[str, tuple[type[Any], type[Any]]] = {
    "single": (SingleConfig, Single),
    "random": (RandomConfig, Random),
    "video": (VideoConfig, Video),
    "long": (LongConfig, Video),
    "views": (ViewsConfig, Views),
    "category": (CategoryConfig, Category),
    "pairs": (PairsConfig, Pairs),
    "multi": (MultiConfig, Multi),
    "annotated_video": (AnnotatedVideoConfig, AnnotatedVideo),
    "whole": (WholeConfig, Whole),
}

__all__ = [
    "SENTENCES",
    "AnnotatedVideoConfig",
    "CategoryConfig",
    "Columns",
    "Frames",
    "LongConfig",
    "MultiConfig",
    "PairsConfig",
    "RandomConfig",
    "SentenceType",
    "SingleConfig",
    "VideoConfig",
    "ViewsConfig",
    "WholeConfig",
    "sentence_configs",
]


def sentence_configs() -> dict[str, type[Any]]:
    """The table that recipes are read with."""
    return {name: config for name, (config, _) in SENTENCES.items()}
