"""Source `video_lists`: data sets of video files with official lists: UCF-101, Kinetics, Something-Something v2.

In: a folder of videos and the lists as published. Out: clips, as source `videos` cuts them, with the official splits
and classes. A video that is listed and not there is a `Reject`; data sets of videos that users take from the web are
hardly ever whole. What a list says of itself:

- ``ucf101`` (arXiv:1212.0402): trainlist01.txt, testlist01.txt, ... of one fold, lines
  ``ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1``, in test lists without the number. Class: the folder; group:
  ``ApplyEyeMakeup_g08``, the clips cut from one long video.
- ``kinetics`` (arXiv:1705.06950; 400, 600, 700): csv files ``label,youtube_id,time_start,time_end,split``, test lists
  also without label. File ``<youtube_id>_<start:06d>_<end:06d>.mp4`` in the root or in folders named after the split,
  the class (with spaces or underscores), or both.
- ``ssv2`` (arXiv:1706.04261): something-something-v2-train.json, -validation.json, -test.json, lists of
  ``{"id": "78687", "label": ..., "template": "Holding [something] next to [something]", ...}``, in test lists with
  the id alone. File ``<id>.webm``. Class: the template without brackets, as in something-something-v2-labels.json.

Copies encoded anew are found under other suffixes too.
"""

from __future__ import annotations

import csv
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from lvmlite.data.sources.base import Reject
from lvmlite.data.sources.files import SPLIT_FOLDERS, Folder
from lvmlite.data.sources.published import PublishedConfig
from lvmlite.data.sources.videos import SUFFIXES, Clips, ClipsConfig, Video
from lvmlite.recipe import Range

LICENCES = {
    "ucf101": "UCF-101: videos of YouTube's users, none stated; for research",
    "kinetics": "Kinetics: lists CC BY 4.0; videos of YouTube's users, under their own terms",
    "ssv2": "Something-Something v2: Qualcomm's data licence agreement, research only",
}
SPLITS = {**SPLIT_FOLDERS, "validate": "val"}  # Kinetics writes "validate" or "val"
HEADER = ("youtube_id", "time_start", "time_end", "split")


@dataclass(frozen=True, kw_only=True)
class VideoListsConfig(ClipsConfig, PublishedConfig):
    """Settings of `VideoLists`, beside those of clips and of published data sets.

    path: the folder that holds the videos.
    lists: list files, in the format named. All those of UCF-101 must be of one fold.
    format: how lists and videos are laid out, see the head of this file.
    """

    lists: list[str]
    format: Literal["ucf101", "kinetics", "ssv2"]
    source: Literal["video_lists"] = "video_lists"
    name: str = "video_lists"
    part_size: Annotated[int, Range(1)] = 16


@dataclass(frozen=True)
class Listing:
    """A line of a list: the names under which the file may lie, the likeliest first; its official split."""

    names: tuple[str, ...]
    group: str
    split: str
    category: str | None


class VideoLists(Clips):
    """Samples of `VideoListsConfig`; `seed` is there because every source takes one."""

    def __init__(self, config: VideoListsConfig, seed: int = 0) -> None:
        """Raises: ValueError, in one line, if a list cannot be read or no listed video is there."""
        root = Path(config.path).expanduser()
        if not root.is_dir():
            raise ValueError(f"{config.path}: no such folder; give the folder that holds the videos")
        if not config.lists:
            raise ValueError(f"source {config.name}: lists is empty; give list files of {config.format}")
        folder = Folder(root, SUFFIXES)
        stems = {posixpath.splitext(name)[0]: name for name in reversed(folder.names)}
        videos: dict[str, Video] = {}
        rejects: list[Reject] = list(folder.rejects)
        listings = [listing for path in config.lists for listing in FORMATS[config.format](path)]
        if config.format == "ucf101":
            _check_fold(config.lists)
        for listing in listings:
            name = _find(listing.names, folder, stems)
            if name is None:
                rejects.append(Reject(listing.names[0], "listed and not there"))
            elif name in videos:
                rejects.append(Reject(name, "listed twice"))
            else:
                split = config.split(listing.split, listing.group)
                videos[name] = Video(folder.open(name), listing.group, split, listing.category)
        if not videos:
            example = f", such as {listings[0].names[0]}" if listings else ""
            raise ValueError(f"{config.path}: none of the {len(listings)} listed videos is there{example}; check path")
        if unlisted := sum(name not in videos for name in folder.names):
            rejects.append(Reject(".", f"in no list: {unlisted} videos"))
        super().__init__(config.name, LICENCES[config.format], config, videos, rejects)


