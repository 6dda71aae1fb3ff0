"""The loop: resuming, stopping, and what is on disk when it does not end well."""

import json
import os
import signal

import pytest
import torch
from torch import nn

from siimdet.data.loader import Batch
from siimdet.errors import RunError
from siimdet.models.losses import NonFiniteLoss
from siimdet.training.checkpoint import STATE, load_state
from siimdet.training.journal import JOURNAL, append_epoch, read_journal, rewind_journal
from siimdet.training.loop import Job, fit
from siimdet.training.schedules import cosine_floor

STEPS = 4


def batch(epoch: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(100 * epoch + step)
    images = torch.rand(3, 1, 4, 4, generator=generator)
    labels = (images.mean((1, 2, 3), keepdim=False)[:, None] > 0.5).float()
    return Batch(images, labels, [], [], [], [f"e{epoch}s{step}-{i}" for i in range(3)])


def make_job(kept: list, *, epochs: int = 3, on_step=None, identity: str = "same") -> Job:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        if on_step is not None:
            on_step(batch)
        factor = torch.nan if batch.ids[0] in kept else 1.0
        return {"bce": factor * nn.functional.binary_cross_entropy_with_logits(model(batch.images), batch.labels)}

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        return {"score": model(batch(99, 0).images).sum().item()}

    return Job(
        phase="toy",
        model=model,
        device=torch.device("cpu"),
        losses=losses,
        batches=lambda epoch, skip: (batch(epoch, step) for step in range(skip, STEPS)),
        evaluate=evaluate,
        best="score",
        keep=lambda model, figures: kept.append((figures["epoch"], figures["score"])),
        optimiser=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        learning_rate=cosine_floor(0.1, epochs=epochs, floor=0.05),
        epochs=epochs,
        seed=3,
        identity=identity,
    )


def weights(job: Job) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in job.model.parameters()])


def figures(run) -> list[dict]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in read_journal(run)]


@pytest.mark.parametrize("stop_at", [(0, 1), (1, 0), (1, 3), (2, 2)])
def test_stopped_by_sigterm_and_resumed_it_equals_an_unbroken_run(tmp_path, stop_at):
    whole = make_job([])
    fit(whole, tmp_path / "whole")

    def stop(batch: Batch) -> None:
        if batch.ids[0] == f"e{stop_at[0]}s{stop_at[1]}-0":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        fit(make_job([], on_step=stop), tmp_path / "broken")
    assert stopped.value.code == 128 + signal.SIGTERM
    resumed = make_job([])
    fit(resumed, tmp_path / "broken", resume=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert figures(tmp_path / "broken") == figures(tmp_path / "whole")


def test_best_epoch_is_kept_once_it_is_better(tmp_path):
    kept: list = []
    fit(make_job(kept, epochs=5), tmp_path)
    scores = [entry["score"] for entry in read_journal(tmp_path)]
    better = [(i, s) for i, s in enumerate(scores) if s > max(scores[:i], default=-float("inf"))]
    assert kept == better


def test_nan_stops_with_phase_epoch_step_and_ids_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"phase toy, epoch 1, step 2: loss=nan, images e1s2-0, e1s2-1, e1s2-2"):
        fit(make_job(["e1s2-0"]), tmp_path)
    state = load_state(tmp_path, identity="same", device=torch.device("cpu"))
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(value.isfinite().all() for value in state["model"].values())


def test_training_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(11)
    job = make_job([])
    before = torch.get_rng_state()
    fit(job, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_resuming_needs_a_state_of_the_same_config(tmp_path):
    with pytest.raises(RunError, match="found nothing"):
        fit(make_job([]), tmp_path, resume=True)
    fit(make_job([], epochs=1), tmp_path)
    with pytest.raises(RunError, match="another config"):
        fit(make_job([], identity="other"), tmp_path, resume=True)


def test_a_damaged_or_hostile_state_is_refused(tmp_path):
    fit(make_job([], epochs=1), tmp_path)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match="content"):
        load_state(tmp_path, identity="same", device=torch.device("cpu"))

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"config": Evil()}, path)
    with pytest.raises(RunError, match="content"):
        load_state(tmp_path, identity="same", device=torch.device("cpu"))
    assert not (tmp_path / "executed").exists()


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
