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
    ClassifierPhase,
    ClassifierTraining,
    Embedding,
    Head,
    Patients,
    StudyTraining,
    Task,
)
from siimdet.config.coupling import Calibration, Coupling, NoneExponents, OpacityExponents
from siimdet.config.detector import (
    DetectorTraining,
    FasterRCNNTraining,
    FCOSTraining,
    RetinaNetTraining,
    YoloTraining,
)
from siimdet.config.phases import Phase, PhasedTraining
from siimdet.config.pseudo_labels import PseudoLabels
from siimdet.config.training import Amp, Optimiser, Schedule, Training

__all__ = [
    "Amp",
    "AnyConfig",
    "AnyTraining",
    "Augment",
    "Auxiliary",
    "BackboneTraining",
    "Best",
    "Calibration",
    "ClassifierPhase",
    "ClassifierTraining",
    "Coupling",
    "DetectorTraining",
    "Embedding",
    "FCOSTraining",
    "FasterRCNNTraining",
    "Head",
    "NoneExponents",
    "OpacityExponents",
    "Optimiser",
    "Patients",
    "Phase",
    "PhasedTraining",
    "PseudoLabels",
    "RetinaNetTraining",
    "Schedule",
    "Strict",
    "StudyTraining",
    "Task",
    "Training",
    "YoloTraining",
]

AnyTraining = (
    BackboneTraining
    | StudyTraining
    | ClassifierTraining
    | FasterRCNNTraining
    | RetinaNetTraining
    | FCOSTraining
    | YoloTraining
)
AnyConfig = Annotated[AnyTraining | Coupling | PseudoLabels, Field(discriminator="kind")]
