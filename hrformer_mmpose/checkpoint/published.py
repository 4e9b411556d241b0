"""Published weights by name: `mmpose://NAME`.

The addresses and figures are those of MMPose's metafiles (1.3.2). Each address ends in the first
eight digits of the file's SHA-256, which `download.fetch` compares. A name is downloaded only where
the user or a config gives it with its scheme.
"""

import difflib
from dataclasses import dataclass

from ..errors import WeightsError

SCHEME = 'mmpose://'
_ROOT = 'https://download.openmmlab.com/mmpose/'
_HRFORMER = 'top_down/hrformer/'
_BACKBONES = 'pretrain_models/'
_V1 = 'v1/body_2d_keypoint/topdown_heatmap/coco/td-hm_'


@dataclass(frozen=True)
class PublishedFile:
    """File of MMPose.

    Attributes:
        path: below MMPose's download folder.
        results: AP, AP50, AP75, AR and AR50 on COCO val2017 (detector of 56.4 AP, flip test), as
            fractions; empty for a backbone alone.
    """

    path: str
    results: tuple[float, ...] = ()

    @property
    def address(self) -> str:
        """Return the http address."""
        return _ROOT + self.path

    @property
    def reproduces(self) -> str:
        """Describe the published result."""
        if not self.results:
            return 'ImageNet backbone, converted from the authors'
        AP, *_, AR, _ = self.results
        return f'AP {100 * AP:.1f}, AR {100 * AR:.1f}'


# Name -> file. Names are those of the configs that build the file's network; two are backbones.
FILES: dict[str, PublishedFile] = {
    'hrformer_small': PublishedFile(_BACKBONES + 'hrformer_small-09516375_20220226.pth'),
    'hrformer_base': PublishedFile(_BACKBONES + 'hrformer_base-32815020_20220226.pth'),
    'hrformer_small_coco_256x192': PublishedFile(
        _HRFORMER + 'hrformer_small_coco_256x192-5310d898_20220316.pth',
        (0.738, 0.904, 0.812, 0.793, 0.941),
    ),
    'hrformer_small_coco_384x288': PublishedFile(
        _HRFORMER + 'hrformer_small_coco_384x288-98d237ed_20220316.pth',
        (0.757, 0.905, 0.824, 0.807, 0.941),
    ),
    'hrformer_base_coco_256x192': PublishedFile(
        _HRFORMER + 'hrformer_base_coco_256x192-6f5f1169_20220316.pth',
        (0.754, 0.906, 0.827, 0.807, 0.943),
    ),
    'hrformer_base_coco_384x288': PublishedFile(
        _HRFORMER + 'hrformer_base_coco_384x288-ecf0758d_20220316.pth',
        (0.774, 0.909, 0.842, 0.823, 0.945),
    ),
    'hrnet_w32_coco_256x192': PublishedFile(
        _V1 + 'hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth',
        (0.746, 0.904, 0.819, 0.799, 0.942),
    ),
    'hrnet_w32_coco_384x288': PublishedFile(
        _V1 + 'hrnet-w32_8xb64-210e_coco-384x288-ca5956af_20220909.pth',
        (0.76, 0.906, 0.83, 0.81, 0.943),
    ),
    'hrnet_w48_coco_256x192': PublishedFile(
        _V1 + 'hrnet-w48_8xb32-210e_coco-256x192-0e67c616_20220913.pth',
        (0.756, 0.907, 0.825, 0.806, 0.942),
    ),
    'hrnet_w48_coco_384x288': PublishedFile(
        _V1 + 'hrnet-w48_8xb32-210e_coco-384x288-c161b7de_20220915.pth',
        (0.767, 0.91, 0.831, 0.816, 0.946),
    ),
    'hrnet_w32_coco_256x192_dark': PublishedFile(
        _V1 + 'hrnet-w32_dark-8xb64-210e_coco-256x192-0e00bf12_20220914.pth',
        (0.757, 0.907, 0.825, 0.807, 0.943),
    ),
    'hrnet_w32_coco_384x288_dark': PublishedFile(
        _V1 + 'hrnet-w32_dark-8xb64-210e_coco-384x288-9bab4c9b_20220917.pth',
        (0.766, 0.907, 0.829, 0.815, 0.942),
    ),
    'hrnet_w48_coco_256x192_dark': PublishedFile(
        _V1 + 'hrnet-w48_dark-8xb32-210e_coco-256x192-e1ebdd6f_20220913.pth',
        (0.764, 0.907, 0.831, 0.814, 0.942),
    ),
    'hrnet_w48_coco_384x288_dark': PublishedFile(
        _V1 + 'hrnet-w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916.pth',
        (0.772, 0.911, 0.833, 0.821, 0.948),
    ),
    'hrnet_w32_coco_256x192_udp': PublishedFile(
        _V1 + 'hrnet-w32_udp-8xb64-210e_coco-256x192-73ede547_20220914.pth',
        (0.762, 0.907, 0.829, 0.81, 0.942),
    ),
    'hrnet_w32_coco_384x288_udp': PublishedFile(
        _V1 + 'hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth',
        (0.768, 0.909, 0.832, 0.815, 0.945),
    ),
    'hrnet_w48_coco_256x192_udp': PublishedFile(
        _V1 + 'hrnet-w48_udp-8xb32-210e_coco-256x192-3feaef8f_20220913.pth',
        (0.768, 0.908, 0.833, 0.817, 0.945),
    ),
    'hrnet_w48_coco_384x288_udp': PublishedFile(
        _V1 + 'hrnet-w48_udp-8xb32-210e_coco-384x288-70d7ab01_20220913.pth',
        (0.773, 0.911, 0.836, 0.821, 0.946),
    ),
    'swin_tiny_coco_256x192': PublishedFile(
        'top_down/swin/swin_t_p4_w7_coco_256x192-eaefe010_20220503.pth',
        (0.724, 0.901, 0.806, 0.782, 0.94),
    ),
    'swin_base_coco_256x192': PublishedFile(
        'top_down/swin/swin_b_p4_w7_coco_256x192-7432be9e_20220705.pth',
        (0.737, 0.904, 0.82, 0.794, 0.942),
    ),
    'pvt_small_coco_256x192': PublishedFile(
        'top_down/pvt/pvt_small_coco_256x192-4324a49d_20220501.pth',
        (0.714, 0.896, 0.794, 0.773, 0.936),
    ),
    'pvtv2_b2_coco_256x192': PublishedFile(
        'top_down/pvt/pvtv2_b2_coco_256x192-b4212737_20220501.pth',
        (0.737, 0.905, 0.812, 0.791, 0.942),
    ),
}


def address(source: str) -> str:
    """Return the http address of `mmpose://NAME`.

    Raises:
        WeightsError: there is no published file of this name; names the nearest ones.
    """
    name = source.removeprefix(SCHEME)
    if name not in FILES:
        near = ', '.join(difflib.get_close_matches(name, FILES, 3, 0.4)) or ', '.join([*FILES][:4])
        raise WeightsError(
            f"'{source}': MMPose published no file of this name; near ones: {near} "
            '(`hrformer models --weights` lists all)'
        )
    return FILES[name].address
