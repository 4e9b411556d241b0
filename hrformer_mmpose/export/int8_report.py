"""Report of an int8 network: shifts of its keypoints, and AP."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .accuracy import Shifts


@dataclass(frozen=True, eq=False)
class Int8Report:
    """Comparison of an int8 network with float32.

    Attributes:
        names: (K) of the keypoints.
        shifts: differences of the poses.
        ap_float32: AP in points, None without annotations.
        ap_int8: likewise.
        float_groups: groups of layers kept float for accuracy.
        costs: share of the heatmaps' error by group, if groups were ranked.
    """

    names: Sequence[str]
    shifts: Shifts
    ap_float32: float | None
    ap_int8: float | None
    float_groups: Sequence[str]
    costs: dict[str, float]

    @property
    def loss(self) -> float:
        """Lost AP in points; 0 without annotations."""
        return 0.0 if self.ap_int8 is None else self.ap_float32 - self.ap_int8

    def lines(self) -> list[str]:
        """Return the report, a line a keypoint."""
        shifts = self.shifts
        columns = 'keypoint', 'sure', 'shift in pixels of the crop: median, 95 %, worst', 'OKS loss'
        rows = ['{:<16}{:>6}  {:>50}{:>10}'.format(*columns)]
        for k, name in [*enumerate(self.names), (slice(None), 'all')]:
            sure = shifts.sure[:, k]
            if sure.any():
                values = np.percentile(shifts.pixels[:, k][sure], [50, 95, 100])
                loss = 100 * (1 - shifts.similarity[:, k][sure].mean())
                cells = ''.join(f'{value:9.2f}' for value in values)
                rows.append(f'{name:<16}{sure.sum():6}  {cells:>50}{loss:10.2f}')
            else:
                rows.append(f'{name:<16}{0:6}')
        if self.ap_int8 is None:
            rows.append('AP is not compared: give --annotations, COCO annotations of the images')
        else:
            rows.append(f'AP: float32 {self.ap_float32:.2f}, int8 {self.ap_int8:.2f}')
        if self.costs:
            rows.append(f"layers by their share of the heatmaps' error: {self.costliest(8)}")
        if self.float_groups:
            rows.append(f'kept float: {", ".join(self.float_groups)}')
        return rows

    def costliest(self, count: int) -> str:
        """Return the groups that cost most, with their shares."""
        ranked = sorted(self.costs.items(), key=lambda item: -item[1])[:count]
        return ', '.join(f'{group} {share:.0%}' for group, share in ranked)
