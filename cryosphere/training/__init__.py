"""Training: one loop that reads top to bottom, and the schedules it follows."""
