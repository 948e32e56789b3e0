"""Particle sets with known truth: conformations → all-atom images → STAR, stack and truth folder.

``conformations``, ``paths`` and ``hinges`` make the conformations; ``templates`` adds side chains where a
model has none; ``form_factors`` and ``atom_images`` compute images and volumes of all atoms as exact Fourier
sums, on purpose not with the renderer that trains; ``particles.simulate`` puts it together; ``truth`` is the
exchange folder.
"""
