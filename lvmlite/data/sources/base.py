"""What every source of visual data offers: parts, and the samples of a part.

In: a config naming files or a procedure. Out: `Sample`s, or `Reject`s where input could not be used.

A part is the unit of work: one process builds it, a killed build repeats it, a cluster hands it out. Parts and
the samples in them are deterministic: same input, same list, same order.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from lvmlite.sample import Sample

REJECTS = "rejects"  # the part that reports what listing passed over


@dataclass(frozen=True)
class Part:
    """A piece of a source. `name` is a safe file name, unique in the source; `items` is the source's own affair.

    `stamp` is a hash of what else decides the samples (annotations already read): a part that is built is built again
    when it changes.
    """

    name: str
    items: tuple[Any, ...]
    stamp: str = ""


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
        annotations: native annotations its frames may have, beside "image"; names of `sample.ANNOTATIONS`, mostly.
        frame_step: of so many frames of a video one is kept; strides of sentences count the video's frames.
        views: frames go round an object: the first follows the last.
    """

    name: str
    licence: str
    annotations: tuple[str, ...] = ()
    frame_step: int = 1
    views: bool = False

    def about(self) -> dict[str, Any]:
        """What a store says of the source."""
        return {"licence": self.licence, "frame_step": self.frame_step, "views": self.views}

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


class LazyFrames(Sequence[Mapping[str, Any]], ABC):
    """The frames of a sample, decoded when indexed. A subclass says how many there are, and decodes one."""

    @abstractmethod
    def frame(self, t: int) -> Mapping[str, Any]:
        """Frame t, 0 <= t < len(self). Raises Unreadable."""

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: Any) -> Any:
        chosen = range(len(self))[index]
        return [self.frame(t) for t in chosen] if isinstance(index, slice) else self.frame(chosen)


def digest(text: str) -> bytes:
    """SHA-256 of any text, names of files that are not Unicode included."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()


def chosen_of(names: Iterable[str], most: int | None) -> set[str]:
    """At most so many names, chosen by a hash of each: the same ones whatever is added."""
    return set(names) if most is None else set(sorted(names, key=digest)[:most])


def with_rejects(parts: Iterable[Part], rejects: Iterable[Reject]) -> list[Part]:
    """The parts; before them, if listing passed anything over, one part of rejects."""
    passed_over = tuple(rejects)
    return [Part(REJECTS, passed_over), *parts] if passed_over else [*parts]


def parts_of(
    names: Sequence[str],
    size: int,
    rejects: Iterable[Reject],
    about: Callable[[Sequence[str]], Sequence[Any]] | None = None,
) -> list[Part]:
    """Parts of `size` names, and one of rejects. `about`: what else decides the samples of these names; see `Part`."""
    chunks = [tuple(names[i : i + size]) for i in range(0, len(names), size)]
    stamps = [digest(repr(about(chunk))).hex()[:16] if about else "" for chunk in chunks]
    parts = (Part(f"{i:05d}", *both) for i, both in enumerate(zip(chunks, stamps, strict=True)))
    return with_rejects(parts, rejects)
