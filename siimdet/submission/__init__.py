"""The competition's CSV: its rows, its truth and its score."""
