"""LPIPS with drawn weights equals the paper's formula, written here anew on torchvision's state dicts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lvmlite.perception.alexnet import AlexNet
from lvmlite.perception.lpips import LPIPS, open_lpips
from lvmlite.perception.vgg import VGG16

NETS = {"vgg": VGG16, "alex": AlexNet}
LEAST = {"vgg": 16, "alex": 31}


@pytest.fixture(scope="module")
def models():
    """Both, with weights that keep the features of a size, and heads that weigh channels unequally."""
    made = {}
    for net in NETS:
        g = torch.Generator().manual_seed(7)
        made[net] = LPIPS(net)
        for name, tensor in made[net].state_dict().items():
            noise = torch.rand(tensor.shape, generator=g)
            scale = math.sqrt(24 / tensor[0].numel()) if tensor.ndim == 4 else 0.2
            tensor.copy_(noise if name.startswith("heads") else (noise - 0.5) * scale)
    return made


def pictures(side, n=2, seed=0):
    x, y = torch.rand(2, n, 3, side, side + 3, generator=torch.Generator().manual_seed(seed)).unbind()
    return x, y


def vgg_by_hand(state, x):
    """Configuration D: each group of convolutions gives a map, whose sides are halved for the next group."""
    maps, n = [], 0
    for convolutions in (2, 2, 3, 3, 3):
        if maps:
            x, n = F.max_pool2d(x, 2, 2), n + 1
        for _ in range(convolutions):
            x = F.relu(F.conv2d(x, state[f"backbone.features.{n}.weight"], state[f"backbone.features.{n}.bias"], 1, 1))
            n += 2
        maps.append(x)
    return maps


def alex_by_hand(state, x):
    maps = []
    for n, (stride, padding, pool) in {0: (4, 2, 1), 3: (1, 2, 1), 6: (1, 1, 0), 8: (1, 1, 0), 10: (1, 1, 0)}.items():
        weight, bias = state[f"backbone.features.{n}.weight"], state[f"backbone.features.{n}.bias"]
        maps.append(F.relu(F.conv2d(x, weight, bias, stride, padding)))
        x = F.max_pool2d(maps[-1], 3, 2) if pool else maps[-1]
    return maps


def distance_by_hand(net, state, x, y):
    """Equation 1 in float64: d = sum over layers of 1 / HW sum over places of |w * (x - y)|^2, w^2 being the head."""
    state = {name: tensor.double() for name, tensor in state.items()}
    sides = []
    for images in (x, y):
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        images = ((images * 2 - 1).double() - shift.double()[:, None, None]) / scale.double()[:, None, None]
        sides.append([m.numpy() for m in {"vgg": vgg_by_hand, "alex": alex_by_hand}[net](state, images)])
    total = np.zeros(len(x))
    for layer, (a, b) in enumerate(zip(*sides, strict=True)):
        a, b = (m / (np.sqrt((m**2).sum(1, keepdims=True)) + 1e-10) for m in (a, b))
        head = state[f"heads.lin{layer}.weight"].numpy().reshape(-1)
        total += np.einsum("bchw,c->b", (a - b) ** 2, head) / (a.shape[2] * a.shape[3])
    return total


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("side", [31, 64])
def test_equals_the_formula(net, side, models):
    x, y = pictures(side)
    expected = distance_by_hand(net, models[net].state_dict(), x, y)
    assert (expected > 0.01).all()
    np.testing.assert_allclose(models[net](x, y).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("net", NETS)
def test_a_distance(net, models):
    """0 between equals, the same both ways, of each pair alone, in any layout of memory."""
    model, (x, y) = models[net], pictures(40, 3)
    d = model(x, y)
    assert d.shape == (3,)
    assert d.dtype == torch.float32
    assert torch.equal(model(x, x), torch.zeros(3))
    torch.testing.assert_close(model(y, x), d)
    torch.testing.assert_close(model(x[1:2], y[1:2]), d[1:2])
    last = torch.channels_last
    torch.testing.assert_close(model(x.contiguous(memory_format=last), y.contiguous(memory_format=last)), d)


@pytest.mark.parametrize("net", NETS)
def test_the_gradient_goes_to_the_first_picture(net, models):
    model, (x, y) = models[net], pictures(LEAST[net] + 1, 1)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model(x, y).requires_grad
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, y).sum(), x)
    step = gradient / gradient.norm() * 1e-2
    ahead, behind = (distance_by_hand(net, model.state_dict(), (x + s).detach(), y).item() for s in (step, -step))
    assert (ahead - behind) / 2e-2 == pytest.approx(gradient.norm().item(), rel=0.02)


def test_the_gradient_is_finite_where_no_channel_answers():
    model = LPIPS("alex")
    model.backbone.features[10].bias.fill_(-1e4)
    x, y = pictures(32, 1)
    x.requires_grad_()
    assert not model.backbone(x)[4].any()
    (gradient,) = torch.autograd.grad(model(x, y).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.any()


@pytest.mark.parametrize("net", NETS)
def test_pictures_that_do_not_fit(net, models):
    least, model = LEAST[net], models[net]
    assert model(*torch.rand(2, 1, 3, least, least).unbind()).item() > 0
    for shape in ((1, 3, least - 1, 64), (1, 3, 64, least - 1)):
        with pytest.raises(ValueError, match=rf"needs pictures of {least} x {least} or more, got \({shape[2]}, "):
            model(torch.rand(shape), torch.rand(shape))
    for x, y in (((1, 3, 64, 64), (2, 3, 64, 64)), ((1, 1, 64, 64),) * 2, ((3, 64, 64),) * 2):
        with pytest.raises(ValueError, match="compares two batches"):
            model(torch.rand(x), torch.rand(y))


def test_opened_from_the_cache(models, tmp_path, monkeypatch):
    """The weights are those of the cache, frozen; opening draws no random numbers."""
    monkeypatch.setenv("LVMLITE_WEIGHTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights lpips-alex are not here: .* lvmlite weights add"):
        open_lpips("alex")
    with pytest.raises(ValueError, match="the nets vgg and alex, not squeeze"):
        open_lpips("squeeze")
    save_file(models["alex"].backbone.state_dict(), tmp_path / "alexnet.safetensors")
    save_file(models["alex"].heads.state_dict(), tmp_path / "alexnet-lpips.safetensors")
    before = torch.get_rng_state()
    opened = open_lpips("alex", "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert not opened.training
    assert not any(parameter.requires_grad for parameter in opened.parameters())
    assert all(tensor.device.type == "cpu" for tensor in (*opened.parameters(), *opened.buffers()))
    x, y = pictures(40)
    torch.testing.assert_close(opened(x, y), models["alex"](x, y))
