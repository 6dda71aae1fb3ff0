"""What the trainings share about losses."""

from siimdet.errors import UserError


class NonFiniteLoss(UserError):
    """A loss of NaN or infinity: training stops there and the last good state stays on disk.

    The message names phase, epoch and step (both from 0), the loss and the batch's image ids.
    """

    def __init__(self, *, phase: str, epoch: int, step: int, loss: float, image_ids: list[str]) -> None:
        super().__init__(
            f"phase {phase}, epoch {epoch}, step {step}",
            "loss",
            found=f"{loss} on images {', '.join(image_ids)}",
            expected="a finite number (a lower learning rate, gradient_clip or amp=false may help)",
        )
