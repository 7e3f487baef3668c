"""Video: any file FFmpeg reads, through PyAV -> uint8 RGB frames in presentation order, or `Unreadable`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lvmlite.images import still
from lvmlite.images.still import Unreadable


class VideoReader:
    """Frames of a video file that FFmpeg reads, in presentation order, never more than a few in memory.

    Decoding takes one thread: on damaged streams that is what makes the frames the same each time.

    Attributes:
        truncated: None, or after an iteration that reached the end of what can be read, why that is not the
            end of the video: "ends after frame 61 of 120" and the like. The frames before are good.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises: Unreadable: "not a video, or cut before its index", "no video stream", ..."""
        self.path = os.fspath(path)
        self.truncated: str | None = None
        with self._open():
            pass

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """(container, first video stream that is not a cover picture)."""
        import av

        try:
            with open(self.path, "rb") as file:
                empty = not file.read(1)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise Unreadable(f"cannot read: {getattr(error, 'strerror', None) or error}") from error
        if empty:
            raise Unreadable("empty file")
        try:
            container = av.open(f"file:{self.path}", metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise Unreadable("not a video, or cut before its index") from error
        with container:
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise Unreadable("no video stream")
            if streams[0].codec_context is None:
                raise Unreadable("no decoder for this codec")
            if streams[0].width * streams[0].height > still.MAX_PIXELS:
                raise Unreadable(f"too large: more than {still.MAX_PIXELS} pixels")
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]

    def frames(self, every: int = 1, limit: int | None = None, start: int = 0) -> Iterator[np.ndarray]:
        """Frames number start, start + every, ... as uint8 RGB (H, W, 3), turned upright; at most `limit`.

        Frames in between are decoded and dropped without conversion. A decoding error ends the iteration, see
        `truncated`.

        Raises:
            Unreadable: "no frames", if not even one can be decoded.
        """
        import av

        with self._open() as (container, stream):
            index, kept, last = 0, 0, None
            self.truncated = None
            try:
                for frame in container.decode(stream):
                    if frame.is_corrupt or frame.width * frame.height > still.MAX_PIXELS:
                        self.truncated = f"damaged after frame {index}"
                        break
                    if index >= start and (index - start) % every == 0:
                        picture = frame.to_ndarray(format="rgb24")
                        yield np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
                        kept += 1
                        if kept == limit:
                            return
                    last = frame
                    index += 1
            except (av.FFmpegError, OSError, ValueError, LookupError, MemoryError) as error:
                self.truncated = f"damaged after frame {index}"
                if not index:
                    raise Unreadable("no frames") from error
            if not index:
                raise Unreadable("no frames")
            self.truncated = self.truncated or _missing(container, stream, last, index)


def _missing(container: Any, stream: Any, last: Any, n_frames: int) -> str | None:
    """What the file's header promises beyond the last frame decoded; None if nothing worth mention."""
    if stream.frames > n_frames + max(2, stream.frames // 50):
        return f"ends after frame {n_frames} of {stream.frames}"
    promised = _seconds(stream.metadata.get("DURATION", ""))  # Matroska as FFmpeg and mkvmerge write it
    if stream.duration is not None:
        promised = float(stream.duration * stream.time_base)
    elif promised is None and len(container.streams) == 1 and container.duration is not None:
        promised = container.duration / 1e6
    if promised is None or last.time is None:
        return None
    first = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    seen = last.time - first + float((last.duration or 0) * (last.time_base or 0))
    if seen < promised - max(0.5, 0.05 * promised):
        return f"ends after {seen:.1f} s of {promised:.1f} s"
    return None


def _seconds(text: str) -> float | None:
    """ "00:01:02.500000000" -> 62.5."""
    try:
        hours, minutes, seconds = (float(part) for part in text.split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds
