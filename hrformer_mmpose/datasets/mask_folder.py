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
    """Images with PNG masks, whose pixels are class indices (255: ignored).

    Args:
        data_root: root folder.
        data_prefix: `img` and `mask`, the folders of images and masks in it.
        classes: class names in the order of their indices.
        kwargs: arguments of MMEngine's `BaseDataset`.

    Raises:
        DataError: a folder is missing, there are no images, or an image has no mask.
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
        """Return `img_path`, `mask_path` and `num_classes` of each image."""
        images, masks = (Path(self.data_prefix[key]) for key in ('img', 'mask'))
        for folder in (images, masks):
            if not folder.is_dir():
                raise DataError(f"folder '{folder}' does not exist: check data_root")
        count, samples = len(self._metainfo['classes']), []
        for path in sorted(p for p in images.iterdir() if p.suffix.lower() in SUFFIXES):
            mask = masks / f'{path.stem}.png'
            if not mask.is_file():
                raise DataError(f"'{path}' has no mask '{mask}'")
            samples.append(dict(img_path=str(path), mask_path=str(mask), num_classes=count))
        if not samples:
            raise DataError(f"'{images}' holds no images")
        return samples


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load `mask_path` to `mask` (H, W) uint8, and resize and flip it together with the image.

    Args:
        size: (height, width) in pixels.
        flip: probability of a horizontal flip.
        ignore_index: label of ignored pixels.

    Raises:
        DataError: the mask is unreadable, has another size than the image, or has a value that is
            no class of the data set.
    """

    def __init__(self, size: tuple[int, int], flip: float = 0.0, ignore_index: int = 255):
        self.size, self.flip, self.ignore_index = tuple(size), flip, ignore_index

    def transform(self, results: dict) -> dict:
        """Set `mask` and replace `img`."""
        image, path = results['img'], results['mask_path']
        try:
            mask = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
        except cv2.error:  # image larger than OpenCV's limit
            mask = None
        if mask is None:
            raise DataError(f"mask '{path}' cannot be read")
        if mask.shape != image.shape[:2]:
            raise DataError(f"mask '{path}' is {mask.shape}, its image {image.shape[:2]}")
        classes = results['num_classes']
        if (invalid := mask[(mask >= classes) & (mask != self.ignore_index)]).size:
            raise DataError(
                f"mask '{path}' holds {invalid[0]}, classes are 0 to {classes - 1} and "
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
    """Pack `inputs` (3, H, W) and a sample with `gt_mask` (H, W), for `Segmentor`."""

    def transform(self, results: dict) -> dict:
        """Pack image and mask for the collate function."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        sample = BaseDataElement(metainfo=dict(img_path=results['img_path']))
        sample.gt_mask = torch.from_numpy(np.ascontiguousarray(results['mask'])).long()
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
