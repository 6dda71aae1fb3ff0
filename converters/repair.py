"""Values that were mended: what repairs.csv lists."""

from typing import NamedTuple


class Repair(NamedTuple):
    """One value that was mended: a row of repairs.csv."""

    image_id: str
    field: str
    before: str
    after: str
