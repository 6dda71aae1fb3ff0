"""Types, label spaces and box geometry; NumPy only."""
