"""Images in one folder per class, as ImageNet is kept: ROOT/train/CLASS/x.JPEG, ROOT/val/..."""

from pathlib import Path

from mmengine.dataset import BaseDataset

from ..errors import DataError
from ..registry import DATASETS

SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp'}


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Classes are the names of the folders in alphabetical order; hidden folders are left out.

    Args:
        data_root: folder of the folders. data_prefix: `img`, the part of it to take, such as
            'train'. pipeline, kwargs: MMEngine's.

    Raises:
        DataError: the folder is missing, or it or a class in it holds no images.
    """

    def __init__(self, data_root: str, data_prefix: dict = dict(img=''), **kwargs):
        super().__init__(ann_file='', data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """One entry an image, with `img_path` and `gt_label`."""
        root = Path(self.data_prefix['img'])
        if not root.is_dir():
            raise DataError(
                f"image folder '{root}' does not exist: set data_root in the config (for ImageNet "
                'the environment variable IMAGENET_ROOT) to the folder that holds train/ and val/'
            )
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
        found = []
        for label, folder in enumerate(folders):
            paths = [p for p in sorted(folder.rglob('*')) if p.suffix.lower() in SUFFIXES]
            if not paths:
                raise DataError(f"class folder '{folder}' holds no images: fill it or remove it")
            found += [dict(img_path=str(path), gt_label=label) for path in paths]
        if not found:
            raise DataError(f"'{root}' holds no images: one folder for each class is expected")
        self._metainfo['classes'] = tuple(folder.name for folder in folders)
        return found
