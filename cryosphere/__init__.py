"""cryoSPHERE."""
