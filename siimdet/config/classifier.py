"""The trainings of classifiers: what the model is, then its phases in order."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from siimdet.config.augment import Augment
from siimdet.config.base import Count, Positive, Probability, Strict, Triple
from siimdet.config.phases import Phase, PhasedTraining, PhaseName
from siimdet.config.training import Resize

Dropout = Annotated[float, Field(ge=0, lt=1)]
Grey = Triple | tuple[float]


class Head(Strict):
    """What stands on the body: linear layers with ReLU between, or one convolution over its last maps."""

    hidden: tuple[Count, ...] = ()
    """Widths of the hidden layers."""
    dropout: Dropout = 0.0
    """After every hidden layer."""
    input_dropout: Dropout = 0.0
    input_norm: bool = False
    """Batch norm before the first layer."""
    kernel: Count | None = None
    """Side of a convolution to the classes whose places are averaged; then there are no other layers."""

    @model_validator(mode="after")
    def _kernel_alone(self) -> Self:
        if self.kernel is not None and (self.hidden or self.dropout or self.input_dropout or self.input_norm):
            raise ValueError("found a kernel among linear layers, expected one of the two kinds of head")
        return self


class Embedding(Strict):
    """Linear layers from the body to a vector of norm 1."""

    hidden: tuple[Count, ...]
    """Widths of the layers before the last."""
    size: Count


class Auxiliary(Strict):
    """Further outputs of a study classifier, learnt from the boxes; 0 leaves one out."""

    opacity: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss of `the image has a box`."""
    mask: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the loss of the mask of the boxes on the body's last maps."""


class Patients(Strict):
    """From the images of a patient, such as the slices of a CT, to one decision."""

    rule: Literal["counts", "mean", "max_k"]
    """Share of images called positive, mean probability, or mean of the k highest."""
    slice_threshold: Probability = 0.5
    """Probability from which an image counts as positive."""
    k: Count = 10


