"""Converters: from what a challenge or archive publishes to the one data set format of siimdet."""

from converters.coco import COCO
from converters.covid_ct import COVID_CT
from converters.covidx import COVIDX
from converters.csv_boxes import CSV
from converters.dicom import DICOM
from converters.folders import FOLDERS
from converters.mia_cov19d import MIA_COV19D
from converters.nih import NIH
from converters.rsna import RSNA
from converters.siim import SIIM
from converters.source import Source
from converters.yolo import YOLO

SOURCES: dict[str, Source] = {
    source.name: source for source in (SIIM, RSNA, NIH, COVIDX, COVID_CT, MIA_COV19D, FOLDERS, COCO, YOLO, CSV, DICOM)
}
"""Every source by its name on the command line."""
