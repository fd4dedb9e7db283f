"""Train MFNet-3D on scenes with planted evidence: ``python -m benchmarks.planted.train weights.pth``.

First come small scenes, which get harder as the network gets better, then scenes of the size that it is for. Nothing
tells it where the actor is: it learns from the class alone. Interrupted, it goes on from the last checkpoint, where a
few scenes may be harder than they would have been.
"""

import argparse
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from saliency_tubes.choices import Norm
from saliency_tubes.presets import preset
from saliency_tubes_export.mfnet3d import MFNet3D
from torch import Tensor, nn

from .scenes import CLASSES, FRAMES, HELD_OUT, SEED, SIZE, Difficulty, Range, Split, make_scene

_PEAK_RATE, _WARM_UP = 1e-3, 0.15
_CHECKPOINT_STEPS = 50


@dataclass(frozen=True)
class Stage:
    """A part of the training: scenes of one size."""

    size: int
    batch: int
    steps: int
    how: Difficulty


_SMALL = replace(HELD_OUT, radius=Range(8, 14), reach=Range(10, 17))
STAGES = (Stage(112, 8, 750, _SMALL), Stage(SIZE, 4, 450, HELD_OUT))
_GOOD = 0.7  # while it is right so often, the background begins to drift, and what else moves joins,
_RAMP = 300  # over so many steps
_AHEAD = 3  # batches that are drawn before they are needed


@dataclass
class Progressed:
    """How far the training is.

    Attributes:
        step: the number of steps that are done.
        right: how often the network was right lately.
        ripe: how hard the small scenes are, from 0 to 1.
    """

    step: int = 0
    right: float = 0.0
    ripe: float = 0.0

    def after(self, right: float) -> None:
        """Count a step."""
        self.step += 1
        self.right = 0.95 * self.right + 0.05 * right
        if self.right >= _GOOD:
            self.ripe = min(self.ripe + 1 / _RAMP, 1.0)


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted.train", description=__doc__)
    parser.add_argument("weights", type=Path, help="the checkpoint to write, and to go on from")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16, where the processor has it")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    network = train(arguments.weights, arguments.bf16)
    _replace(arguments.weights, {"state_dict": network.state_dict()})
    print(f"wrote {arguments.weights}")


def train(checkpoint: Path, bf16: bool = False) -> MFNet3D:
    """Train from a seed, or from what `checkpoint` holds of an interrupted training."""
    network = MFNet3D(len(CLASSES)).train()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    total = sum(stage.steps for stage in STAGES)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total, pct_start=_WARM_UP)
    parts = {"state_dict": network, "optimizer": optimizer, "schedule": schedule}
    now = _resumed(checkpoint, parts)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=total, completed=now.step)
        for clips, labels in _batches(now):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = network(clips)
            loss = nn.functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            now.after(float((logits.argmax(1) == labels).float().mean()))
            state = f"loss {loss:.2f}, right {now.right:.0%}, hardness {now.ripe:.0%}"
            progress.update(bar, completed=now.step, description=state)
            if now.step % _CHECKPOINT_STEPS == 0:
                _save(checkpoint, now, parts)
                progress.print(f"step {now.step}: {state}")
    return network


def normalised(frames: Tensor) -> Tensor:
    """(N, T, H, W, 3) uint8 RGB -> (N, 3, T, H, W) float32 as the exported graph computes it."""
    pixels = preset(Norm.SALIENCY_TUBES, SIZE)
    mean, std = torch.tensor(pixels.mean), torch.tensor(pixels.std)
    return ((frames / 255 - mean) / std).movedim(4, 1)


def _batches(now: Progressed) -> Iterator[tuple[Tensor, Tensor]]:
    """What is left of all stages: normalised clips and labels, drawn a little ahead."""
    plan = [stage for stage in STAGES for _ in range(stage.steps)]
    with ThreadPoolExecutor(1) as pool:
        waiting = deque[Future[tuple[Tensor, Tensor]]]()
        for step in range(now.step, len(plan) + _AHEAD):
            if step < len(plan):
                waiting.append(pool.submit(_batch, step, plan[step], now.ripe))
            if len(waiting) > _AHEAD or (waiting and step >= len(plan)):
                yield waiting.popleft().result()


def _batch(step: int, stage: Stage, ripe: float) -> tuple[Tensor, Tensor]:
    ripe = ripe if stage.size < SIZE else 1.0
    how = replace(
        stage.how,
        drift=ripe * stage.how.drift,
        still=round(ripe * stage.how.still),
        restless=round(ripe * stage.how.restless),
        partial=ripe * stage.how.partial,
    )
    scenes = [
        make_scene((SEED, Split.TRAINING, step, number), stage.size, FRAMES, how) for number in range(stage.batch)
    ]
    clips = normalised(torch.from_numpy(np.stack([scene.frames for scene in scenes])))
    labels = torch.tensor([scene.label for scene in scenes])
    return clips.contiguous(memory_format=torch.channels_last_3d), labels


def _resumed(checkpoint: Path, parts: dict[str, Any]) -> Progressed:
    """How far `checkpoint` is; what is to go on is loaded into `parts`."""
    if not checkpoint.exists():
        return Progressed()
    found = torch.load(checkpoint, weights_only=True)
    if "progressed" not in found:
        raise SystemExit(f"{checkpoint} holds finished weights: name another file, or remove it")
    for name, part in parts.items():
        part.load_state_dict(found[name])
    return Progressed(**found["progressed"])


def _save(checkpoint: Path, now: Progressed, parts: dict[str, Any]) -> None:
    _replace(checkpoint, {"progressed": asdict(now)} | {name: part.state_dict() for name, part in parts.items()})


def _replace(checkpoint: Path, content: dict[str, Any]) -> None:
    staging = checkpoint.with_name(checkpoint.name + ".new")
    torch.save(content, staging)
    staging.replace(checkpoint)


if __name__ == "__main__":
    main()
