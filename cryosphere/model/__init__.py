"""The generative model and its encoder: latent → segment motions → deformed residues → rendered images → loss."""
