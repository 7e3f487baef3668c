"""Source `paired`: photos and what belongs to them in other files, matched by what their names share.

In: a folder, tar or zip, a pattern of photos, and one of each partner. Out: samples of 1 x {image, partner, ...}; a
`Reject` for what has no partner, two partners, or a partner of another size. Never matched by order.

A pattern is a name below `path`. ``{key}`` stands for what photo and partner share; it takes as much as it can and may
hold "/". ``{part}``, ``{group}``, ``{category}`` and ``{split}`` stand for as little of one folder or file name as they
can, and are shared too where both patterns name them; ``*`` is a piece that differs. Examples::

    SIDD, real noise, where the second number of a folder is the scene:
      image: "Data/{part}_{group}_{key}/*NOISY_SRGB_*.PNG"
      partners: {target: "Data/{part}_{group}_{key}/*GT_SRGB_*.PNG"}
      and of SIDD Medium, with two shots a folder: "Data/*_{group}_{key}_NOISY_SRGB_{part}.PNG" and so on
    LOL, low light:
      image: "{split}/low/{key}.png", partners: {target: "{split}/high/{key}.png"}
      splits: {our485: train, eval15: test}
    Rain100L, rain:
      image: "rain-{key}.png", partners: {target: "norain-{key}.png"}
    pictures and their edited versions, as InstructPix2Pix has them: a folder a prompt, several seeds in it:
      image: "{part}/{group}/{key}_0.jpg", partners: {target: "{part}/{group}/{key}_1.jpg"}
    a stereo pair:
      image: "left/{key}.png", partners: {target: "right/{key}.png", disparity: "disp/{key}.png"}, disparity_scale: 256
    CamVid as SegNet has it, 0 .. 11 of which 11 is unlabelled:
      image: "images/{split}/{key}.jpg", partners: {classes: "labels/{split}/{key}.png"}, first: 1, ignore: [11]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import SPLIT_FOLDERS, Files, find_files
from lvmlite.data.sources.listed import Entry, Listed
from lvmlite.data.sources.maps import READABLE, MapsConfig, check_size
from lvmlite.data.sources.photos import SUFFIXES
from lvmlite.recipe import Range
from lvmlite.sample import ANNOTATIONS, SPLITS, split_of

PLACES = ("split", "category", "group", "part", "key")


@dataclass(frozen=True)
class PairedConfig(MapsConfig):
    """Settings of `Paired`: those of `MapsConfig`, and

    path: a folder, tar or zip.
    image: the pattern of photos, see the head of this file.
    partners: native annotation -> pattern. How a partner is read follows from the annotation's name, see
        `sample.ANNOTATIONS`; any other name is a picture, like "target".
    splits: what ``{split}`` matches -> train, val or test; known already: train, training, val, valid, validation, test
        and testing. If nothing is "val", a hashed share `val` of train becomes it.
    val, test: shares of groups held out where the pattern has no ``{split}``.
    max_samples: at most so many, chosen by a hash of the key.
    part_size: samples a part.
    """

    path: str
    image: str
    partners: dict[str, str]
    source: Literal["paired"] = "paired"
    name: str = "paired"
    splits: dict[str, str] = field(default_factory=dict)
    val: Annotated[float, Range(0, 1)] = 0.05
    test: Annotated[float, Range(0, 1)] = 0.05
    max_samples: Annotated[int, Range(1)] | None = None
    part_size: Annotated[int, Range(1)] = 1024
    licence: str = "unknown (user's own pictures)"


class Pattern:
    """A name with places left open, see the head of this file. `where` and `text` are for messages."""

    def __init__(self, text: str, where: str) -> None:
        """Raises: ValueError, in one line, if the pattern has no ``{key}`` or a place that is not known."""
        self.text, self.where = text, where
        self.places: list[str] = []
        self.literals = 0
        regex = ""
        for piece in re.split(r"(\{[^{}]*\}|\*)", text):
            place = piece[1:-1] if piece.startswith("{") else ""
            if piece == "*":
                regex += "[^/]*?"
            elif place in self.places:
                regex += f"(?P={place})"
            elif place in PLACES:
                regex += f"(?P<{place}>{'.+' if place == 'key' else '[^/]+?'})"
                self.places.append(place)
            elif "{" in piece or "}" in piece:
                raise ValueError(f"{where}: '{piece}' in '{text}' is none of {', '.join(f'{{{p}}}' for p in PLACES)}")
            else:
                regex += re.escape(piece)
                self.literals += len(piece)
        if "key" not in self.places:
            raise ValueError(f"{where}: '{text}' has no {{key}}: what photo and partner have in common")
        self._regex = re.compile(regex, re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """What each place stands for in a name, or None."""
        found = self._regex.fullmatch(name)
        return None if found is None else found.groupdict()


def match_names(patterns: Mapping[str, Pattern], files: Files) -> dict[str, list[tuple[str, dict[str, str]]]]:
    """Pattern's name -> (file name, places), in the files' order. A file that fits several is of the most literal.

    Raises:
        ValueError: a pattern fits no file, in one line that shows two files.
    """
    found: dict[str, list[tuple[str, dict[str, str]]]] = {name: [] for name in patterns}
    for file in files.names:
        fits = {name: places for name, p in patterns.items() if (places := p.match(file)) is not None}
        most = max((patterns[name].literals for name in fits), default=0)
        for name, places in fits.items():
            if patterns[name].literals == most:
                found[name].append((file, places))
    for name, matches in found.items():
        if not matches:
            some = " and ".join(f"'{file}'" for file in dict.fromkeys((files.names[0], files.names[-1])))
            raise ValueError(
                f"{files.path}: {patterns[name].where}: no file fits '{patterns[name].text}'; there is {some}"
            )
    return found


class Paired(Listed):
    """Samples of `PairedConfig`. Nothing is drawn: `seed` is there because every source takes one."""

    def __init__(self, config: PairedConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line: nothing to read, a pattern that fits nothing, or a split without meaning."""
        self.config = config
        for annotation in config.partners:
            if annotation == "image" or (annotation in ANNOTATIONS and annotation not in READABLE):
                raise ValueError(f"partners: '{annotation}' cannot be read from one picture")
        if not config.partners:
            raise ValueError("partners: none; for photos alone use source 'photos'")
        self._files = find_files(config.path, SUFFIXES, "photos and their partners")
        self.annotations = tuple(config.partners)
        patterns = {"image": Pattern(config.image, "image")}
        patterns |= {name: Pattern(text, f"partners.{name}") for name, text in config.partners.items()}
        rejects = list(self._files.rejects)
        entries = list(self._pair(patterns, rejects))
        super().__init__(config.name, config.licence, entries, rejects, config.part_size)
        self.shorten(config.max_samples)

    def _pair(self, patterns: Mapping[str, Pattern], rejects: list[Reject]) -> Iterator[Entry]:
        """An entry for each photo whose partners are there; what is left over goes to `rejects`."""
        found = match_names(patterns, self._files)
        shared = {
            name: [place for place in PLACES if place in pattern.places and place in patterns["image"].places]
            for name, pattern in patterns.items()
        }
        same = [place for place in shared["image"] if all(place in places for places in shared.values())]
        partners: dict[str, dict[tuple[str, ...], list[str]]] = {name: {} for name in self.annotations}
        for annotation, index in partners.items():
            for file, places in found[annotation]:
                index.setdefault(tuple(places[p] for p in shared[annotation]), []).append(file)
        official = self._official({places["split"] for _, places in found["image"] if "split" in places})
        taken: dict[str, set[tuple[str, ...]]] = {name: set() for name in self.annotations}
        keys: set[str] = set()
        for file, places in found["image"]:
            key = "/".join(places[place] for place in patterns["image"].places)
            if key in keys:
                rejects.append(Reject(file, "a second photo of the same key"))
                continue
            keys.add(key)
            payload: list[tuple[str, str]] = [("image", file)]
            for annotation, index in partners.items():
                at = tuple(places[place] for place in shared[annotation])
                taken[annotation].add(at)
                if len(index.get(at, ())) != 1:
                    problem = "two files for one photo" if at in index else "partner is missing"
                    rejects.append(Reject(key, f"{problem}: {annotation}"))
                    break
                payload.append((annotation, index[at][0]))
            else:
                group = places.get("group") or "/".join(places[place] for place in same)
                split = official[places["split"]] if official else split_of(group, self.config.val, self.config.test)
                if official and split == "train" and "val" not in official.values():
                    split = split_of(group, self.config.val, 0)
                yield Entry(key, group, split, places.get("category"), tuple(payload))
        left = {name: sum(len(v) for at, v in partners[name].items() if at not in taken[name]) for name in partners}
        if any(left.values()):
            counts = ", ".join(f"{n} {name}" for name, n in left.items() if n)
            rejects.append(Reject(".", f"partners without a photo: {counts}"))
        matched = {file for files in found.values() for file, _ in files}
        if others := len(self._files.names) - len(matched):
            rejects.append(Reject(".", f"files that fit no pattern: {others}"))

    def _official(self, found: set[str]) -> dict[str, str]:
        """What ``{split}`` matched -> train, val or test. Raises ValueError for one without meaning."""
        for name, split in self.config.splits.items():
            if split not in SPLITS:
                raise ValueError(f"splits.{name}: '{split}' is none of {', '.join(SPLITS)}")
        meaning = SPLIT_FOLDERS | self.config.splits
        for name in sorted(found):
            if name not in meaning and name.lower() not in meaning:
                raise ValueError(f"{{split}} is '{name}': say what it means, such as splits: {{{name}: train}}")
        return {name: meaning.get(name) or meaning[name.lower()] for name in sorted(found)}

    def read(self, entry: Entry, t: int) -> Mapping[str, Any]:
        frame: dict[str, np.ndarray] = {}
        for annotation, file in entry.payload:
            frame[annotation] = self.config.read_map(annotation, self._files.read(file))
            check_size(frame[annotation], frame["image"], annotation)
        return frame
