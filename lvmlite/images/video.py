"""Video: any file FFmpeg reads, through PyAV -> uint8 RGB frames, even in time, or `Unreadable`.

Frames are numbered by *slots*. A video of N frames has N slots of equal length, (last - first timestamp) / (N - 1),
from its first timestamp on; a slot shows the frame that is on screen in its middle. In a video of constant rate, slot i
is frame i, rounded timestamps included. Where the rate varies, a frame that stays long fills several slots and one of a
burst fills none. The slots' length comes from the timestamps, read without decoding, as the rates that containers
state are guesses in some formats and wrong in some files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np

from lvmlite.images import still
from lvmlite.images.still import Unreadable

MAX_PAUSE = 10  # seconds between two frames; timestamps further apart are taken for wrong
UNTIMED = ("avi",)  # formats without timestamps: FFmpeg numbers the packets, which are not in the order of display
HALF = Fraction(1, 2)


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
        self._rate: Fraction | None = None
        self._scanned = False
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
        """What slots start, start + every, ... show, as uint8 RGB (H, W, 3), turned upright; at most `limit`.

        Frames in between are decoded and dropped without conversion. A decoding error ends the iteration, see
        `truncated`. From a frame on whose timestamp is missing, not after the one before, or more than `MAX_PAUSE`
        seconds after it, each frame fills one slot: a bad timestamp gives no thousands of copies.

        Raises:
            Unreadable: "no frames", if not even one can be decoded.
        """
        slot, kept = start, 0
        for frame, end in self._timed():
            while slot + HALF < end:
                try:
                    picture = frame.to_ndarray(format="rgb24")
                except _decoder_errors() as error:
                    self.truncated = f"damaged after frame {slot}"
                    if not kept:
                        raise Unreadable("no frames") from error
                    return
                yield np.ascontiguousarray(np.rot90(picture, round(frame.rotation / 90)))
                slot += every
                kept += 1
                if kept == limit:
                    return

    def _timed(self) -> Iterator[tuple[Any, Fraction]]:
        """Each decoded frame, and where it leaves the screen, in slots. Raises Unreadable."""
        rate = self._slots_per_tick()
        with self._open() as (container, stream):
            clock = _Clock(rate, MAX_PAUSE / stream.time_base)
            index, last = 0, None
            self.truncated = None
            try:
                for frame in container.decode(stream):
                    if frame.is_corrupt or frame.width * frame.height > still.MAX_PIXELS:
                        self.truncated = f"damaged after frame {index}"
                        break
                    at = clock.advance(frame.pts)
                    if last is not None:
                        yield last, at
                    last = frame
                    index += 1
            except _decoder_errors() as error:
                self.truncated = f"damaged after frame {index}"
                if not index:
                    raise Unreadable("no frames") from error
            if not index:
                raise Unreadable("no frames")
            self.truncated = self.truncated or _missing(container, stream, last, index)
            yield last, clock.at + 1

    def _slots_per_tick(self) -> Fraction | None:
        """Slots per unit of the timestamps, from those of all packets; None where they say nothing."""
        if self._scanned:
            return self._rate
        stamps: list[int] = []
        with self._open() as (container, stream):
            longest = MAX_PAUSE / stream.time_base
            try:
                for packet in () if container.format.name in UNTIMED else container.demux(stream):
                    if packet.size == 0 or packet.is_discard or _hidden(packet, stream):
                        continue
                    if packet.pts is None:
                        stamps = []
                        break
                    if stamps and abs(packet.pts - stamps[-1]) > longest:
                        break
                    stamps.append(packet.pts)
            except _decoder_errors():
                pass  # decoding meets the damage too, and says so
        self._rate, self._scanned = _mean_rate(stamps), True
        return self._rate


def _decoder_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises on damaged streams."""
    import av

    return (av.FFmpegError, OSError, ValueError, LookupError, MemoryError)


class _Clock:
    """Where frames stand on the row of slots.

    Args:
        rate: slots per tick, or None to give each frame one slot.
        longest: ticks; a longer pause is a wrong timestamp.
    """

    def __init__(self, rate: Fraction | None, longest: Fraction) -> None:
        self.rate, self.longest = rate, longest
        self.at = Fraction(-1)  # of the last frame
        self.first = self.last = 0

    def advance(self, pts: int | None) -> Fraction:
        """Where the next frame begins."""
        if self.at < 0:
            self.at, self.first = Fraction(0), pts or 0
            if pts is None:
                self.rate = None
        elif self.rate is not None and pts is not None and 0 < pts - self.last <= self.longest:
            self.at = (pts - self.first) * self.rate
        else:
            if self.rate is not None:
                self.rate, self.at = None, Fraction(ceil(self.at - HALF))  # the first slot that the last frame fills
            self.at += 1
        self.last = pts or 0
        return self.at


def _mean_rate(stamps: list[int]) -> Fraction | None:
    """(N - 1) / (last - first) of timestamps in any order; None if they do not differ."""
    span = max(stamps, default=0) - min(stamps, default=0)
    return Fraction(len(stamps) - 1, span) if span else None


def _hidden(packet: Any, stream: Any) -> bool:
    """Whether the packet holds a frame for reference alone: VP8 has them in packets of their own (RFC 6386, 9.1)."""
    return stream.codec_context.name in ("vp8", "libvpx") and not bytes(packet)[0] & 16


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
