"""What every source of visual data offers: parts, and the samples of a part.

In: a config naming files or a procedure. Out: `Sample`s, or `Reject`s where input could not be used.

A part is the unit of work: one process builds it, a killed build repeats it, a cluster hands it out. Parts and
the samples in them are deterministic: same input, same list, same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from lvmlite.sample import Sample


@dataclass(frozen=True)
class Part:
    """A piece of a source. `name` is a safe file name, unique in the source; `items` is the source's own affair."""

    name: str
    items: tuple[Any, ...]


@dataclass(frozen=True)
class Reject:
    """Input that gave no sample, and why. Goes to rejects.jsonl: counted and listed, never silently dropped."""

    key: str
    reason: str


class Source(ABC):
    """Base class. A subclass takes (config, seed) and sets `name`.

    Attributes:
        name: the name in the recipe; `Sample.source` of all its samples.
        licence: what the pictures may be used for, carried into the manifest and the model card.
        annotations: native annotations its frames may have, beside "image".
    """

    name: str
    licence: str
    annotations: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def parts(self) -> list[Part]:
        """All the parts, in a fixed order.

        Raises:
            ValueError: nothing to read, in one line that names the path and what to do.
        """

    @abstractmethod
    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        """The samples of one part, in a fixed order. Indexing a frame may raise `images.Unreadable`."""

    @abstractmethod
    def sample(self, key: str) -> Sample:
        """The sample of one key. Raises KeyError."""
