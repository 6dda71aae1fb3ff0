"""The loop: phases, resuming, stopping, and what is on disk when it does not end well."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from siimdet.data.loader import Batch
from siimdet.errors import ImageError, RunError
from siimdet.models.losses import NonFiniteLoss
from siimdet.training.checkpoint import STATE, load_state
from siimdet.training.job import Job, Phase
from siimdet.training.journal import JOURNAL, append_epoch, read_journal, rewind_journal
from siimdet.training.loop import fit
from siimdet.training.schedules import constant, cosine_floor

STEPS = 4
CPU = torch.device("cpu")


def batch(epoch: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(100 * epoch + step)
    images = torch.rand(3, 1, 4, 4, generator=generator)
    labels = (images.mean((1, 2, 3), keepdim=False)[:, None] > 0.5).float()
    return Batch(images, labels, [], [], [], [f"e{epoch}s{step}-{i}" for i in range(3)])


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))


def bce(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    return {"bce": nn.functional.binary_cross_entropy_with_logits(model(batch.images), batch.labels)}


def score(model: nn.Module) -> dict[str, float]:
    assert not model.training
    return {"score": model(batch(99, 0).images).sum().item()}


def make_phase(name: str = "toy", *, epochs: int = 3, kept: list | None = None, **settings) -> Phase:
    defaults = {
        "losses": bce,
        "batches": lambda epoch, skip: (batch(epoch, step) for step in range(skip, STEPS)),
        "evaluate": score,
        "score": lambda figures: figures["score"],
        "keep": lambda model, figures: None if kept is None else kept.append((figures["epoch"], figures["score"])),
        "optimiser": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "learning_rate": cosine_floor(0.1, epochs=epochs, floor=0.05),
    }
    return Phase(name=name, epochs=epochs, steps=STEPS, **{**defaults, **settings})


def make_job(*phases: Phase, identity: str = "same") -> Job:
    return Job(model=network(), device=CPU, phases=phases or (make_phase(),), seed=3, identity=identity)


def weights(job: Job) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in job.model.parameters()])


def figures(run) -> list[dict]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in read_journal(run)]


def stopping(at: str):
    def losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        if batch.ids[0] == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return bce(model, batch)

    return losses


SETTINGS = {"plain": {}, "accumulated, averaged": {"accumulate": 3, "ema": 0.9}, "clipped": {"gradient_clip": 0.01}}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize(
    "stop_at", [("first", "e0s1-0"), ("first", "e1s3-0"), ("second", "e0s0-0"), ("second", "e1s2-0")]
)
def test_stopped_by_sigterm_and_resumed_it_equals_an_unbroken_run(tmp_path, stop_at, settings):
    def job(**losses) -> Job:
        phases = (make_phase(name, epochs=2, **settings, **losses.get(name, {})) for name in ("first", "second"))
        return make_job(*phases)

    whole = job()
    fit(whole, tmp_path / "whole")
    phase, place = stop_at
    with pytest.raises(SystemExit) as stopped:
        fit(job(**{phase: {"losses": stopping(place)}}), tmp_path / "broken")
    assert stopped.value.code == 128 + signal.SIGTERM
    resumed = job()
    fit(resumed, tmp_path / "broken", resume=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert figures(tmp_path / "broken") == figures(tmp_path / "whole")
    assert [(entry["phase"], entry["epoch"]) for entry in figures(tmp_path / "whole")] == [
        (name, epoch) for name in ("first", "second") for epoch in (0, 1)
    ]


def test_best_epoch_of_every_phase_is_kept_once_it_is_better(tmp_path):
    first, second = [], []
    fit(make_job(make_phase(epochs=5, kept=first), make_phase("next", epochs=5, kept=second)), tmp_path)
    for kept, name in ((first, "toy"), (second, "next")):
        scores = [entry["score"] for entry in read_journal(tmp_path) if entry["phase"] == name]
        better = [(i, s) for i, s in enumerate(scores) if s > max(scores[:i], default=-float("inf"))]
        assert kept == better


def test_of_equal_scores_the_lower_validation_loss_is_kept(tmp_path):
    kept, losses = [], iter([3.0, 2.0, 2.5, 1.0])
    phase = make_phase(
        epochs=4,
        evaluate=lambda model: {"score": 1.0, "val_loss": next(losses)},
        keep=lambda model, figures: kept.append(figures["epoch"]),
    )
    fit(make_job(phase), tmp_path)
    assert kept == [0, 1, 3]


def test_patience_ends_a_phase_and_the_next_one_begins(tmp_path):
    scores = iter([1.0, 2.0, 1.5, 1.5, 0.0, 9.0])
    phase = make_phase("impatient", epochs=10, patience=2, evaluate=lambda model: {"score": next(scores)})
    finished = []
    fit(make_job(phase, make_phase("next", epochs=1, finish=lambda: finished.append(True))), tmp_path)
    assert [(entry["phase"], entry["epoch"]) for entry in read_journal(tmp_path)] == [
        *(("impatient", epoch) for epoch in range(4)),
        ("next", 0),
    ]
    assert finished == [True]


def test_accumulated_batches_make_one_step_of_their_mean_gradient(tmp_path):
    model = nn.Linear(16, 1)
    with torch.no_grad():
        model.weight.fill_(0.1)
    whole = make_phase(
        epochs=1,
        accumulate=3,
        losses=lambda model, batch: {"mse": (model(batch.images.flatten(1)) ** 2).mean()},
        evaluate=lambda model: {"score": 0.0},
        optimiser=lambda model: torch.optim.SGD(model.parameters(), lr=0.5),
        learning_rate=constant(0.5),
    )
    expected = nn.Linear(16, 1)
    expected.load_state_dict(model.state_dict())
    for group in ((0, 1, 2), (3,)):
        loss = sum((expected(batch(0, step).images.flatten(1)) ** 2).mean() for step in group) / len(group)
        gradients = torch.autograd.grad(loss, list(expected.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(expected.parameters(), gradients, strict=True):
                parameter -= 0.5 * gradient
    fit(Job(model=model, device=CPU, phases=(whole,)), tmp_path)
    for own, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_moving_average_is_what_is_validated_kept_and_handed_on(tmp_path):
    seen, kept, weights_by_step = [], [], []

    def losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        weights_by_step.append(model.weight.item())
        return {"mean": model(batch.images.mean((1, 2, 3))[:, None]).mean()}

    phase = make_phase(
        epochs=1,
        ema=0.5,
        losses=losses,
        evaluate=lambda model: seen.append(model.weight.item()) or {"score": 1.0},
        keep=lambda model, figures: kept.append(model.weight.item()),
        optimiser=lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
        learning_rate=constant(0.1),
    )
    model = nn.Linear(1, 1)
    fit(Job(model=model, device=CPU, phases=(phase,)), tmp_path)
    # Weights after each of four steps; the gradient of the weight is the mean of the batch.
    after, average = weights_by_step[0], weights_by_step[0]
    for step in range(STEPS):
        after -= 0.1 * batch(0, step).images.mean((1, 2, 3)).mean().item()
        decay = min(0.5, 1 - step ** (-2 / 3)) if step > 1 else 0.0  # timm's warm-up
        average = decay * average + (1 - decay) * after
    assert seen == pytest.approx([average], abs=1e-6)
    assert kept == seen == [model.weight.item()]


def test_nan_stops_with_phase_epoch_step_and_ids_and_keeps_the_last_good_state(tmp_path):
    def losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        return {"bce": bce(model, batch)["bce"] * (torch.nan if batch.ids[0] == "e1s2-0" else 1.0)}

    message = r"phase toy, epoch 1, step 2: loss: found nan on images e1s2-0, e1s2-1, e1s2-2, expected a finite"
    with pytest.raises(NonFiniteLoss, match=message):
        fit(make_job(make_phase(losses=losses)), tmp_path)
    state = load_state(tmp_path, identity="same", device=CPU)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (1, 0)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_weights_that_the_last_step_of_an_epoch_spoils_are_found_before_they_are_validated(tmp_path):
    phase = make_phase(learning_rate=lambda epoch, step: torch.inf if (epoch, step) == (1, STEPS - 1) else 0.1)
    with pytest.raises(NonFiniteLoss, match=r"phase toy, epoch 1, step 3: loss: found nan on images e1s3-0"):
        fit(make_job(phase), tmp_path)
    assert [entry["epoch"] for entry in read_journal(tmp_path)] == [0]


def test_an_image_that_cannot_be_read_loses_nothing_that_was_learnt_before_it(tmp_path):
    def batches(epoch: int, skip: int):
        for step in range(skip, STEPS):
            if (epoch, step) == (1, 2):
                raise ImageError("images/x.png", "content", found="zeros", expected="a PNG")
            yield batch(epoch, step)

    whole, resumed = make_job(), make_job()
    fit(whole, tmp_path / "whole")
    with pytest.raises(ImageError, match="images/x"):
        fit(make_job(make_phase(batches=batches)), tmp_path / "broken")
    state = load_state(tmp_path / "broken", identity="same", device=CPU)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (1, 2)
    fit(resumed, tmp_path / "broken", resume=True)
    assert figures(tmp_path / "broken") == figures(tmp_path / "whole")
    assert torch.equal(weights(resumed), weights(whole))


def test_training_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(11)
    job = make_job()
    before = torch.get_rng_state()
    fit(job, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_resuming_needs_a_state_of_the_same_config(tmp_path):
    with pytest.raises(RunError, match="found nothing"):
        fit(make_job(), tmp_path, resume=True)
    fit(make_job(make_phase(epochs=1)), tmp_path)
    with pytest.raises(RunError, match="another config"):
        fit(make_job(make_phase(epochs=1), identity="other"), tmp_path, resume=True)


def test_a_finished_run_resumes_to_itself(tmp_path):
    fit(make_job(make_phase(epochs=2)), tmp_path)
    before = (tmp_path / JOURNAL).read_bytes()
    fit(make_job(make_phase(epochs=2)), tmp_path, resume=True)
    assert (tmp_path / JOURNAL).read_bytes() == before


def test_a_damaged_or_hostile_state_is_refused(tmp_path):
    fit(make_job(make_phase(epochs=1)), tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match="content"):
        load_state(tmp_path, identity="same", device=CPU)

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"config": Evil()}, path)
    with pytest.raises(RunError, match="content"):
        load_state(tmp_path, identity="same", device=CPU)
    assert not (tmp_path / "executed").exists()


def test_a_state_of_more_processes_is_refused(tmp_path):
    fit(make_job(make_phase(epochs=1)), tmp_path)
    state = torch.load(tmp_path / STATE, weights_only=True)
    torch.save({**state, "rng": state["rng"] * 2}, tmp_path / STATE)
    with pytest.raises(RunError, match="found a state of 2 processes, expected 1, as many as now"):
        fit(make_job(make_phase(epochs=1)), tmp_path, resume=True)


def test_events_hold_every_epochs_numbers(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(make_job(make_phase(epochs=3)), tmp_path)
    events = event_accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("toy/score")] == [
        (entry["epoch"], pytest.approx(entry["score"], rel=1e-6)) for entry in read_journal(tmp_path)
    ]


def test_journal_forgets_a_cut_line_and_epochs_after_the_state(tmp_path):
    for epoch in range(3):
        append_epoch(tmp_path, {"epoch": epoch, "loss": 1.5})
    with open(tmp_path / JOURNAL, "a") as stream:
        stream.write('{"epoch": 3, "lo')
    assert [entry["epoch"] for entry in read_journal(tmp_path)] == [0, 1, 2]
    rewind_journal(tmp_path, 2)
    assert [json.loads(line)["epoch"] for line in (tmp_path / JOURNAL).read_text().splitlines()] == [0, 1]


def test_journal_names_a_broken_line(tmp_path):
    (tmp_path / JOURNAL).write_text('{"epoch": 0}\n{broken\n{"epoch": 2}\n')
    with pytest.raises(RunError, match=r"metrics.jsonl:2: line"):
        read_journal(tmp_path)
