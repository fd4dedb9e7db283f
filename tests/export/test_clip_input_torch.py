"""Networks of frames one by one, exported by PyTorch itself, as graphs of one clip input."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from saliency_tubes_export.clip_input import find_clip_input  # noqa: E402
from saliency_tubes_export.torch_graph import quiet  # noqa: E402
from test_clip_input import of_clips, run  # noqa: E402
from torch import Tensor, nn  # noqa: E402

T, SIDE, K = 4, 32, 5


class Tsm(nn.Module):
    """A network with a temporal shift, as TSM has it: joined out of parts, or written into zeros."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.joined = joined
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, K)

    def shift(self, x: Tensor) -> Tensor:
        steps = x.view(-1, T, *x.shape[1:])
        later, earlier = steps[:, 1:, :2], steps[:, :-1, 2:4]
        if self.joined:
            none = torch.zeros_like(steps[:, :1, :2])
            parts = [torch.cat([later, none], 1), torch.cat([none, earlier], 1), steps[:, :, 4:]]
            return torch.cat(parts, 2).view(x.shape)
        out = torch.zeros_like(steps)
        out[:, :-1, :2], out[:, 1:, 2:4], out[:, :, 4:] = later, earlier, steps[:, :, 4:]
        return out.view(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = x + torch.relu(self.second(self.shift(x)))
        return self.fc(x.mean((2, 3))).view(-1, T, K).mean(1)


@pytest.mark.parametrize(("joined", "dynamic"), [(True, False), (True, True), (False, True)])
def test_a_temporal_shift_of_pytorch_takes_any_number_of_clips(joined: bool, dynamic: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Tsm(joined).eval()
    sides = ({0: torch.export.Dim.AUTO},) if dynamic else None
    example = torch.zeros(2 * T if dynamic else T, 3, SIDE, SIDE)
    path = tmp_path / "tsm.onnx"
    with quiet():
        torch.onnx.export(
            network, (example,), str(path), dynamic_shapes=sides, dynamo=True, external_data=False, verbose=False
        )
    graph = onnx.load(path)

    changed = of_clips(graph, find_clip_input(graph, frames=T))

    clips = np.random.default_rng(4).normal(size=(3, 3, T, SIDE, SIDE)).astype(np.float32)
    with torch.inference_mode():
        expected = np.concatenate([network(torch.from_numpy(one).transpose(0, 1)).numpy() for one in clips])
    np.testing.assert_allclose(run(changed, {"clip": clips}), expected, atol=1e-5)
