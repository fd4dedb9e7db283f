"""What the commands print, as text for people and as documents for scripts."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .time_steps import TimeSteps

if TYPE_CHECKING:
    from .batch.run import BatchSummary
    from .doctor import Diagnosis
    from .explanation import Explanation, Score
    from .frames import ExtractedFrames
    from .spec import ModelSpec


def run_document(explanation: "Explanation", folders: tuple[Path, ...], notes: list[str]) -> dict[str, Any]:
    """What `tubes run --json` prints, as JSON types."""
    together = folders[len(explanation.tubes) :]
    report = _report(folders)
    return {
        "clip": explanation.clip.name,
        "predicted": asdict(explanation.predicted),
        "top5": [asdict(score) for score in explanation.top()],
        "labels": [
            asdict(explanation.score(tube.label)) | {"out": str(folder)}
            for tube, folder in zip(explanation.tubes, folders, strict=False)
        ],
        "together": str(together[0]) if together else None,
        "report": None if report is None else str(report),
        "windows": len(explanation.windows),
        "device": explanation.model.device,
        "approximate": explanation.spec.approximate,
        "notes": [*explanation.notes, *notes],
    }


def run_text(explanation: "Explanation", folders: tuple[Path, ...]) -> str:
    """The prediction, where each label was written, and what to open."""
    lines = [f"predicted  {_score_text(explanation.predicted)}"]
    if explanation.approximation is not None:
        lines.append(f"maps       {explanation.approximation.mark}")
    for tube, folder in zip(explanation.tubes, folders, strict=False):
        lines += [f"label      {_score_text(explanation.score(tube.label))}", f"  written to {folder}"]
    lines += [f"together   written to {folder}" for folder in folders[len(explanation.tubes) :]]
    if (report := _report(folders)) is not None:
        lines.append(f"open       {report}")
    return "\n".join(lines)


def _report(folders: tuple[Path, ...]) -> Path | None:
    """The page of a run, if it was written: it is in the last folder."""
    report = folders[-1] / "report.html"
    return report if report.is_file() else None


def batch_document(summary: "BatchSummary") -> dict[str, Any]:
    """What `tubes batch --json` prints, as JSON types."""
    return asdict(summary) | {"results": str(summary.results), "gallery": str(summary.gallery)}


def batch_text(summary: "BatchSummary") -> str:
    """How many clips there are of each kind, and where to look."""
    counts = [f"{summary.explained} explained"]
    if summary.before:
        counts.append(f"{summary.before} {'was' if summary.before == 1 else 'were'} done before")
    if summary.failed:
        counts.append(f"{summary.failed} failed")
    return f"{', '.join(counts)}: see {summary.results}\ngallery in {summary.gallery}"


def info_document(spec: "ModelSpec") -> dict[str, Any]:
    """What `tubes info --json` prints, as JSON types; frames are counted from a window's first."""
    return spec.describe() | {"time": _time_steps(spec).describe()}


def info_text(model: Path, spec: "ModelSpec") -> str:
    """A model file's own account, aligned."""
    T, H, W, _ = spec.input_shape
    C, t, h, w = spec.features_shape
    size = spec.preprocessing.resize_hw
    time = _time_steps(spec)
    rows = [
        ("model", str(model)),
        ("network", f"{spec.architecture}, {spec.num_classes} classes, layout {spec.layout}"),
        ("head", spec.head.words),
        ("precision", f"{spec.precision} inside, float32 logits and features; weights kept in {spec.storage}"),
        ("input", f"{T} frames ({spec.sampling} sampling), {H}x{W} centre crop of {size[0]}x{size[1]}"),
        ("features", f"{C} channels in {t} step{'s' * (t > 1)} of time and {h}x{w} places"),
        ("time", time.note or time.words),
        (
            "norm",
            f"{spec.preprocessing.name}: mean {_numbers(spec.preprocessing.mean)}, "
            f"std {_numbers(spec.preprocessing.std)} (RGB, after /255)",
        ),
        ("checkpoint", f"{spec.checkpoint_name}, sha256 {spec.checkpoint_sha256}"),
        ("made with", ", ".join(f"{name} {version}" for name, version in spec.versions)),
    ]
    if spec.approximate is not None:
        rows.insert(1, ("maps", f"approximate: {spec.approximate}"))
    if spec.parity is not None:
        rows.append(
            (
                "parity",
                f"logits {spec.parity.logits_rel:.1e}, features {spec.parity.features_rel:.1e} relative "
                f"to {spec.parity.reference} (tolerance {spec.parity.tolerance:.0e}); "
                f"completeness {spec.parity.completeness:.1e}",
            )
        )
    names = spec.labels or ()
    rows += [("labels", "none: classes go by their numbers")] if not names else []
    rows += [("" if i else "labels", f"{i} {name}") for i, name in enumerate(names)]
    return "\n".join(f"{key:<11}{value}" for key, value in rows)


def _time_steps(spec: "ModelSpec") -> TimeSteps:
    """Of a window, as frames of it."""
    return TimeSteps.of(spec.features_shape[1], range(spec.frames))


def frames_text(taken: "ExtractedFrames") -> str:
    """How many frames were taken, which, and where they are."""
    count, first, last = len(taken.files), taken.indices[0], taken.indices[-1]
    which = f"frame {first}" if count == 1 else f"frames {first} to {last}"
    files = taken.files[0].name if count == 1 else f"{taken.files[0].name} to {taken.files[-1].name}"
    return f"wrote {which} of the clip to {taken.folder} as {files} ({count} in all)"


def doctor_text(diagnosis: "Diagnosis") -> str:
    """One line for each device, what `auto` takes, advice, versions."""
    lines = []
    for finding in diagnosis.findings:
        state = f"ready ({', '.join(finding.precisions)})" if finding.ready else "not here"
        lines.append(f"{finding.device:<11}{state}: {finding.remark}")
    lines.append(f"{'auto':<11}takes {diagnosis.chosen}")
    lines += [f"{'faster' if i == 0 else '':<11}{advice}" for i, advice in enumerate(diagnosis.advice)]
    lines.append(f"{'versions':<11}{', '.join(f'{name} {version}' for name, version in diagnosis.versions)}")
    return "\n".join(lines)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _score_text(score: "Score") -> str:
    name = "" if score.name is None else f" {score.name}"
    return f"{score.index}{name} (probability {score.probability:.4f}, logit {score.logit:.4f})"