def _find(names: tuple[str, ...], folder: Folder, stems: dict[str, str]) -> str | None:
    """The file of one of the names, as it is or with another suffix."""
    for name in names:
        if name in folder:
            return name
    return next((stems[stem] for stem in (posixpath.splitext(name)[0] for name in names) if stem in stems), None)


def read_ucf101(path: str) -> Iterator[Listing]:
    """The lines of trainlist01.txt and the like. Raises ValueError, here and below: file, line, what was expected."""
    split = _split_of_list(path)
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([^/\s]+)/([^/\s]+\.\w+)(\s+\d+)?\s*", line)
        if match is None:
            raise ValueError(f"{path}, line {number}: expected 'Class/v_Class_g08_c01.avi 1', found '{line[:60]}'")
        category, file = match[1], match[2]
        video = re.search(r"_(g\d+)_c\d+\.", file)
        group = f"{category}_{video[1]}" if video else f"{category}/{file}"
        yield Listing((f"{category}/{file}",), group, split, category)


def read_kinetics(path: str) -> Iterator[Listing]:
    """The rows of a csv file of Kinetics."""
    reader = csv.DictReader(_text(path).splitlines())
    try:
        missing = [column for column in HEADER if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}, line 1: no column {missing[0]}; expected label,{','.join(HEADER)}")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if any(row[column] is None for column in HEADER):
                raise ValueError(f"{where}: too few columns; expected {','.join(reader.fieldnames or ())}")
            yield _kinetics(row, where)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not csv: {error}") from error


def _kinetics(row: dict[str, str], where: str) -> Listing:
    video, official, label = row["youtube_id"].strip(), row["split"].strip(), (row.get("label") or "").strip()
    if official not in SPLITS:
        raise ValueError(f"{where}: no split '{official[:20]}'; expected {', '.join(SPLITS)}")
    if not re.fullmatch(r"[\w-]+", video):
        raise ValueError(f"{where}: '{video[:20]}' is no youtube_id")
    seconds = [row[column].strip() for column in ("time_start", "time_end")]
    if not all(re.fullmatch(r"\d{1,6}(\.0*)?", text) for text in seconds):
        raise ValueError(f"{where}: time_start and time_end must be whole seconds, found '{', '.join(seconds)[:40]}'")
    start, end = (int(float(text)) for text in seconds)
    split = SPLITS[official]
    classes = list(dict.fromkeys((label, label.replace(" ", "_")))) if label else []
    splits = dict.fromkeys((official, *(name for name, ours in SPLITS.items() if ours == split)))
    folders = ["", *classes, *splits, *(f"{name}/{each}" for name in splits for each in classes)]
    file = f"{video}_{start:06d}_{end:06d}.mp4"
    return Listing(tuple(posixpath.join(folder, file) for folder in folders), video, split, label or None)


def read_ssv2(path: str) -> Iterator[Listing]:
    """The entries of something-something-v2-train.json and the like."""
    split = _split_of_list(path)
    try:
        entries = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: not JSON: too deep") from error
    if not isinstance(entries, list):
        raise ValueError(
            f'{path}: expected a list of {{"id": ..., "template": ...}}; labels.json is not a list of videos'
        )
    for number, entry in enumerate(entries):
        video, template = (entry.get("id"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if not isinstance(video, str | int) or not re.fullmatch(r"[\w-]+", str(video)):
            raise ValueError(f'{path}, entry {number}: expected {{"id": "78687", ...}}')
        if not isinstance(template, str | None):
            raise ValueError(f"{path}, entry {number}: template must be a text")
        category = re.sub(r"[\[\]]", "", template) if template else None
        yield Listing((f"{video}.webm", *(f"{name}/{video}.webm" for name in SPLITS)), str(video), split, category)


FORMATS: dict[str, Callable[[str], Iterator[Listing]]] = {
    "ucf101": read_ucf101,
    "kinetics": read_kinetics,
    "ssv2": read_ssv2,
}


def _text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: cannot read this list: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a list, as it is not text") from error


def _split_of_list(path: str) -> str:
    """The split that a list's own name states."""
    found = {SPLITS[word] for word in re.findall("train|val|test", Path(path).name.lower())}
    if len(found) != 1:
        raise ValueError(f"{path}: the list's name must say train, validation or test, as the published one does")
    return found.pop()


def _check_fold(lists: list[str]) -> None:
    """Folds share videos: what one trains on another tests on."""
    folds: Any = {match[0] for path in lists if (match := re.search(r"\d+(?=\.\w+$)", Path(path).name))}
    if len(folds) > 1:
        raise ValueError(f"lists: folds {', '.join(sorted(folds))} of UCF-101 overlap; give the lists of one fold")
