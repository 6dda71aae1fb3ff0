"""Networks, built from values; greyscale batches in, torch tensors out."""
