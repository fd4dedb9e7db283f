"""Short clips in which it is known where the evidence is: one actor, whose motion alone is the class.

Everything else is drawn independently of the class: the actor's shape, texture, size, place and speed, the background
and how it drifts, the things that lie about, and those that move, none of them in one of the classes' ways. In the
middle of its motion the actor is where, and as large as, any other class would have it, so that this frame says
nothing. At the ends of the motion its place and size say a little, to those who know which of the things it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from saliency_tubes._opencv import cv2

CLASSES = ("left", "right", "up", "down", "orbit clockwise", "orbit counter-clockwise", "grow", "shrink")
SIZE = 224
FRAMES = 16
SEED = 20261124  # the first number of a scene's seed, before its split
_SPRITE = 64  # pixels; things are drawn once at this size and then resized
_TRIES = 20  # places for a second actor

Path = Callable[[float], "Pose"]


class Split(IntEnum):
    """The second number of a scene's seed: what it is for."""

    TRAINING = 0
    HELD_OUT = 1
    DEMO = 2
    PAIRS = 3


@dataclass(frozen=True)
class Pose:
    """Where a thing is at one time: its centre (x, y) and radius in pixels, its turn in radians, its opacity."""

    x: float
    y: float
    radius: float
    turn: float = 0.0
    opacity: float = 1.0


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip, and where and when its evidence is.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        label: index into `CLASSES`.
        mask: (T, H, W) bool, the actor.
        boxes: (T, 4) int64, the actor's left, top, right, bottom in pixels, the last two one beyond it.
        moving: (T,) bool, whether the actor moves at this frame; all of them, but for scenes that are `partial`.
    """

    frames: NDArray[np.uint8]
    label: int
    mask: NDArray[np.bool_]
    boxes: NDArray[np.int64]
    moving: NDArray[np.bool_]

    @property
    def partial(self) -> bool:
        """Whether the actor moves during a part of the clip only, so that it is known when the evidence is."""
        return not self.moving.all()


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both positive; drawn evenly on a logarithmic scale."""

    low: float
    high: float

    def draw(self, random: np.random.Generator) -> float:
        """One value."""
        return float(np.exp(random.uniform(np.log(self.low), np.log(self.high))))


@dataclass(frozen=True)
class Difficulty:
    """How hard scenes are; sizes are in pixels, speeds in pixels a frame of a clip of `FRAMES`.

    Attributes:
        radius: of things, the actor among them.
        reach: how far the actor gets from the middle of its motion.
        drift: the fastest that the background moves.
        still: the most things that lie about.
        restless: the most things that move, in none of the classes' ways.
        partial: the share of scenes whose actor moves during a part of the clip.
        noise: the largest standard deviation of the pixels' noise, of 255.
    """

    radius: Range
    reach: Range
    drift: float
    still: int
    restless: int
    partial: float
    noise: float


HELD_OUT = Difficulty(radius=Range(10, 22), reach=Range(14, 34), drift=0.8, still=3, restless=3, partial=0.5, noise=8.0)


def make_scene(
    seed: int | tuple[int, ...], size: int = SIZE, frames: int = FRAMES, how: Difficulty = HELD_OUT
) -> Scene:
    """Draw a scene; the same seed gives the same one.

    Args:
        seed: any, such as (split, number).
        size: height and width in pixels.
        frames: how many. A longer clip shows the same motion in smaller steps.
        how: how hard it is.

    Raises:
        ValueError: the frame is too small for what is to move in it.
    """
    (scene,) = _drawn(np.random.default_rng(seed), 1, size, frames, how)
    return scene


def make_pair(seed: int | tuple[int, ...], how: Difficulty = HELD_OUT) -> tuple[Scene, Scene]:
    """Draw a clip with two actors of different classes, apart from each other: a scene of the one and of the other.

    Args:
        seed: any, such as (split, number).
        how: how hard it is.
    """
    one, other = _drawn(np.random.default_rng(seed), 2, SIZE, FRAMES, how)
    return one, other


@dataclass(frozen=True, eq=False)
class _Actor:
    label: int
    start: float
    end: float
    sprite: NDArray[np.float32]
    path: Path


