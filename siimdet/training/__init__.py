"""Training: one loop, the tasks that it trains, and what a run leaves on disk."""
