"""What the trainings share about losses."""


class NonFiniteLoss(RuntimeError):
    """A loss of NaN or infinity: training stops there and the last good state stays on disk.

    The message names phase, epoch and step (both from 0), the loss and the batch's image ids.
    """

    def __init__(self, *, phase: str, epoch: int, step: int, loss: float, image_ids: list[str]) -> None:
        super().__init__(f"phase {phase}, epoch {epoch}, step {step}: loss={loss}, images {', '.join(image_ids)}")
