"""Scores: the competition's average precision, and classification figures for the journals."""

from siimdet.scoring.voc import detection_ap, voc_map

__all__ = ["detection_ap", "voc_map"]
