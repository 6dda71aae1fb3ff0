"""How much better one file's figures are than another's, resample by resample."""

from siimdet.scoring.bootstrap import ResampledFigures


def paired_difference(first: ResampledFigures, second: ResampledFigures) -> ResampledFigures:
    """second - first of every figure in every resample: both of the same truth and the same Resamples.

    What makes a resample hard makes it hard for both, so the differences vary less than the figures themselves; two
    intervals may overlap though the difference holds no zero.
    Raises: ValueError for other figures or another number of resamples.
    """
    shapes = [{name: values.shape for name, values in figures.values.items()} for figures in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"resampled figures {shapes[1]}, expected {shapes[0]}")
    values = {name: second.values[name] - first.values[name] for name in first.values}
    return ResampledFigures(values, first.left_out)
