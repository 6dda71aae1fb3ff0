"""What every part of the schema is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Triple = tuple[float, float, float]


class Strict(BaseModel):
    """Frozen, and a key that is not in the schema is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