def _drawn(random: np.random.Generator, count: int, size: int, frames: int, how: Difficulty) -> list[Scene]:
    """The scene of each actor of one clip."""
    times = np.linspace(0, FRAMES - 1, frames)
    actors = [_actor(random, int(random.integers(len(CLASSES))), size, how)]
    others = [(_sprite(random), _still_path(random, size, how)) for _ in range(random.integers(how.still + 1))]
    others += [(_sprite(random), _restless_path(random, size, how)) for _ in range(random.integers(how.restless + 1))]
    random.shuffle(others)
    background, drift = _background(random, size), _polar(random.uniform(0, how.drift), random.uniform(0, 2 * np.pi))
    noise = random.uniform(0.25, 1) * how.noise
    # One sheet of noise for all frames, a row further in each: quicker than a sheet each, and the same for all classes.
    grain = random.standard_normal((size + frames, size, 3), dtype=np.float32) * np.float32(noise)
    flicker = 1 + 0.03 * random.standard_normal(frames)
    while len(actors) < count:
        actors.append(_apart(random, actors[0], size, how))

    pictures = np.empty((frames, size, size, 3), dtype=np.uint8)
    masks = np.empty((count, frames, size, size), dtype=np.bool_)
    for index, time in enumerate(times):
        canvas = _shifted(background, drift[0] * time, drift[1] * time, size)
        for sprite, way in others:
            _draw(canvas, sprite, way(time))
        for mask, actor in zip(masks, actors, strict=True):
            mask[index] = _draw(canvas, actor.sprite, actor.path(time)) > 0.5
        canvas *= np.float32(flicker[index])
        canvas += grain[index : index + size]
        pictures[index] = np.clip(canvas, 0, 255)
    return [
        Scene(pictures, one.label, mask, np.stack(list(map(_box, mask))), (times >= one.start) & (times <= one.end))
        for one, mask in zip(actors, masks, strict=True)
    ]


def _actor(random: np.random.Generator, label: int, size: int, how: Difficulty) -> _Actor:
    start, end = _interval(random, how)
    return _Actor(label, start, end, _sprite(random), _actor_path(random, label, size, how, start, end))


def _apart(random: np.random.Generator, one: _Actor, size: int, how: Difficulty) -> _Actor:
    """An actor of another class, whose way stays as far from that of `one` as a few tries allow."""
    labels = (one.label + 1 + random.integers(len(CLASSES) - 1, size=_TRIES)) % len(CLASSES)
    tried = [_actor(random, int(label), size, how) for label in labels]
    return max(tried, key=lambda other: min(_gap(one.path(t), other.path(t)) for t in range(FRAMES)))


def _gap(one: Pose, other: Pose) -> float:
    return float(np.hypot(one.x - other.x, one.y - other.y)) - one.radius - other.radius


def _interval(random: np.random.Generator, how: Difficulty) -> tuple[float, float]:
    """When the actor moves, in steps of a clip of `FRAMES`."""
    if random.random() >= how.partial:
        return 0.0, FRAMES - 1.0
    length = random.uniform(0.3, 0.5) * (FRAMES - 1)
    start = random.uniform(0, FRAMES - 1 - length)
    return start, start + length


def _actor_path(random: np.random.Generator, label: int, size: int, how: Difficulty, start: float, end: float) -> Path:
    """The actor's way: one of the classes between `start` and `end`, at rest before and after."""
    radius, reach = how.radius.draw(random), how.reach.draw(random)
    reach *= max((end - start) / (FRAMES - 1), 0.5)  # so that short motions are not much faster
    growth = random.uniform(1.5, 2.1)
    turns, phase, turn = random.uniform(0.6, 1.1), random.uniform(0, 2 * np.pi), random.uniform(0, 2 * np.pi)
    x, y = _place(random, size, radius * np.sqrt(growth) + 1.3 * reach)
    name = CLASSES[label]

    def pose(time: float) -> Pose:
        along = min(max((time - start) / (end - start), 0.0), 1.0) - 0.5  # -0.5 to 0.5
        match name:
            case "left" | "right":
                return Pose(x + 2 * reach * along * (1 if name == "right" else -1), y, radius, turn)
            case "up" | "down":
                return Pose(x, y + 2 * reach * along * (1 if name == "down" else -1), radius, turn)
            case "grow" | "shrink":
                return Pose(x, y, radius * growth ** (along if name == "grow" else -along), turn)
        # Clockwise as one sees it: y points down. The circle runs through (x, y) at the middle of the motion.
        sign = 1 if name == "orbit clockwise" else -1
        circle, angle = 0.65 * reach, phase + sign * 2 * np.pi * turns * along
        return Pose(
            x + circle * (np.cos(angle) - np.cos(phase)), y + circle * (np.sin(angle) - np.sin(phase)), radius, turn
        )

    return pose


def _still_path(random: np.random.Generator, size: int, how: Difficulty) -> Path:
    radius, turn = how.radius.draw(random), random.uniform(0, 2 * np.pi)
    x, y = _place(random, size, radius)
    return lambda _: Pose(x, y, radius, turn)


def _restless_path(random: np.random.Generator, size: int, how: Difficulty) -> Path:
    """A way of moving that is none of the classes, and has no direction that lasts."""
    radius, turn = how.radius.draw(random), random.uniform(0, 2 * np.pi)
    x, y = _place(random, size, radius)
    period, phase = random.uniform(3.5, 7), random.uniform(0, 2 * np.pi)
    match random.integers(5):
        case 0:
            steps = random.normal(0, 2.5, (FRAMES + 1, 2))
            return lambda time: Pose(x + _between(steps[:, 0], time), y + _between(steps[:, 1], time), radius, turn)
        case 1:
            speed = random.choice([-1, 1]) * random.uniform(0.15, 0.5)
            return lambda time: Pose(x, y, radius, turn + speed * time)
        case 2:
            return lambda time: Pose(x, y, radius, turn, 0.55 + 0.45 * np.sin(2 * np.pi * time / period + phase))
        case 3:
            (dx, dy), swing = _polar(1, random.uniform(0, 2 * np.pi)), random.uniform(3, 9)

            def swinging(time: float) -> Pose:
                along = swing * np.sin(2 * np.pi * time / period + phase)
                return Pose(x + dx * along, y + dy * along, radius, turn)

            return swinging
    return lambda time: Pose(x, y, radius * (1 + 0.2 * np.sin(2 * np.pi * time / period + phase)), turn)


