"""Images and masks in two folders, with names that belong together.

| data set | data_prefix: img, mask | suffixes: img, mask | classes |
|---|---|---|---|
| one's own | 'val', 'masks/val' | any image, '.png' | a tuple |
| Cityscapes | 'leftImg8bit/val', 'gtFine/val' | '_leftImg8bit.png', '_gtFine_labelIds.png' | |
| PASCAL-Context | 'JPEGImages', 'SegmentationClassContext' | '.jpg', '.png' | |
| COCO-Stuff 10k | 'images', 'annotations' | '.jpg', '.mat' | |
| COCO-Stuff 164k | 'val2017', 'stuffthingmaps/val2017' | '.jpg', '.png' | |
| prepared by the authors' code | 'val/image', 'val/label' | any image, '.png' | |

`ann_file` lists the images of a split where one folder holds all of them.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.structures import BaseDataElement

from ..errors import ConfigError, DataError
from ..imaging.images import SUFFIXES
from ..registry import DATASETS, TRANSFORMS
from .label_sets import label_set
from .masks import read_mask
from .sampler import ReproducibleSamples


@DATASETS.register_module()
class MaskFolder(ReproducibleSamples, BaseDataset):
    """Images with masks of classes.

    Args:
        data_root: root folder.
        data_prefix: `img` and `mask`, the folders of images and masks in it; subfolders included.
        classes: name of a `label_sets.LabelSet`; or class names in the order of the masks' pixel
            values, with 255 for pixels that do not count.
        img_suffix: end of an image's name, which its mask's does not have. Any image by default.
        mask_suffix: what the mask's name has instead.
        ann_file: list of the images, one a line, without `img_suffix`. All images by default.
        kwargs: arguments of MMEngine's `BaseDataset`.

    Raises:
        ConfigError: unknown classes; a list without `img_suffix`.
        DataError: a folder or the list is missing, there are no images, or an image has no mask.
    """

    def __init__(
        self,
        data_root: str,
        data_prefix: dict,
        classes: str | Sequence[str] = ('none', 'person'),
        img_suffix: str = '',
        mask_suffix: str = '.png',
        ann_file: str = '',
        **kwargs,
    ):
        if ann_file and not img_suffix:
            raise ConfigError(f"MaskFolder: ann_file='{ann_file}' needs img_suffix, such as '.jpg'")
        self.labels = label_set(classes)
        self.img_suffix, self.mask_suffix = img_suffix, mask_suffix
        metainfo = dict(classes=self.labels.classes)
        super().__init__(ann_file, metainfo, data_root, data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return `img_path` and `mask_path` of each image."""
        images, masks = (Path(self.data_prefix[key]) for key in ('img', 'mask'))
        for folder in (images, masks):
            if not folder.is_dir():
                raise DataError(f"folder '{folder}' does not exist: check data_root")
        samples = []
        for path in self._listed(images) if self.ann_file else self._found(images):
            suffix = self.img_suffix or path.suffix
            mask = masks / (str(path.relative_to(images)).removesuffix(suffix) + self.mask_suffix)
            if not mask.is_file():
                raise DataError(f"'{path}' has no mask '{mask}'")
            samples.append(dict(img_path=str(path), mask_path=str(mask)))
        if not samples:
            name = f"'*{self.img_suffix}'" if self.img_suffix else 'images'
            raise DataError(f"'{self.ann_file or images}' holds no {name}")
        return samples

    def get_data_info(self, idx: int) -> dict:
        """Return paths and `labels`, the `LabelSet`, of an image."""
        return {**super().get_data_info(idx), 'labels': self.labels}

    def _found(self, folder: Path) -> list[Path]:
        """Return all images of a folder."""
        paths = (path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES)
        return sorted(path for path in paths if path.name.endswith(self.img_suffix))

    def _listed(self, folder: Path) -> list[Path]:
        """Return the images that the list names."""
        try:
            names = Path(self.ann_file).read_text().split('\n')
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, 'strerror', None) or 'not a text'
            raise DataError(f"list '{self.ann_file}' cannot be read: {why}") from error
        paths = [folder / (name.strip() + self.img_suffix) for name in names if name.strip()]
        if missing := [path for path in paths if not path.is_file()]:
            raise DataError(
                f"'{self.ann_file}' lists '{missing[0]}', which does not exist "
                f'({len(missing)} of {len(paths)} images are missing)'
            )
        return paths


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load `mask_path` to `mask` (H, W) uint8, and resize and flip it together with the image.

    Args:
        size: (height, width) in pixels; None keeps the size.
        flip: probability of a horizontal flip.
        ignore_index: label of ignored pixels.

    Raises:
        DataError: the mask is unreadable, has another size than the image, or has a value that is
            no label of the data set.
    """

    def __init__(
        self, size: tuple[int, int] | None = None, flip: float = 0.0, ignore_index: int = 255
    ):
        self.size = None if size is None else tuple(size)
        self.flip, self.ignore_index = flip, ignore_index

    def transform(self, results: dict) -> dict:
        """Set `mask` and replace `img`."""
        image, path = results['img'], results['mask_path']
        mask = read_mask(path)
        if mask.shape != image.shape[:2]:
            raise DataError(f"mask '{path}' is {mask.shape}, its image {image.shape[:2]}")
        mask = results['labels'].indices(mask, path, self.ignore_index)
        if self.size is not None:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
            mask = cv2.resize(mask, self.size[::-1], interpolation=cv2.INTER_NEAREST)
        if np.random.rand() < self.flip:
            image, mask = mmcv.imflip(image), mmcv.imflip(mask)
        results['img'], results['mask'] = image, mask
        return results


@TRANSFORMS.register_module()
class PackMask(BaseTransform):
    """Pack `inputs` (3, h, w) and a sample with `gt_mask` (H, W), for `Segmentor`."""

    def transform(self, results: dict) -> dict:
        """Pack image and mask for the collate function."""
        image, mask = results['img'], results['mask']
        sizes = dict(img_shape=image.shape[:2], mask_shape=mask.shape)
        sample = BaseDataElement(metainfo=dict(img_path=results['img_path'], **sizes))
        sample.gt_mask = torch.from_numpy(np.ascontiguousarray(mask)).long()
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return dict(inputs=inputs, data_samples=sample)
