"""What each image says about its conformation, after training."""
