"""Boundary IoU: how well the contours of classes fit, whatever the classes' size.

Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation Evaluation,
CVPR 2021, section 4, for all classes of an image at once.
"""

import math

import cv2
import numpy as np

_WIDTH = 0.02  # of the image's diagonal


def count_boundaries(
    label: np.ndarray, pred: np.ndarray, num_classes: int
) -> np.ndarray:
    """Counts the boundary pixels of one image by class; counts of images add up.

    A pixel is of its class's boundary if, not farther than 2 % of the image's diagonal
    (and at least 1 pixel) in both directions, there is a pixel of another id or the
    outside of the image. Where the label is void, the prediction is made void as well:
    there nothing is counted, and the contour towards it is the same in both.

    Args:
      label: uint8 [h w] train ids; ids that are no class (255) are void.
      pred: uint8 [h w], predicted classes.
      num_classes: c.

    Returns:
      int64 [2 c]: intersection and union of the boundary regions.
    """
    is_void = label >= num_classes
    label, pred = np.where(is_void, 255, label), np.where(is_void, 255, pred)
    width = boundary_width(label.shape)
    of_label, of_pred = (
        np.where(boundary(ids, width), ids, np.uint8(255)) for ids in (label, pred)
    )
    both = np.where(of_label == of_pred, of_label, np.uint8(255))
    counts = [
        np.bincount(ids.ravel(), minlength=256)[:num_classes]
        for ids in (both, of_label, of_pred)
    ]
    return np.stack([counts[0], counts[1] + counts[2] - counts[0]])


def boundary_width(size: tuple[int, ...]) -> int:
    """Distance in pixels, from an image's (height, width)."""
    return max(1, round(_WIDTH * math.hypot(*size)))


def boundary(ids: np.ndarray, width: int) -> np.ndarray:
    """Where another id, or the outside, is within `width` rows and columns.

    Args:
      ids: uint8 [h w].
      width: pixels, at least 1.

    Returns:
      bool [h w].
    """
    # The paper's code erodes by a 3×3 square again and again: one large square.
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    is_boundary = cv2.erode(ids, square) != cv2.dilate(ids, square)
    is_boundary[:width] = is_boundary[-width:] = True
    is_boundary[:, :width] = is_boundary[:, -width:] = True
    return is_boundary
