"""Images and masks in two folders, with equal names: val2017/1.jpg, masks/val2017/1.png."""

from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from ..errors import DataError
from ..registry import DATASETS, TRANSFORMS
from .image_folder import SUFFIXES


@DATASETS.register_module()
class MaskFolder(BaseDataset):
    """Images with a PNG each, whose pixels are numbers of classes, 255 where none counts.

    Args:
        data_root: folder of both. data_prefix: `img` and `mask`, the two folders in it.
        classes: their names, in the order of the masks' numbers. kwargs: MMEngine's.

    Raises:
        DataError: a folder is missing, there are no images, or one has no mask.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict,
        classes: tuple[str, ...] = ('none', 'person'),
        **kwargs,
    ):
        metainfo = dict(classes=tuple(classes))
        super().__init__('', metainfo, data_root, data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry an image, with `img_path` and `mask_path`."""
        images, masks = (Path(self.data_prefix[key]) for key in ('img', 'mask'))
        for folder in (images, masks):
            if not folder.is_dir():
                raise DataError(f"folder '{folder}' does not exist: check data_root")
        found = []
        for path in sorted(images.iterdir()):
            if path.suffix.lower() in SUFFIXES:
                mask = masks / f'{path.stem}.png'
                if not mask.is_file():
                    raise DataError(f"'{path}' has no mask '{mask}'")
                found.append(
                    dict(
                        img_path=str(path),
                        mask_path=str(mask),
                        num_classes=len(self._metainfo['classes']),
                    )
                )
        if not found:
            raise DataError(f"'{images}' holds no images")
        return found


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """`mask`, (H, W), uint8, from `mask_path`; resized with the image to `size` and flipped.

    Args:
        size: (height, width).
        flip: probability of mirroring both.
        ignore_index: label of pixels that do not count.

    Raises:
        DataError: the mask cannot be read, has another size than the image, or holds a number
            that is none of the data set's classes.
    """

    def __init__(self, size: tuple[int, int], flip: float = 0.0, ignore_index: int = 255):
        self.size, self.flip, self.ignore_index = tuple(size), flip, ignore_index

    def transform(self, results: dict) -> dict:
        """Set `mask`, replace `img`."""
        image, path = results['img'], results['mask_path']
        try:
            mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        except cv2.error:  # more pixels than OpenCV reads
            mask = None
        if mask is None:
            raise DataError(f"mask '{path}' cannot be read")
        if mask.shape != image.shape[:2]:
            raise DataError(f"mask '{path}' is {mask.shape}, its image {image.shape[:2]}")
        classes = results['num_classes']
        if (other := mask[(mask >= classes) & (mask != self.ignore_index)]).size:
            raise DataError(
                f"mask '{path}' holds {other[0]}, classes are 0 to {classes - 1} and "
                f'{self.ignore_index} for pixels that do not count'
            )
        image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, self.size[::-1], interpolation=cv2.INTER_NEAREST)
        if np.random.rand() < self.flip:
            image, mask = mmcv.imflip(image), mmcv.imflip(mask)
        results['img'], results['mask'] = image, mask
        return results


@TRANSFORMS.register_module()
class PackMask(BaseTransform):
    """`inputs` (3, H, W) and a sample with `gt_mask` (H, W), for `Segmentor`."""

    def transform(self, results: dict) -> dict:
        """Pack image and mask for the collate function."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        sample = BaseDataElement(metainfo=dict(img_path=results['img_path']))
        sample.gt_mask = torch.from_numpy(np.ascontiguousarray(results['mask'])).long()
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
