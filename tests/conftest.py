import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from saliency_tubes import graph_cache

CLASSES, FRAMES, SIZE = 7, 8, 64


def published() -> None:
    """Wait until the graphs that sessions keep are in their places."""
    for thread in threading.enumerate():
        if thread.name == graph_cache.PUBLISHER:
            thread.join()


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever a test starts keeps its optimised graphs where the test's files are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(graph_cache.VARIABLE, str(tmp_path_factory.mktemp("graphs")))
        yield


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly initialised MFNet-3D for 7 classes, saved as training scripts do."""
    torch = pytest.importorskip("torch")
    from saliency_tubes_export.mfnet3d import fresh

    path = tmp_path_factory.mktemp("checkpoint") / "weights.pth"
    state = {f"module.{key}": value for key, value in fresh(CLASSES).state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {}}, path)
    return path


@pytest.fixture(scope="session")
def exported_model(checkpoint_path: Path) -> Path:
    """That checkpoint exported for small, short clips: 8 frames of 64x64."""
    from saliency_tubes_export import export_checkpoint

    path = checkpoint_path.with_name("tubes.onnx")
    export_checkpoint(checkpoint_path, path, frames=FRAMES, size=SIZE)
    return path
