from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.planted.scenes import CLASSES, FRAMES, HELD_OUT, Range, make_pair, make_scene

CHANCE = 1 / len(CLASSES)
SMALL = replace(HELD_OUT, radius=Range(8, 14), reach=Range(10, 17))
ALWAYS = replace(SMALL, partial=0.0)
SOMETIMES = replace(SMALL, partial=1.0)


def scene_of(name, how=ALWAYS, size=112, frames=FRAMES, skip=0):
    """The first scene of a class after `skip` of them."""
    for seed in range(1000):
        scene = make_scene((5, seed), size, frames, how)
        if CLASSES[scene.label] == name:
            if not skip:
                return scene
            skip -= 1
    raise AssertionError(f"no {name} among a thousand scenes")


def centres(scene):
    """(T, 2) of the actor, x and y."""
    where = [np.nonzero(mask) for mask in scene.mask]
    return np.array([(x.mean(), y.mean()) for y, x in where])


def sides(scene):
    return np.sqrt(scene.mask.sum(axis=(1, 2)))


def test_a_scene_has_the_promised_arrays():
    scene = make_scene(0, 96, 20)
    assert scene.frames.shape == (20, 96, 96, 3)
    assert scene.frames.dtype == np.uint8
    assert scene.mask.shape == (20, 96, 96)
    assert scene.mask.any(axis=(1, 2)).all()
    assert scene.moving.shape == (20,)


def test_the_same_seed_gives_the_same_scene_and_another_another():
    one, same, other = make_scene((3, 1), 96), make_scene((3, 1), 96), make_scene((3, 2), 96)
    assert np.array_equal(one.frames, same.frames)
    assert np.array_equal(one.mask, same.mask)
    assert not np.array_equal(one.frames, other.frames)


def test_boxes_are_those_of_the_mask():
    scene = make_scene(1)
    for mask, (left, top, right, bottom) in zip(scene.mask, scene.boxes, strict=True):
        assert mask[top:bottom, left:right].sum() == mask.sum()
        assert mask[top].any()
        assert mask[bottom - 1].any()
        assert mask[:, left].any()
        assert mask[:, right - 1].any()


@pytest.mark.parametrize(("name", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_an_actor_moves_along_one_axis_as_its_class_says(name, axis, sign):
    for skip in range(3):
        way = np.diff(centres(scene_of(name, skip=skip)), axis=0)
        assert (sign * way[:, axis]).sum() >= 15
        assert (sign * way[:, axis] > -0.1).all()
        assert np.abs(way[:, 1 - axis]).max() <= 1


@pytest.mark.parametrize(("name", "sign"), [("orbit clockwise", 1), ("orbit counter-clockwise", -1)])
def test_an_actor_orbits_as_a_viewer_sees_it(name, sign):
    for skip in range(3):
        place = centres(scene_of(name, size=224, how=replace(HELD_OUT, partial=0.0), skip=skip))
        way = np.diff(place, axis=0)
        # y points down, so that a positive cross product of successive steps is a clockwise turn.
        turn = way[:-1, 0] * way[1:, 1] - way[:-1, 1] * way[1:, 0]
        assert (sign * turn > 0).mean() > 0.8


@pytest.mark.parametrize(("name", "sign"), [("grow", 1), ("shrink", -1)])
def test_an_actor_changes_its_size_in_place(name, sign):
    for skip in range(3):
        scene = scene_of(name, skip=skip)
        size = sides(scene)
        ratio = size[-1] / size[0] if sign > 0 else size[0] / size[-1]
        assert 1.4 < ratio < 2.2
        assert np.abs(centres(scene) - centres(scene)[0]).max() <= 2.5


def test_the_actor_rests_before_and_after_its_motion():
    still, moved = [], []
    for seed in range(40):
        scene = make_scene((6, seed), 112, FRAMES, SOMETIMES)
        assert scene.partial
        assert 0.2 < scene.moving.mean() < 0.6
        changes = (scene.mask[1:] != scene.mask[:-1]).sum(axis=(1, 2)) / scene.mask[0].sum()
        inside = scene.moving[1:] & scene.moving[:-1]
        outside = ~scene.moving[1:] & ~scene.moving[:-1]
        still.append(changes[outside].max())
        moved.append(changes[inside].mean())
    assert max(still) == 0
    assert min(moved) > 0.01


def test_a_share_of_the_scenes_is_partial_and_all_classes_occur():
    scenes = [make_scene((7, seed), 64, 4, SMALL) for seed in range(200)]
    assert 0.4 < np.mean([scene.partial for scene in scenes]) < 0.6
    counts = Counter(scene.label for scene in scenes)
    assert len(counts) == len(CLASSES)
    assert min(counts.values()) > 10


def test_a_longer_clip_shows_the_same_motion_in_smaller_steps():
    short, long = make_scene((8, 4), 112, 16), make_scene((8, 4), 112, 46)
    assert np.array_equal(short.mask, long.mask[::3])
    assert np.array_equal(short.moving, long.moving[::3])


@pytest.fixture(scope="module")
def known():
    """(3, n, 3) place and size of the actor at the start, the middle and the end of its motion, and (n,) classes."""
    rows, labels = [], []
    for seed in range(1000):
        scene = make_scene((9, seed), 224, 3, replace(HELD_OUT, partial=0.0, still=0, restless=0))
        rows.append(np.column_stack([centres(scene), 3 * sides(scene)]))
        labels.append(scene.label)
    return np.stack(rows, axis=1), np.array(labels)


@pytest.mark.parametrize(("frame", "most"), [(0, 0.36), (1, CHANCE + 0.06), (2, 0.36)])
def test_who_knows_the_actor_knows_little_from_one_frame_and_nothing_from_the_middle_one(known, frame, most):
    """Its place and size in the middle of its motion are drawn alike for all classes: neighbours are no guide there."""
    rows, labels = known[0][frame], known[1]
    seen, asked = np.split(np.random.default_rng(0).permutation(len(labels)), 2)
    distance = np.linalg.norm(rows[asked, None] - rows[None, seen], axis=2)
    votes = labels[seen][np.argsort(distance, axis=1)[:, :15]]
    guesses = [Counter(row).most_common(1)[0][0] for row in votes.tolist()]
    assert np.mean(labels[asked] == guesses) < most


def test_a_linear_probe_of_single_frames_stays_near_chance():
    random, count = np.random.default_rng(1), 1000
    pictures, labels = [], []
    for seed in range(count):
        scene = make_scene((10, seed), 64, 3, SMALL)
        frame = scene.frames[random.integers(3)].astype(np.float64)
        pictures.append(frame.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).ravel())
        labels.append(scene.label)
    x, y = np.stack(pictures) / 255 - 0.5, np.eye(len(CLASSES))[labels]
    half = count // 2
    ridge = 10 * np.eye(x.shape[1])
    weights = np.linalg.solve(x[:half].T @ x[:half] + ridge, x[:half].T @ y[:half])
    right = (x[half:] @ weights).argmax(axis=1) == np.array(labels[half:])
    assert right.mean() < CHANCE + 0.06


def test_a_pair_is_one_clip_with_two_actors_of_different_classes():
    for seed in range(8):
        one, other = make_pair((11, seed))
        assert one.frames is other.frames
        assert one.label != other.label
        assert not (one.mask & other.mask).any()
        assert one.mask.any(axis=(1, 2)).all()
        assert other.mask.any(axis=(1, 2)).all()
