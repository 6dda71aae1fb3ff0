"""Official parts that folders or lists tell of, and what is left for us to divide."""

from collections.abc import Collection

from siimdet.core.types import Split
from siimdet.data.splits import Official


def official_part(part: Split | None, given: Collection[Split | None]) -> Official | None:
    """What an image's part says of it, beside all the parts that the source has.

    A training part without validation is divided, for a test too where there is none. One that has
    validation stays as it is published.
    """
    if part != "train" or "val" in given:
        return part
    return "train_val" if "test" in given else None
