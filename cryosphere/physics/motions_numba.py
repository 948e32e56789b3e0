"""Compiled motions of residues: the work of ``motions`` on the CPU, in double precision, one image after another.

With h = ½ w θ, one partial rotation by w θ about the axis a is the quaternion P = (cos h, a sin h). For the product
Q = P_S … P_1 and the gradient G with respect to it, the vector part m of G Q* is a torque: the derivative with respect
to the last h is a · m, and one rotation further back m is turned back by P_S. No intermediate product is needed.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from cryosphere.physics.compiled import compiled

# Residues that are worked on together, so that their quaternions stay in the cache.
BLOCK = 64
# Least square of a rotation's angle that is divided by.
_TINY = 1e-100


@compiled
@no_type_check
def _three(row):
    return np.float64(row[0]), np.float64(row[1]), np.float64(row[2])


@compiled
@no_type_check
def _four(row):
    return np.float64(row[0]), np.float64(row[1]), np.float64(row[2]), np.float64(row[3])


@compiled
@no_type_check
def _cosine(square):
    """cos x of x² up to (½ π)², to double precision (Taylor)."""
    value = 1.0 / 1124000727777607680000.0
    value = 1.0 / 2432902008176640000.0 - square * value
    value = 1.0 / 6402373705728000.0 - square * value
    value = 1.0 / 20922789888000.0 - square * value
    value = 1.0 / 87178291200.0 - square * value
    value = 1.0 / 479001600.0 - square * value
    value = 1.0 / 3628800.0 - square * value
    value = 1.0 / 40320.0 - square * value
    value = 1.0 / 720.0 - square * value
    value = 1.0 / 24.0 - square * value
    value = 0.5 - square * value
    return 1.0 - square * value


@compiled
@no_type_check
def _sine_ratio(square):
    """sin x / x of x² up to (½ π)², to double precision (Taylor)."""
    value = 1.0 / 51090942171709440000.0
    value = 1.0 / 121645100408832000.0 - square * value
    value = 1.0 / 355687428096000.0 - square * value
    value = 1.0 / 1307674368000.0 - square * value
    value = 1.0 / 6227020800.0 - square * value
    value = 1.0 / 39916800.0 - square * value
    value = 1.0 / 362880.0 - square * value
    value = 1.0 / 5040.0 - square * value
    value = 1.0 / 120.0 - square * value
    value = 1.0 / 6.0 - square * value
    return 1.0 - square * value


@compiled
@no_type_check
def turn(first, last, rotvec, weights, active, quats):
    """Product of every residue's partial rotations, for images first … last - 1.

    Parameters
    ----------
    first, last : int
    rotvec : array of shape (image, segment, 3), rad, of length π at most
    weights : array of shape (segment, padded residue), between 0 and 1
        Filled up with zeros to a whole number of blocks.
    active : bool array of shape (segment, block)
        Whether any weight of a block is not 0.
    quats : array of shape (image, residue, 4)
        Written.
    """
    n_residues = quats.shape[1]
    block = np.empty(5 * BLOCK)  # w, x, y, z, and the weights of one segment
    for image in range(first, last):
        for start in range(0, n_residues, BLOCK):
            block[:BLOCK], block[BLOCK:] = 1.0, 0.0
            for segment in range(len(weights)):
                if active[segment, start // BLOCK]:
                    block[4 * BLOCK :] = weights[segment, start : start + BLOCK]
                    _turn_block(rotvec[image, segment], block)
            for residue in range(min(BLOCK, n_residues - start)):
                for axis in range(4):
                    quats[image, start + residue, axis] = block[axis * BLOCK + residue]


@compiled
@no_type_check
def _turn_block(rotvec, block):
    """Turn the quaternions of a block by shares of one rotation."""
    x, y, z = 0.5 * rotvec[0], 0.5 * rotvec[1], 0.5 * rotvec[2]
    square = x * x + y * y + z * z
    for i in range(BLOCK):  # one array, one length: so the compiler makes vector instructions of it
        a, b, c, d = block[i], block[i + BLOCK], block[i + 2 * BLOCK], block[i + 3 * BLOCK]
        weight = block[i + 4 * BLOCK]
        angle = weight * weight * square
        real, share = _cosine(angle), weight * _sine_ratio(angle)
        block[i] = real * a - share * (x * b + y * c + z * d)
        block[i + BLOCK] = real * b + share * (x * a + y * d - z * c)
        block[i + 2 * BLOCK] = real * c + share * (y * a + z * b - x * d)
        block[i + 3 * BLOCK] = real * d + share * (z * a + x * c - y * b)


@compiled
@no_type_check
def turn_gradient(first, last, rotvec, weights, active, quats, grad_quats, grad_rotvec):
    """Gradients of :func:`turn` for images first … last - 1.

    Parameters
    ----------
    first, last, rotvec, weights, active, quats
        As there, ``quats`` as written there.
    grad_quats : array of shape (image, residue, 4)
    grad_rotvec : array of shape (image, segment, 3)
        Written.

    Returns
    -------
    array of shape (segment, padded residue)
        Gradient with respect to the weights, summed over these images.
    """
    n_residues = quats.shape[1]
    grad_weights = np.zeros_like(weights)
    block = np.empty(5 * BLOCK)  # torque along x, y, z, the weights of one segment, and their gradient
    for image in range(first, last):
        grad_rotvec[image] = 0.0
        for start in range(0, n_residues, BLOCK):
            block[: 3 * BLOCK] = 0.0
            for residue in range(min(BLOCK, n_residues - start)):
                a, b, c, d = _four(quats[image, start + residue])
                s, x, y, z = _four(grad_quats[image, start + residue])
                block[residue] = a * x - s * b + z * c - y * d
                block[residue + BLOCK] = a * y - s * c + x * d - z * b
                block[residue + 2 * BLOCK] = a * z - s * d + y * b - x * c
            for segment in range(len(weights) - 1, -1, -1):
                if active[segment, start // BLOCK]:
                    block[3 * BLOCK : 4 * BLOCK] = weights[segment, start : start + BLOCK]
                    x, y, z = _turn_block_back(rotvec[image, segment], block)
                    grad_rotvec[image, segment, 0] += x
                    grad_rotvec[image, segment, 1] += y
                    grad_rotvec[image, segment, 2] += z
                else:
                    _weigh_block(rotvec[image, segment], block)
                grad_weights[segment, start : start + BLOCK] += block[4 * BLOCK :]
    return grad_weights


@compiled
@no_type_check
def _turn_block_back(rotvec, block):
    """Gradient with respect to one rotation; write that to the weights, and turn the torques of a block back."""
    x, y, z = rotvec[0], rotvec[1], rotvec[2]
    square = x * x + y * y + z * z
    inverse = 1.0 / max(square, _TINY)
    sum_x, sum_y, sum_z = 0.0, 0.0, 0.0
    for i in range(BLOCK):
        a, b, c, weight = block[i], block[i + BLOCK], block[i + 2 * BLOCK], block[i + 3 * BLOCK]
        angle = 0.25 * weight * weight * square
        ratio = _sine_ratio(angle)
        # sin φ / φ and w (1 - cos φ) / φ² of φ = w θ, and torque × rotvec with its part along rotvec
        sine, cosine = ratio * _cosine(angle), 0.5 * weight * ratio * ratio
        u, v, w = b * z - c * y, c * x - a * z, a * y - b * x
        along = x * a + y * b + z * c
        parallel = (1 - sine) * inverse * along
        sum_x += weight * (sine * a + cosine * u + parallel * x)
        sum_y += weight * (sine * b + cosine * v + parallel * y)
        sum_z += weight * (sine * c + cosine * w + parallel * z)
        block[i] = a + weight * (sine * u + cosine * (x * along - a * square))
        block[i + BLOCK] = b + weight * (sine * v + cosine * (y * along - b * square))
        block[i + 2 * BLOCK] = c + weight * (sine * w + cosine * (z * along - c * square))
        block[i + 4 * BLOCK] = 0.5 * along
    return 0.5 * sum_x, 0.5 * sum_y, 0.5 * sum_z


@compiled
@no_type_check
def _weigh_block(rotvec, block):
    """Gradient with respect to weights that are all 0, where nothing turns."""
    x, y, z = 0.5 * rotvec[0], 0.5 * rotvec[1], 0.5 * rotvec[2]
    for i in range(BLOCK):
        block[i + 4 * BLOCK] = x * block[i] + y * block[i + BLOCK] + z * block[i + 2 * BLOCK]


@compiled
@no_type_check
def move(first, last, points, quats, translations, moved):
    """Move points by one rigid motion each, x + 2 u × (u × x + w x) + translation, for images first … last - 1.

    Parameters
    ----------
    first, last : int
    points : array of shape (residue, 3)
    quats, translations : arrays of shape (image, residue, 4) and (image, residue, 3)
    moved : array of shape (image, residue, 3)
        Written.
    """
    for image in range(first, last):
        for residue in range(len(points)):
            w, x, y, z = _four(quats[image, residue])
            a, b, c = _three(points[residue])
            u, v, t = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
            moved[image, residue, 0] = a + 2 * (y * t - z * v) + translations[image, residue, 0]
            moved[image, residue, 1] = b + 2 * (z * u - x * t) + translations[image, residue, 1]
            moved[image, residue, 2] = c + 2 * (x * v - y * u) + translations[image, residue, 2]


@compiled
@no_type_check
def move_gradient(first, last, points, quats, grad_moved, grad_quats):
    """Gradient of :func:`move` with respect to the quaternions, written to ``grad_quats`` (image, residue, 4)."""
    for image in range(first, last):
        for residue in range(len(points)):
            w, x, y, z = _four(quats[image, residue])
            a, b, c = _three(points[residue])
            g, h, k = _three(grad_moved[image, residue])
            u, v, t = b * k - c * h, c * g - a * k, a * h - b * g  # point × gradient
            along_point, along_grad, both = x * a + y * b + z * c, x * g + y * h + z * k, a * g + b * h + c * k
            grad_quats[image, residue, 0] = 2 * (x * u + y * v + z * t)
            grad_quats[image, residue, 1] = 2 * (w * u + along_point * g + along_grad * a - 2 * both * x)
            grad_quats[image, residue, 2] = 2 * (w * v + along_point * h + along_grad * b - 2 * both * y)
            grad_quats[image, residue, 3] = 2 * (w * t + along_point * k + along_grad * c - 2 * both * z)
