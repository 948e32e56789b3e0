"""Particle images as the model wants them: centred, protein-bright, in units of the noise."""
