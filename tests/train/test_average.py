"""Averaged weights: the arithmetic, what is copied, where they jump."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lvmlite.train.average import Average


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.register_buffer("counted", torch.zeros(1))


def move(net: Net, value: float) -> None:
    for tensor in net.state_dict().values():
        tensor.fill_(value)


def test_the_average_is_a_running_mean_that_starts_fast() -> None:
    net = Net()
    average = Average(net, 0.5)
    expected = 0.0
    for step, value in enumerate((1.0, -2.0, 5.0, 3.0, 0.5, 8.0, 1.0, 2.0, 3.0, 4.0, 5.0)):
        move(net, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.net.learned[0].item() == pytest.approx(expected, rel=1e-6)
        assert average.net.frozen.tolist() == [value, value]
        assert average.net.counted.item() == value
    assert decay == 0.5
    assert net.learned[0].item() == 5  # is not touched


def test_a_copy_of_its_own_without_gradients() -> None:
    net = Net()
    average = Average(net, 0.9)
    assert not any(p.requires_grad for p in average.net.parameters())
    assert net.learned.requires_grad
    assert not average.net.training
    move(net, 4.0)
    assert average.net.learned.tolist() == [0, 0, 0]


def test_rows_that_were_moved_are_copied() -> None:
    net = Net()
    average = Average(net, 0.9)
    move(net, 4.0)
    average.jump("other")
    assert average.net.learned.tolist() == [0, 0, 0]
    average.jump("learn", torch.tensor([2]))
    assert average.net.learned.tolist() == [0, 0, 4]
    average.jump("learn")
    assert average.net.learned.tolist() == [4, 4, 4]
