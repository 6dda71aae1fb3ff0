"""From images to predictions: torch ends here."""
