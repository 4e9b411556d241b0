"""Images in one folder for each class, as in ImageNet: ROOT/train/CLASS/x.JPEG, ROOT/val/..."""

from pathlib import Path

from mmengine.dataset import BaseDataset

from ..errors import DataError
from ..imaging.images import SUFFIXES
from ..registry import DATASETS
from .sampler import ReproducibleSamples


@DATASETS.register_module()
class ImageFolder(ReproducibleSamples, BaseDataset):
    """Images whose classes are the folder names in alphabetical order, without hidden folders.

    Args:
        data_root: root folder.
        data_prefix: `img`, the split in it, such as 'train'.
        kwargs: arguments of MMEngine's `BaseDataset`, including `pipeline`.

    Raises:
        DataError: the folder is missing, or it or a class in it has no images.
    """

    def __init__(self, data_root: str, data_prefix: dict = dict(img=''), **kwargs):
        super().__init__(ann_file='', data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return `img_path` and `gt_label` of each image."""
        root = Path(self.data_prefix['img'])
        if not root.is_dir():
            raise DataError(
                f"image folder '{root}' does not exist: set data_root in the config (for ImageNet "
                'the environment variable IMAGENET_ROOT) to the folder that holds train/ and val/'
            )
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
        images = []
        for label, folder in enumerate(folders):
            paths = [p for p in sorted(folder.rglob('*')) if p.suffix.lower() in SUFFIXES]
            if not paths:
                raise DataError(f"class folder '{folder}' holds no images: fill it or remove it")
            images += [dict(img_path=str(path), gt_label=label) for path in paths]
        if not images:
            raise DataError(f"'{root}' holds no images: one folder for each class is expected")
        self._metainfo['classes'] = tuple(folder.name for folder in folders)
        return images
