"""The label spaces of the sources, in the order that files and models use."""

from siimdet.core.types import LabelSpace

NIH_FINDINGS = LabelSpace(
    "nih",
    (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Effusion",
        "Emphysema",
        "Fibrosis",
        "Hernia",
        "Infiltration",
        "Mass",
        "Nodule",
        "Pleural_Thickening",
        "Pneumonia",
        "Pneumothorax",
    ),
)
"""ChestX-ray14; `No Finding` is all zeros, not a class (Wang et al., CVPR 2017)."""

STUDY = LabelSpace("siim-study", ("negative", "typical", "indeterminate", "atypical"))
"""SIIM-FISABIO-RSNA study level: exactly one holds."""

OPACITY = LabelSpace("opacity", ("opacity",))
"""The one box class of SIIM and RSNA, also used as RSNA's image label."""

SUBMISSION_CLASSES = (*STUDY.names, "none", "opacity")
"""The six classes of the competition's score, in the order in which scores are printed."""
