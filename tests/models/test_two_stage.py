"""Two-stage classifiers: their probabilities, and their loss as the sum of the stages' losses."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from siimdet.models.classifier import build_classifier
from siimdet.models.image_classifier import ImageClassifier
from siimdet.models.two_stage import TwoStage

GREY = {"mean": (0.5,), "std": (0.5,)}
GROUPS = {"infected": [2, 0], "normal": [1]}


class Fixed(ImageClassifier):
    """Says the same of every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1).log_softmax(dim=1)


def built(**changes) -> TwoStage:
    torch.manual_seed(0)
    settings = {"num_classes": 3, "activation": "log_softmax", "groups": GROUPS, **GREY} | changes
    return build_classifier("simple_cnn", **settings).eval()


def test_probabilities_multiply_by_hand():
    first = Fixed([math.log(3), math.log(1)])  # infected .75, normal .25
    second = Fixed([math.log(4), math.log(100), math.log(1)])  # within infected: class 0 .8, class 2 .2
    model = TwoStage(first, second, list(GROUPS.values()), flip_tta=False)
    found = model.predict(torch.zeros(2, 1, 32, 32))
    assert found.tolist() == [pytest.approx([0.75 * 0.8, 0.25, 0.75 * 0.2])] * 2


def test_probabilities_sum_to_1():
    found = built().predict(torch.rand(5, 1, 32, 32))
    assert found.shape == (5, 3)
    assert torch.allclose(found.sum(1), torch.ones(5))


def test_the_loss_is_that_of_the_groups_and_that_within_them():
    model = built()
    images, labels = torch.rand(4, 1, 32, 32), torch.tensor([0, 1, 2, 0])
    groups = torch.tensor([0, 1, 0, 0])
    total = functional.nll_loss(model(images), labels, reduction="sum")
    of_groups = functional.nll_loss(model.first(images), groups, reduction="sum")
    infected = labels != 1
    within = functional.cross_entropy(model.second(images)[infected][:, [0, 2]], labels[infected] // 2, reduction="sum")
    assert total.item() == pytest.approx((of_groups + within).item(), rel=1e-5)


def test_each_stage_is_a_whole_classifier_of_its_own():
    model = built(head={"hidden": [8], "dropout": 0.1})
    assert model.first.head[-1].out_features == 2
    assert model.second.head[-1].out_features == 3
    assert model.bodies() == [model.first.body, model.second.body]
    assert not torch.equal(model.first.body.features[0].weight, model.second.body.features[0].weight)
    assert {name.split(".")[0] for name in model.state_dict()} == {"first", "second"}


def test_a_class_alone_in_its_group_teaches_the_second_stage_nothing():
    model = built()
    functional.nll_loss(model(torch.rand(1, 1, 32, 32)), torch.tensor([1])).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.second.parameters())
    assert model.first.head.weight.grad.any()


def test_with_flips_an_image_and_its_mirror_image_get_one_answer():
    model = built(flip_tta=True)
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(model.predict(images), model.predict(images.flip(-1)))
    assert set(model.predict_all(images)) == {"classes"}


def test_a_group_without_a_class_is_refused():
    with pytest.raises(ValueError, match=r"groups hold the classes \[0\], expected each class from 0 on once"):
        TwoStage(nn.Module(), nn.Module(), [[0], []], flip_tta=False)
