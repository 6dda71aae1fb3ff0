"""The schema of the YAML files under configs/: one complete file per run.

Every field's docstring gives its unit; defaults that come from the report are written out in the
files under configs/, so that a file shows everything that a run does.
"""

from typing import Annotated

from pydantic import Field

from siimdet.config.augment import Augment
from siimdet.config.base import Strict
from siimdet.config.classifier import (
    Auxiliary,
    BackboneTraining,
    Best,
    ClassifierTraining,
    Embedding,
    Head,
    Patients,
    Phase,
    StudyTraining,
    Task,
)
from siimdet.config.coupling import Coupling, NoneExponents, OpacityExponents
from siimdet.config.detector import FasterRCNNTraining, YoloTraining
from siimdet.config.training import Amp, DetectorTraining, Optimiser, Schedule, Training

__all__ = [
    "Amp",
    "AnyConfig",
    "AnyTraining",
    "Augment",
    "Auxiliary",
    "BackboneTraining",
    "Best",
    "ClassifierTraining",
    "Coupling",
    "DetectorTraining",
    "Embedding",
    "FasterRCNNTraining",
    "Head",
    "NoneExponents",
    "OpacityExponents",
    "Optimiser",
    "Patients",
    "Phase",
    "Schedule",
    "Strict",
    "StudyTraining",
    "Task",
    "Training",
    "YoloTraining",
]

AnyTraining = BackboneTraining | StudyTraining | ClassifierTraining | FasterRCNNTraining | YoloTraining
AnyConfig = Annotated[AnyTraining | Coupling, Field(discriminator="kind")]
