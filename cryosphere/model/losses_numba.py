"""Compiled correlation of images with their renderings: each pixel is read once on the way there and once back."""

from __future__ import annotations

from typing import no_type_check

import numpy as np

from cryosphere.physics.compiled import compiled


@compiled
@no_type_check
def correlate(first, last, images, rendered, weight, least, values, parts):
    """Weighted correlation of images first … last - 1 with their renderings.

    Parameters
    ----------
    first, last : int
    images, rendered : arrays of shape (image, pixel)
    weight : array of shape (pixel,)
        With sum 1.
    least : float
        Smallest product of the variances that is divided by.
    values : array of shape (image,)
        Written.
    parts : array of shape (image, 3)
        Written: the correlation's gradient with respect to a pixel of the rendering is weight · (parts[0] · image +
        parts[1] · rendering + parts[2]).
    """
    for index in range(first, last):
        image, prediction = images[index], rendered[index]
        x, y, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
        for pixel in range(len(weight)):
            one, other, share = np.float64(image[pixel]), np.float64(prediction[pixel]), np.float64(weight[pixel])
            x += share * one
            y += share * other
            xx += share * one * one
            yy += share * other * other
            xy += share * one * other
        covariance, variance = xy - x * y, yy - y * y
        product = (xx - x * x) * variance
        scale = 1 / np.sqrt(max(product, least))
        slope = covariance / variance if product > least else 0.0
        values[index] = covariance * scale
        parts[index, 0] = scale
        parts[index, 1] = -scale * slope
        parts[index, 2] = scale * (slope * y - x)


@compiled
@no_type_check
def correlate_gradient(first, last, images, rendered, weight, parts, grad_values, gradient):
    """Gradient of :func:`correlate` with respect to the renderings, written to ``gradient`` (image, pixel)."""
    for index in range(first, last):
        image, prediction, slope = images[index], rendered[index], gradient[index]
        a, b, c = parts[index, 0], parts[index, 1], parts[index, 2]
        a, b, c = grad_values[index] * a, grad_values[index] * b, grad_values[index] * c
        for pixel in range(len(weight)):
            slope[pixel] = weight[pixel] * (a * image[pixel] + b * prediction[pixel] + c)
