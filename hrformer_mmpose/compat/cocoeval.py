"""pycocotools' keypoint evaluation behind the interface of xtcocotools' `COCOeval`.

MMPose's metric needs xtcocotools, which has wheels for Python 3.10 and 3.11 with numpy 1 only.
Where xtcocotools cannot be imported, `host.py` substitutes this class. The metrics are the same.
"""

from collections import defaultdict

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval as _COCOeval

from ..errors import ConfigError

BOX_TO_PERSON_AREA = 0.53  # share of a box that a person covers, in xtcocotools


class COCOeval(_COCOeval):
    """Object keypoint similarity evaluation.

    Args:
        cocoGt: annotations.
        cocoDt: results, from `cocoGt.loadRes`.
        iouType: 'keypoints'.
        sigmas: (K,) of OKS (default: COCO's 17).
        use_area: normalise by the annotated area instead of 0.53 times the area of the box.

    Raises:
        ConfigError: an `iouType` that only xtcocotools supports.
    """

    def __init__(
        self,
        cocoGt: COCO,
        cocoDt: COCO,
        iouType: str = 'keypoints',
        sigmas: np.ndarray | None = None,
        use_area: bool = True,
    ):
        if iouType != 'keypoints':
            raise ConfigError(f'iou_type={iouType!r} needs xtcocotools (Python 3.10 or 3.11)')
        super().__init__(cocoGt, cocoDt, iouType)
        self.use_area = use_area
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)

    def _prepare(self) -> None:
        p = self.params
        selection = dict(imgIds=p.imgIds, catIds=p.catIds if p.useCats else [])
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        for gt in self.cocoGt.loadAnns(self.cocoGt.getAnnIds(**selection)):
            self._gts[gt['image_id'], gt['category_id']].append(self._ground_truth(gt))
        for dt in self.cocoDt.loadAnns(self.cocoDt.getAnnIds(**selection)):
            # xtcocotools skips detections whose keypoint scores are all 0.
            if any(score > 0 for score in dt['keypoints'][2::3]):
                self._dts[dt['image_id'], dt['category_id']].append(dt)
        self.evalImgs, self.eval = defaultdict(list), {}

    def _ground_truth(self, gt: dict) -> dict:
        """Copy an annotation, with the fields that determine how xtcocotools counts it."""
        gt = dict(gt)
        gt['id'] += 1  # in pycocotools, 0 means "no match"
        gt['iscrowd'] = int(gt.get('iscrowd', 0))
        # Keypoints are counted, because `num_keypoints` is wrong after a conversion.
        labelled = any(visibility > 0 for visibility in gt['keypoints'][2::3])
        gt['ignore'] = bool(gt['iscrowd']) or not labelled
        if not self.use_area:
            gt['area'] = gt['bbox'][2] * gt['bbox'][3] * BOX_TO_PERSON_AREA
        return gt