class Task(Strict):
    """What a phase learns."""

    name: Literal["multilabel", "cross_entropy", "nll", "triplet"]
    """multilabel: binary cross-entropy, unknown labels masked. nll: on a model that ends in log-softmax."""
    on: Literal["body", "embedding"] = "body"
    """Which head tells the classes: the one on the body, or the one on the embedding."""
    class_weights: bool = False
    """Weigh each class by its inverse frequency (multilabel: its positives by negatives / positives)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """cross_entropy and nll alone: the part of the truth that all classes share."""
    margin: Positive = 0.5
    """triplet alone: by how much the negative must be farther than the positive."""
    positives: Literal["same_class", "augmented_anchor"] = "same_class"
    """triplet alone: another image of the class, or the anchor once more."""
    augment: Augment = Augment()
    """triplet alone: what happens to an anchor that is its own positive."""

    @model_validator(mode="after")
    def _smooths_classes(self) -> Self:
        if self.label_smoothing and self.name in ("multilabel", "triplet"):
            raise ValueError(f"found label_smoothing with {self.name}, expected 0: it is for cross_entropy and nll")
        return self


class Best(Strict):
    """Which epoch of a phase is kept; ties go to the lower validation loss."""

    figure: str
    """Any figure of metrics.jsonl: auroc, accuracy, val_loss, classes.COVID.false_negatives, patients.f1 ..."""
    goal: Literal["highest", "lowest"] | None = None
    """None: lowest for losses, false positives and negatives, and the calibration error, else highest."""

    @property
    def highest(self) -> bool:
        """Whether the higher figure is the better one."""
        if self.goal is not None:
            return self.goal == "highest"
        return not self.figure.endswith(("loss", "false_negatives", "false_positives", "ece"))


class ClassifierPhase(Phase):
    """A phase with a task of its own."""

    task: Task
    mixup: Positive | None = None
    """Both parameters of the beta distribution that mixes pairs of images (arXiv:1710.09412)."""
    oversample: bool = False
    """Draw every class equally often."""
    best: Best

    @model_validator(mode="after")
    def _triplets_take_no_mixture(self) -> Self:
        if self.task.name == "triplet" and self.mixup is not None:
            raise ValueError("found mixup with triplets, expected null: a mixture has no class")
        return self


class ClassifierTraining(PhasedTraining):
    """A classifier of images, trained in phases."""

    phase_type: ClassVar[type[Phase]] = ClassifierPhase

    kind: Literal["classifier"]
    resize: Resize
    """How an image becomes the square: distorted, padded, or its shorter side fitted (x 8/7) and the centre cut out."""
    mean: Grey | Literal["dataset"]
    """Subtracted from grey in [0, 1], for each channel of the body; `dataset`: that of the training images."""
    std: tuple[Positive, Positive, Positive] | tuple[Positive] | Literal["dataset"]
    body: str
    """A network of torchvision, of timm or of ours."""
    weights: str
    """Where the body starts: `none`, `imagenet`, a run directory, a .safetensors, .pt or .pth."""
    head: Head = Head()
    embedding: Embedding | None = None
    groups: Annotated[dict[str, tuple[str, ...]], Field(min_length=2)] | None = None
    """Two networks, the first for these groups of classes, the second for the classes within them."""
    flip_tta: bool = False
    """Predict the mean of an image and its mirror image."""
    patients: Patients | None = None
    overfit_steps: Annotated[int, Field(ge=0)] = 0
    """Before the first phase, learn one batch by heart in so many steps, on a copy, and picture it."""
    validation_batch_size: Count = 32
    phases: Annotated[dict[PhaseName, ClassifierPhase], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        tasks = [phase.task for phase in self.phases.values()]
        if tasks[-1].name == "triplet":
            raise ValueError("found a last phase of triplets, expected one that tells classes")
        if self.overfit_steps and tasks[0].name == "triplet":
            raise ValueError("found overfit_steps before triplets, expected 0: one batch shows classes")
        if self.embedding is None and any(task.name == "triplet" or task.on == "embedding" for task in tasks):
            raise ValueError("found a task on the embedding, expected `embedding` to be given")
        told = {task.name for task in tasks if task.name != "triplet"}
        if told == {"multilabel"} and self.patients is not None:
            raise ValueError("found patients with multilabel, expected a task of exclusive classes: patients get one")
        if told == {"multilabel"} and self.overfit_steps:
            raise ValueError("found overfit_steps with multilabel, expected 0: its picture shows one class an image")
        if len(told) > 1:
            raise ValueError(f"found tasks {', '.join(sorted(told))}, expected one way to tell classes")
        if (self.mean == "dataset") != (self.std == "dataset"):
            raise ValueError("found one of mean and std from the data set, expected both or none")
        if len(self.mean) != len(self.std):
            raise ValueError(f"found {len(self.mean)} numbers in mean and {len(self.std)} in std, expected as many")
        return self

    @model_validator(mode="after")
    def _two_networks(self) -> Self:
        if self.groups is None:
            return self
        if any(phase.task.name != "nll" for phase in self.phases.values()):
            raise ValueError("found groups without the task nll, expected it: two networks multiply")
        if self.embedding is not None:
            raise ValueError("found groups with an embedding, expected one of them: two networks share none")
        members = [name for group in self.groups.values() for name in group]
        if len(set(members)) < len(members) or not all(self.groups.values()):
            raise ValueError(f"found groups of {', '.join(members)}, expected every class once and no empty group")
        return self


class BackboneTraining(ClassifierTraining):
    """Multi-label pretraining of a body."""

    kind: Literal["backbone"]  # type: ignore[assignment]


class StudyTraining(ClassifierTraining):
    """The study-level classifier: classes of which exactly one holds, told from each of a study's images."""

    kind: Literal["study"]  # type: ignore[assignment]
    auxiliary: Auxiliary = Auxiliary()
    study_images: Literal["all", "boxed"] = "all"
    """boxed: of a study with boxes, train on the images that have them; the others look like another class."""

    @model_validator(mode="after")
    def _one_class_holds(self) -> Self:
        if any(phase.task.name == "multilabel" for phase in self.phases.values()):
            raise ValueError("found the task multilabel, expected cross_entropy or nll: one study class holds")
        return self

    @model_validator(mode="after")
    def _one_network_learns_boxes(self) -> Self:
        if not any(self.auxiliary.model_dump().values()):
            return self
        if any(phase.mixup for phase in self.phases.values()):
            raise ValueError("found mixup with auxiliary, expected one of them: boxes are not mixed")
        if self.groups is not None:
            raise ValueError("found groups with auxiliary, expected one of them: two networks share no outputs")
        return self
