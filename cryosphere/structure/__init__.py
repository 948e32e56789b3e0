"""The nominal structure between its file and the model."""
