"""Learning rates against their formulas and against PyTorch."""

import math

import pytest
import torch

from siimdet.training.schedules import cosine_floor, one_cycle


@pytest.mark.parametrize("step_every", [1, 2, 3])
@pytest.mark.parametrize("epochs", [1, 35, 58])
def test_cosine_is_the_formula_of_the_report(epochs, step_every):
    rate = cosine_floor(0.001, epochs=epochs, floor=0.05, step_every=step_every)
    for epoch in range(epochs):
        t = math.floor(epoch / step_every)
        expected = 0.001 * (0.5 * (1 + math.cos(math.pi * t / epochs)) * 0.95 + 0.05)
        assert [rate(epoch, step) for step in (0, 7, 500)] == pytest.approx([expected] * 3, rel=1e-12)


def test_cosine_by_hand():
    every, second = (cosine_floor(2.0, epochs=40, floor=0.1, step_every=n) for n in (1, 2))
    assert [every(0, 0), every(20, 0)] == pytest.approx([2.0, 2 * (0.5 * 0.9 + 0.1)], rel=1e-12)
    assert every(40, 0) == pytest.approx(0.2, rel=1e-12)
    assert second(1, 0) == second(0, 0) == 2.0
    assert second(39, 0) == pytest.approx(every(19, 0), rel=1e-12)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (1, 100), (3, 11), (12, 40)])
def test_one_cycle_equals_pytorch(epochs, steps):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=0.002, total_steps=epochs * steps, cycle_momentum=False
    )
    ours = one_cycle(0.002, epochs=epochs, steps=steps)
    for epoch in range(epochs):
        for step in range(steps):
            assert ours(epoch, step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15)
            optimiser.step()
            if epoch * steps + step + 1 < epochs * steps:
                theirs.step()


@pytest.mark.parametrize("total", range(1, 7))
def test_one_cycle_of_a_handful_of_steps_stays_positive_and_below_its_peak(total):
    rate = one_cycle(0.002, epochs=1, steps=total)
    assert all(0 < rate(0, step) <= 0.002 for step in range(total))
