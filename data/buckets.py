"""Groups of like sizes: arrays of a few shapes hold images of a thousand sizes."""

import numpy as np

_NEVER = np.iinfo(np.int64).max  # the cost of what cannot be merged


def group_sizes(
    extents: np.ndarray, counts: np.ndarray, max_groups: int
) -> list[np.ndarray]:
    """Merges sizes until few groups are left, each time where it pads the least.

    All arrays of a group get the shape of its largest height and width.

    Args:
      extents: int [n a 2], heights and widths of the a arrays of an image, for each of
        n different sizes.
      counts: int [n], images of that size.
      max_groups: groups wanted.

    Returns:
      At most `max_groups` groups of indices into `extents`, in ascending order, the
      groups in that of their first index.
    """
    extents, counts = extents.astype(np.int64), counts.astype(np.int64)
    members = [[i] for i in range(len(extents))]
    alive = np.ones(len(extents), bool)
    # Of every group: the later group with which merging adds the fewest pixels.
    partner, cost = np.zeros(len(extents), int), np.zeros(len(extents), np.int64)

    def costs(i: int) -> np.ndarray:
        """Pixels that merging group i with every other group adds, [n]."""
        merged = np.maximum(extents, extents[i])
        added = (counts + counts[i]) * _pixels(merged)
        added -= counts * _pixels(extents) + counts[i] * _pixels(extents[i])
        added[~alive] = _NEVER
        added[i] = _NEVER
        return added

    def look_for_partner(i: int) -> None:
        added = costs(i)
        added[:i] = _NEVER
        partner[i] = np.argmin(added)
        cost[i] = added[partner[i]]

    for i in range(len(extents)):
        look_for_partner(i)
    for _ in range(len(extents) - max_groups):
        i = int(np.argmin(np.where(alive, cost, _NEVER)))
        j = int(partner[i])
        members[i] += members[j]
        extents[i] = np.maximum(extents[i], extents[j])
        counts[i] += counts[j]
        alive[j] = False
        is_stale = alive & ((partner == i) | (partner == j))
        is_stale[i] = True
        for k in np.flatnonzero(is_stale):
            look_for_partner(int(k))
        # Group i has grown: it may now be nearer to an earlier group than its partner.
        added = costs(i)
        closer = alive & (np.arange(len(extents)) < i) & (added < cost)
        partner[closer], cost[closer] = i, added[closer]
    return [np.sort(members[i]) for i in np.flatnonzero(alive)]


def _pixels(extents: np.ndarray) -> np.ndarray:
    return extents.prod(axis=-1).sum(axis=-1)
