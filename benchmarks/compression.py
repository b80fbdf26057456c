"""How much smaller replay's codecs make frames like an Atari game's, and how fast; JSON lines of ``compression.*``.

The frames are drawn here (84 × 84 grey pixels: walls, bricks that vanish, a paddle, a ball, a score), without noise. A
writer sends 64 consecutive steps at a time, a sampler gets batches of 256 items of 4 consecutive frames. ``plain`` has
no differences between rows.
"""

from __future__ import annotations

import json
import time

import numpy as np

from kourou.replay.storage.compression import PackedArray, pack, unpack

SHADES = np.array([200, 180, 160, 120, 100, 70], np.uint8)
ROUNDS = 5


def draw(count: int) -> np.ndarray:
    """Consecutive frames, [count, 84, 84]."""
    rng = np.random.default_rng(0)
    frames = np.zeros((count, 84, 84), np.uint8)
    frames[:, 10:14] = frames[:, :, :4] = frames[:, :, -4:] = 142
    bricks = rng.random((6, 18)) < 0.8
    position, speed, paddle = np.array([50.0, 40.0]), np.array([1.3, 1.7]), 40
    for number, frame in enumerate(frames):
        wall = np.kron(bricks * SHADES[:, None], np.ones((3, 4), np.uint8))
        frame[20:38, 6:78] = wall
        paddle = int(np.clip(paddle + rng.integers(-3, 4), 8, 68))
        frame[76:79, paddle : paddle + 12] = 200
        position += speed
        speed[(position < 16) | (position > 74)] *= -1
        row, column = np.clip(position, 14, 76).astype(int)
        frame[row : row + 3, column : column + 2] = 236
        frame[3:8, 30 + number // 10 % 3 * 6 : 35 + number // 10 % 3 * 6] = 255
        if rng.random() < 0.05:
            bricks[rng.integers(6), rng.integers(18)] = False
    return frames


def measure(name: str, array: np.ndarray, codec: str, axis: int | None) -> None:
    """Pack and unpack, a few times."""
    start = time.perf_counter()
    for _ in range(ROUNDS):
        pack(array, codec, axis)
    packing_s = time.perf_counter() - start
    packed = pack(array, codec, axis)
    assert isinstance(packed, PackedArray)
    assert np.array_equal(unpack(packed), array)
    start = time.perf_counter()
    for _ in range(ROUNDS):
        unpack(packed)
    unpacking_s = time.perf_counter() - start
    emit(f"compression.{name}_ratio", array.nbytes / len(packed.data))
    emit(f"compression.{name}_pack_mb_s", ROUNDS * array.nbytes / 1e6 / packing_s)
    emit(f"compression.{name}_unpack_mb_s", ROUNDS * array.nbytes / 1e6 / unpacking_s)


def emit(metric: str, value: float) -> None:
    """Print one result."""
    print(json.dumps({"metric": metric, "value": round(value, 1)}), flush=True)


def main() -> None:
    """Measure both codecs on what a writer and what a sampler sends."""
    frames = draw(2000)
    starts = np.random.default_rng(1).integers(0, 1990, 256)
    batch = np.stack([frames[start : start + 4] for start in starts])
    for codec in ("zstd", "lz4"):
        for kind, axes in (("plain", (None, None)), ("differences", (0, 1))):
            measure(f"steps64_{codec}_{kind}", frames[:64], codec, axes[0])
            measure(f"batch256x4_{codec}_{kind}", batch, codec, axes[1])


if __name__ == "__main__":
    main()
