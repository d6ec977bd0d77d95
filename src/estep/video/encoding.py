"""Frames as a file that a browser plays: H.264 in MP4 where imageio-ffmpeg is installed, else animated WebP."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estep.errors import UsageError, describe
from estep.runs import leftovers, reading, storage

Picture: TypeAlias = npt.NDArray[np.uint8]
"""[height, width, 3]."""
MP4, WEBP = ".mp4", ".webp"
INSTALL = "Run pip install 'estep[video]'"
HELD = 400
"""Frames of a WebP that are in memory. Of a longer video every second one is left out, and so on."""
QUALITY = 70
LARGEST = 2**31
"""Bytes of a video."""


def kind() -> str:
    """The kind of file that can be written here: .mp4 or .webp."""
    return MP4 if importlib.util.find_spec("imageio_ffmpeg") else WEBP


def check_kind(suffix: str) -> None:
    """Refuse a kind of file that is not known, or whose library is missing.

    Raises:
        UsageError: it is one of these.
    """
    if suffix not in (MP4, WEBP):
        raise UsageError(f"A video is no {suffix or 'file without a suffix'}.", "Give --out a name.mp4 or a name.webp.")
    if suffix == MP4 and kind() != MP4:
        raise UsageError("An MP4 needs imageio-ffmpeg, which is not installed.", f"{INSTALL}, or give a name.webp.")
    if suffix == WEBP and importlib.util.find_spec("PIL") is None:
        raise UsageError("A WebP needs Pillow, which is not installed.", f"{INSTALL}, or pip install pillow.")


def write(frames: Iterator[Picture], fps: float, path: Path) -> int:
    """Write a video, atomically; returns its number of frames.

    Args:
        frames: pictures [height, width, 3] of one size, at least one.
        fps: frames in a second.
        path: the file, whose suffix is .mp4 or .webp. Its folder is made.

    Raises:
        StorageFailure: the disk fails.
        UsageError: the encoder fails.
    """
    with leftovers.folder_for_a_while() as place:
        if path.suffix == MP4:
            made = place / f"video{MP4}"
            count = _write_mp4(frames, fps, made)
            data = reading.read_path(made, LARGEST)
        else:
            data, count = _webp(frames, fps)
        storage.make_dir(path.absolute().parent)
        storage.write_atomic(path, data)
    return count


def _write_mp4(frames: Iterator[Picture], fps: float, path: Path) -> int:
    import imageio_ffmpeg

    first, count = next(frames), 1
    even = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2  # yuv420p has half the colours each way

    def cut(frame: Picture) -> Picture:
        return np.ascontiguousarray(frame[: even[0], : even[1]])

    try:
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (even[1], even[0]),
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            macro_block_size=1,
            ffmpeg_log_level="error",
            output_params=["-movflags", "+faststart"],
        )
        with warnings.catch_warnings():
            # It starts ffmpeg by a fork, of which JAX warns; the process begins another program at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            writer.send(None)
        writer.send(cut(first))
        for frame in frames:
            writer.send(cut(frame))
            count += 1
        writer.close()
    except (OSError, RuntimeError) as error:
        what = f"The encoder of MP4 failed: {describe(error)}."
        raise UsageError(what, "Give --out a name.webp, or install imageio-ffmpeg again.") from error
    return count


def _webp(frames: Iterator[Picture], fps: float) -> tuple[bytes, int]:
    from PIL import Image

    held: list[Any] = []
    stride = 1
    for i, frame in enumerate(frames):
        if i % stride == 0:
            held.append(Image.fromarray(frame))
        if len(held) > HELD:
            held, stride = held[::2], 2 * stride
    memory = io.BytesIO()
    shown = round(1000 * stride / fps)  # milliseconds
    held[0].save(memory, "WEBP", save_all=True, append_images=held[1:], duration=shown, loop=0, quality=QUALITY)
    return memory.getvalue(), len(held)
