"""The border of an image set to black: what a model reads there, such as marks, text and collimation edges, is lost."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from siimdet.errors import UserError

Grey = TypeVar("Grey", bound=np.generic)


def blank_border(image: NDArray[Grey], share: float) -> NDArray[Grey]:
    """A copy of an image [H, W] whose outer `share` of the width and of the height is 0 on either side.

    That is share * W columns left and right and share * H rows above and below, to the nearest whole number (half:
    to the even one), or one less where no pixel would stay. Raises: UserError as check_share.
    """
    check_share(share)
    height, width = image.shape
    y, x = border_pixels(height, share), border_pixels(width, share)
    blanked = np.zeros_like(image)
    blanked[y : height - y, x : width - x] = image[y : height - y, x : width - x]
    return blanked


def check_share(share: float) -> None:
    """Raises: UserError for a share of each side that is none, or leaves nothing."""
    if not 0 < share < 0.5:
        raise UserError("--blank-border", "share", found=share, expected="a number above 0 and below 0.5")


def border_pixels(length: int, share: float) -> int:
    """How many pixels of a side of `length` belong to the border at either end."""
    return min(round(length * share), (length - 1) // 2)
