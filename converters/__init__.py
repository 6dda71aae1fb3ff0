"""Converters: from what a challenge or archive publishes to the one data set format of siimdet."""

from converters.nih import NIH
from converters.rsna import RSNA
from converters.siim import SIIM
from converters.source import Source

SOURCES: dict[str, Source] = {source.name: source for source in (SIIM, RSNA, NIH)}
"""Every source by its name on the command line."""
