"""The page for axes, origin, signs, angles and units; everything else in the package refers to it.

Arrays and vectors
    Volumes are indexed ``[z][y][x]``, images ``[y][x]``; vectors are ``(x, y, z)``.
    The origin of an image or volume is the pixel with index ``n // 2`` along every axis, for even and odd boxes.

Units
    Å, radians, Å⁻¹ inside the program. Degrees, kV, mm and Å appear only at the file and configuration border and
    then stand in the name (``voltage_kv``, ``spherical_aberration_mm``).

Pose
    ``rotmat`` is RELION's Euler matrix ``A`` (ZYZ angles ``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi``) acting on
    column vectors. ``shift`` is ``+(rlnOriginXAngst, rlnOriginYAngst)`` in Å. A model point ``r`` lands at
    ``(A r)_xy - shift`` from the image origin; a projection is the sum along z of the rotated model.
    In cryoSPARC's terms ``A = exp(alignments3D/pose)ᵀ`` and ``shift = alignments3D/shift · alignments3D/psize_A``.

Contrast transfer function
    ``CTF(k) = sin(π λ Δf k² - ½ π Cs λ³ k⁴ + phase_shift + asin(w))``, so that ``CTF(0) = +w`` and protein is bright.
    ``Δf = ½ (U + V) + ½ (U - V) cos 2(θ - angle)`` with ``θ = atan2(k_y, k_x)``; positive defocus is underfocus.
    Envelope ``scale · exp(-B k² / 4)``. Frequencies at and beyond circular Nyquist are not compared with RELION.

Aberrations
    With M the magnification matrix of an optics group, an image is ``P(Mk) CTF(Mk) exp(i φ(Mk))`` at frequency k, and
    shifted. Reading resamples it to ``P(k) CTF(k)``; the phase of even Zernike terms is subtracted within the CTF's
    sine. φ has ``-2π Cs λ² k² (t·k)`` for a beam tilt t, and the odd Zernike terms (the unit circle is 1 Å⁻¹). See
    ``physics.aberrations``.

Model frame
    Å, origin at the box centre. A structure read from a file stays in the file's frame until it is placed;
    ``file = model + frame_shift``.
"""

# Relativistic electron wavelength λ = A / sqrt(V (1 + B V)) in Å with V in volt.
ELECTRON_WAVELENGTH_A = 12.2643247
ELECTRON_WAVELENGTH_B = 0.978466e-6

# A Gaussian is cut where it has fallen to exp(-½ · 5²): relative L2 error 1e-6.
GAUSSIAN_WINDOW_SIGMAS = 5.0

# Residues nearer than this clash.
CLASH_DISTANCE_A = 4.0
