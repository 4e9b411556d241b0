"""Write model-index.yml and configs/**/metafile.yml: python docs/refresh_metafiles.py.

MMEngine's inferencers and `mim` find configs by these files. `Results` are MMPose's, of the file
under `Weights`; a config without a published file has `Weights: null`.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from hrformer_mmpose import zoo
from hrformer_mmpose.checkpoint import published

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / 'model-index.yml'
HEAD = '# python docs/refresh_metafiles.py writes this file.\n'
METRICS = ('AP', 'AP@0.5', 'AP@0.75', 'AR', 'AR@0.5')
# Start of a config's name -> collection.
COLLECTIONS = {
    'hrformer': 'HRFormer',
    'hrnet': 'HRNet',
    'intrawin': 'Swin Transformer',
    'prtr': 'PRTR',
    'pvt': 'PVT',
    'swin': 'Swin Transformer',
    'tokenpose': 'TokenPose',
    'transpose': 'TransPose',
    'vit': 'ViT',
}
# Collection -> title and address of its paper.
PAPERS = {
    'HRFormer': (
        'HRFormer: High-Resolution Transformer for Dense Prediction',
        'https://arxiv.org/abs/2110.09408',
    ),
    'HRNet': (
        'Deep High-Resolution Representation Learning for Human Pose Estimation',
        'https://arxiv.org/abs/1902.09212',
    ),
    'Swin Transformer': (
        'Swin Transformer: Hierarchical Vision Transformer using Shifted Windows',
        'https://arxiv.org/abs/2103.14030',
    ),
    'PRTR': ('Pose Recognition with Cascade Transformers', 'https://arxiv.org/abs/2104.06976'),
    'PVT': (
        'Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction '
        'without Convolutions',
        'https://arxiv.org/abs/2102.12122',
    ),
    'TokenPose': (
        'TokenPose: Learning Keypoint Tokens for Human Pose Estimation',
        'https://arxiv.org/abs/2104.03516',
    ),
    'TransPose': (
        'TransPose: Keypoint Localization via Transformer',
        'https://arxiv.org/abs/2012.14214',
    ),
    'ViT': (
        'An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale',
        'https://arxiv.org/abs/2010.11929',
    ),
}
# Part of a config's name -> training data and task; the first match counts.
DATA = {
    'coco_wholebody_hand': ('COCO-WholeBody-Hand', 'Hand 2D Keypoint'),
    'coco_wholebody': ('COCO-WholeBody', 'Wholebody 2D Keypoint'),
    'coco_stuff': ('COCO-Stuff', 'Semantic Segmentation'),
    'crowdpose': ('CrowdPose', 'Body 2D Keypoint'),
    'ochuman': ('COCO', 'Body 2D Keypoint'),
    'mpii': ('MPII', 'Body 2D Keypoint'),
    'aic': ('AI Challenger', 'Body 2D Keypoint'),
    'halpe26': ('Halpe', 'Body 2D Keypoint'),
    'ap10k': ('AP-10K', 'Animal 2D Keypoint'),
    'onehand10k': ('OneHand10K', 'Hand 2D Keypoint'),
    'cityscapes': ('Cityscapes', 'Semantic Segmentation'),
    'pascal_context': ('PASCAL-Context', 'Semantic Segmentation'),
    'imagenet': ('ImageNet-1k', 'Image Classification'),
    'people_seg': ('generated people', 'Semantic Segmentation'),
    'shapes': ('generated shapes', 'Image Classification'),
    'demo': ('generated people', 'Body 2D Keypoint'),
    'overfit': ('generated people', 'Body 2D Keypoint'),
    'coco': ('COCO', 'Body 2D Keypoint'),
}


def files() -> dict[Path, str]:
    """Return the content of all files by path."""
    folders: dict[Path, list[Path]] = {}
    for name in zoo.names():
        path = Path(zoo.find(name))
        folders.setdefault(path.parent, []).append(path)
    content, metafiles = {}, []
    for folder, configs in sorted(folders.items()):
        metafile = folder / 'metafile.yml'
        metafiles.append(metafile.relative_to(ROOT).as_posix())
        entries = [_entry(path) for path in configs]
        used = sorted({entry['In Collection'] for entry in entries})
        collections = [_collection(name) for name in used]
        content[metafile] = HEAD + _dump(dict(Collections=collections, Models=entries))
    content[INDEX] = HEAD + _dump(dict(Import=metafiles))
    return content


def _collection(name: str) -> dict[str, Any]:
    title, url = PAPERS[name]
    return dict(Name=name, Paper=dict(Title=title, URL=url), README='README.md')


def _entry(path: Path) -> dict[str, Any]:
    name = path.stem
    collection = next(c for start, c in COLLECTIONS.items() if name.startswith(start))
    data, task = next(entry for part, entry in DATA.items() if re.search(rf'_{part}(_|$)', name))
    file = published.FILES.get(name)
    results: list[dict] = [dict(Task=task, Dataset=data)]
    if file:
        results[0]['Metrics'] = dict(zip(METRICS, file.results, strict=True))
    return {
        'Name': name,
        'In Collection': collection,
        'Config': path.relative_to(ROOT).as_posix(),
        'Metadata': {'Architecture': [collection], 'Training Data': data},
        'Results': results,
        'Weights': file.address if file else None,
    }


def _dump(content: dict) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=1000)


if __name__ == '__main__':
    for path, text in files().items():
        path.write_text(text, encoding='utf-8')
