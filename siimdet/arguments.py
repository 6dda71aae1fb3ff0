"""What the command line takes: the values of options, and options with several values.

Nothing heavy is imported here: `--help` answers at once.
"""

from collections.abc import Sequence
from enum import StrEnum


class SourceName(StrEnum):
    """Names of the sources, as in converters.SOURCES."""

    SIIM = "siim"
    RSNA = "rsna"
    NIH = "nih"
    COVIDX = "covidx"
    COVID_CT = "covid-ct"
    MIA_COV19D = "mia-cov19d"
    FOLDERS = "folders"
    COCO = "coco"
    YOLO = "yolo"
    CSV = "csv"
    DICOM = "dicom"


class ScalingName(StrEnum):
    """What becomes black and white, as in siimdet.imaging.grayscale.Scaling."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    WINDOW = "window"
    FULL = "full"


class ResizeName(StrEnum):
    """Filters, as in siimdet.imaging.resize.Resize."""

    AREA = "area"
    LANCZOS = "lanczos"


class SplitBy(StrEnum):
    """Whose images stay together in a split, as in converters.assemble.SplitBy."""

    PATIENT = "patient"
    IMAGE = "image"


class FormatName(StrEnum):
    """Formats that data sets are written in, as in siimdet.data.export.FORMATS."""

    COCO = "coco"
    YOLO = "yolo"
    CSV = "csv"


class SplitName(StrEnum):
    """Names of the splits."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Owner(StrEnum):
    """Whose rows a classifier's CSV holds."""

    IMAGE = "image"
    PATIENT = "patient"


class DeviceChoice(StrEnum):
    """Names of the devices."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class FusionMethod(StrEnum):
    """Names of the fusion methods."""

    WBF = "wbf"
    NMS = "nms"
    SOFT_NMS = "soft-nms"
    NMW = "nmw"


class ConfType(StrEnum):
    """How the scores of boxes that become one do, as in siimdet.inference.weighted_boxes.CONF_TYPES."""

    AVG = "avg"
    MAX = "max"
    BOX_AND_MODEL_AVG = "box_and_model_avg"
    ABSENT_MODEL_AWARE_AVG = "absent_model_aware_avg"


class CalibrationName(StrEnum):
    """Kinds of calibration, as in siimdet.submission.fitting.CalibrationKind."""

    TEMPERATURE = "temperature"
    ISOTONIC = "isotonic"


_SEVERAL = ("--detector", "--ids", "--scales", "--split", "--weights")
_NUMBERS = ("--scales", "--weights")
_SEVERAL_OF = {"submit": ("--boxes",), "tune": ("--boxes",), "evaluate": ("--boxes",), "receive": ("--calling",)}
"""Of some commands alone: pseudo-label takes one file of boxes, after which its config may stand."""


def spread(arguments: Sequence[str]) -> list[str]:
    """Let _SEVERAL and the command's own take several values: `--detector A B` becomes `--detector A --detector B`.

    Those of _NUMBERS are numbers, those of --split its names: what follows them may be something else.
    """
    several = (*_SEVERAL, *_SEVERAL_OF.get(arguments[0] if arguments else "", ()))
    spreading, out = None, []
    for argument in arguments:
        if argument.startswith("--") or (argument.startswith("-") and not _is_number(argument)):
            spreading = argument if argument in several else None
            out.append(argument)
        elif spreading is not None and out[-1] != spreading and _may_follow(spreading, argument):
            out += [spreading, argument]
        else:
            if spreading is not None and out[-1] != spreading:
                spreading = None
            out.append(argument)
    return out


def _may_follow(option: str, argument: str) -> bool:
    if option == "--split":
        return argument in list(SplitName)
    return option not in _NUMBERS or _is_number(argument)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
