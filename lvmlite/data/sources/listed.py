"""Sources that know all their samples beforehand: data sets on disk with official lists, files side by side.

In: entries, which a subclass makes of file names and annotation files, and `read`, which decodes one frame of an entry.
Out: parts, samples, rejects. A subclass is a config, a listing and a `read`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lvmlite.data.sources.base import LazyFrames, Part, Reject, Source, chosen_of, parts_of
from lvmlite.sample import Sample


@dataclass(frozen=True)
class Entry:
    """A sample to be read.

    Attributes:
        key, group, split, category: as in `Sample`.
        payload: what `read` needs: names of files, annotation records. It decides the sample, with the config and the
            files it names.
        n_frames: T.
    """

    key: str
    group: str
    split: str
    category: str | None
    payload: Any
    n_frames: int = 1


class Listed(Source):
    """Base class.

    Args:
        name, licence: of `Source`.
        entries: in a fixed order; of two with one key the second is rejected.
        rejects: what listing passed over, and why.
        part_size: entries a part.
    """

    def __init__(
        self, name: str, licence: str, entries: Iterable[Entry], rejects: Iterable[Reject] = (), part_size: int = 1024
    ) -> None:
        self.name, self.licence, self.part_size = name, licence, part_size
        self.entries: dict[str, Entry] = {}
        self.rejects = list(rejects)
        for entry in entries:
            if entry.key in self.entries:
                self.rejects.append(Reject(entry.key, "duplicate key"))
            else:
                self.entries[entry.key] = entry

    @abstractmethod
    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        """Frame t of an entry: annotation name -> native annotation, "image" among them. Raises Unreadable."""

    def parts(self) -> list[Part]:
        """Parts of `part_size` entries; before them, if listing passed anything over, one part of rejects."""
        return parts_of(list(self.entries), self.part_size, self.rejects, lambda keys: [self.entries[k] for k in keys])

    def samples(self, part: Part) -> Iterator[Sample | Reject]:
        for item in part.items:
            yield item if isinstance(item, Reject) else self.sample(item)

    def sample(self, key: str) -> Sample:
        entry = self.entries[key]
        return Sample(key, entry.group, self.name, entry.split, entry.category, EntryFrames(self, entry))

    def shorten(self, max_samples: int | None) -> None:
        """Keep at most so many entries, chosen by a hash of the key: the same ones whatever is added."""
        kept = chosen_of(self.entries, max_samples)
        self.entries = {key: entry for key, entry in self.entries.items() if key in kept}


@dataclass(frozen=True)
class EntryFrames(LazyFrames):
    """The frames of an entry."""

    source: Listed
    entry: Entry

    def __len__(self) -> int:
        return self.entry.n_frames

    def frame(self, t: int) -> Mapping[str, Any]:
        return self.source.read(self.entry, t)
