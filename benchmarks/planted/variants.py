"""The trained network in other forms, for the findings: ``python -m benchmarks.planted.variants WEIGHTS FOLDER``.

In float32, as it was trained; in float16, and the same with every value rounded, as on a GPU; and with its weights
shuffled, all of them or those of the classifier.
"""

import sys
from pathlib import Path

import onnx
from saliency_tubes import demo
from saliency_tubes.choices import Precision
from saliency_tubes.spec import ModelSpec
from saliency_tubes_export import export_checkpoint, randomise
from saliency_tubes_export.precision import with_rounding
from saliency_tubes_export.writing import write_model

SEED = 0


def main(weights: Path, folder: Path) -> None:
    """Write all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    export_checkpoint(weights, folder / "float32.onnx")
    export_checkpoint(weights, folder / "float16.onnx", precision=Precision.FP16)
    half = onnx.load(folder / "float16.onnx")
    spec = ModelSpec.from_metadata({entry.key: entry.value for entry in half.metadata_props})
    write_model(folder / "float16-rounded.onnx", with_rounding(half), spec)
    randomise(demo.model_path(), folder / "shuffled-all.onnx", SEED)
    randomise(demo.model_path(), folder / "shuffled-classifier.onnx", SEED, layers="classifier")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
