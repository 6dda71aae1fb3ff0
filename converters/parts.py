"""Official parts that folders tell of, and what is left for us to divide."""

from collections.abc import Collection

from siimdet.core.types import Split
from siimdet.data.splits import Official


def official_part(part: Split | None, given: Collection[Split | None]) -> Official | None:
    """What an image's part says of it, beside all the parts that the source has.

    A training part without validation gives some of itself, and without a test part that too.
    """
    if part != "train" or {"val", "test"} <= set(given):
        return part
    if "val" in given:
        return "train_test"
    return "train_val" if "test" in given else None
