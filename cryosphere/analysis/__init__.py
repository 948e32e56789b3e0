"""Latent space, traversals, conformations, and motions in degrees and Å, as tables and pictures."""