def _between(values: NDArray[np.float64], time: float) -> float:
    return float(np.interp(time, np.arange(len(values)), values))


def _place(random: np.random.Generator, size: int, margin: float) -> tuple[float, float]:
    """A place at least `margin` from every border, or the middle where there is none."""
    margin = min(margin, size / 2)
    x, y = random.uniform(margin, size - margin, 2)
    return float(x), float(y)


def _polar(length: float, angle: float) -> tuple[float, float]:
    return float(length * np.cos(angle)), float(length * np.sin(angle))


def _sprite(random: np.random.Generator) -> NDArray[np.float32]:
    """A thing: (_SPRITE, _SPRITE, 4) float32, R, G, B in 0..255 and its shape's opacity in [0, 1]."""
    grid = (np.arange(_SPRITE) + 0.5) / _SPRITE * 2 - 1
    x, y = np.meshgrid(grid, grid)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    corners = random.integers(2, 7)
    depth = random.uniform(0, 0.25)
    edge = 0.95 * (1 - depth * (1 + np.cos(corners * angle + random.uniform(0, 2 * np.pi))) / 2)
    inside = np.clip((edge - distance) * _SPRITE / 4 + 0.5, 0, 1)
    one, other = random.uniform(0, 255, (2, 3))
    if np.abs(one - other).max() < 80:  # two colours that can be told apart
        other = 255 - one
    direction, waves = random.uniform(0, 2 * np.pi), random.uniform(1, 3)
    stripes = np.sin(np.pi * waves * (x * np.cos(direction) + y * np.sin(direction)) + random.uniform(0, 2 * np.pi))
    if random.random() < 0.5:
        stripes = stripes * np.sin(np.pi * waves * (y * np.cos(direction) - x * np.sin(direction)))
    share = np.clip(stripes * 3 + 0.5, 0, 1)[..., None]
    return np.concatenate([one * share + other * (1 - share), inside[..., None]], axis=2).astype(np.float32)


def _background(random: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A texture with room to drift: coarse patches of colour, and finer ones."""
    side = size + 2 * FRAMES
    texture = np.full((side, side, 3), random.uniform(70, 180), dtype=np.float32)
    for cells, light, colour in ((4, 35, 14), (12, 22, 8), (side // 6, 14, 4)):
        patches = random.standard_normal((cells, cells, 3), dtype=np.float32) * np.float32(colour)
        patches += random.standard_normal((cells, cells, 1), dtype=np.float32) * np.float32(light)
        texture += cv2.resize(patches, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(texture, 0, 255)


def _shifted(texture: NDArray[np.float32], dx: float, dy: float, size: int) -> NDArray[np.float32]:
    move = np.array([[1, 0, dx - FRAMES], [0, 1, dy - FRAMES]], dtype=np.float64)
    return np.asarray(
        cv2.warpAffine(texture, move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )


def _draw(canvas: NDArray[np.float32], sprite: NDArray[np.float32], pose: Pose) -> NDArray[np.float32]:
    """Draw a thing onto the canvas; (H, W) float32 in [0, 1], how much of each pixel it covers."""
    size = canvas.shape[0]
    covered = np.zeros((size, size), dtype=np.float32)
    reach = int(np.ceil(pose.radius)) + 2
    left, top = (max(int(centre) - reach, 0) for centre in (pose.x, pose.y))
    right, bottom = (min(int(centre) + reach + 1, size) for centre in (pose.x, pose.y))
    if right <= left or bottom <= top:
        return covered
    scale = 2 * pose.radius / _SPRITE
    cos, sin = scale * np.cos(pose.turn), scale * np.sin(pose.turn)
    middle = (_SPRITE - 1) / 2
    to_canvas = np.array(
        [
            [cos, -sin, pose.x - left - cos * middle + sin * middle],
            [sin, cos, pose.y - top - sin * middle - cos * middle],
        ]
    )
    drawn = cv2.warpAffine(sprite, to_canvas, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    opacity = drawn[..., 3:] * np.float32(pose.opacity)
    part = canvas[top:bottom, left:right]
    part += (drawn[..., :3] - part) * opacity
    covered[top:bottom, left:right] = drawn[..., 3]
    return covered


def _box(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    if not mask.any():
        raise ValueError(f"the actor left a frame of {mask.shape[1]} pixels: expected a larger size, or smaller things")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.int64)
