"""Description of an exported network, stored in the file's metadata."""

import json
import math
import operator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import WeightsError
from ..imaging.skeleton import Skeleton

KEY = 'hrformer_mmpose'  # metadata key of the description
FORMAT = 1
PRECISIONS = ('float32', 'float16', 'bfloat16', 'int8')


@dataclass(frozen=True)
class Description:
    """Origin, input and output of an exported network.

    Attributes:
        config: name of the config.
        checkpoint: file name of the weights.
        sha256: of the weights' file.
        version: of this package.
        created: date of the export.
        input_size: (w, h) in pixels.
        padding: size of the crop relative to the box.
        udp: geometry of the crops, see `imaging.crops`.
        mean: of the normalization, per channel.
        std: of the normalization, per channel.
        rgb: channel order of the network's input is RGB, not BGR.
        normalise: the input is crops (N, h, w, 3) BGR uint8; otherwise it is normalized,
            (N, 3, h, w) float32.
        decode: the output is keypoints and scores; otherwise heatmaps.
        codec: the config's decoder.
        flip_test: the network averages over the mirror image.
        precision: one of `PRECISIONS`.
        keypoints: names, see `Skeleton`.
        links: see `Skeleton`.
        flip_indices: see `Skeleton`.
        format: version of this description.
        quantization: of an int8 file: `crops` calibrated on, `float_layers` that are not quantized.
    """

    config: str
    checkpoint: str
    sha256: str
    version: str
    created: str
    input_size: tuple[int, int]
    padding: float
    udp: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rgb: bool
    normalise: bool
    decode: bool
    codec: dict
    flip_test: bool
    precision: str
    keypoints: tuple[str, ...]
    links: tuple[tuple[int, int], ...]
    flip_indices: tuple[int, ...]
    format: int = field(default=FORMAT)
    quantization: dict | None = None

    def __post_init__(self):
        """Raise a ValueError or TypeError for values that no export writes."""
        w, h = map(operator.index, self.input_size)
        numbers = (self.padding, *self.mean, *self.std)
        if not (min(w, h, self.padding, *self.std) > 0 and all(map(math.isfinite, numbers))):
            raise ValueError('sizes and normalisation')
        if len(self.mean) != 3 or len(self.std) != 3 or self.precision not in PRECISIONS:
            raise ValueError('channels or precision')
        count = range(len(self.keypoints))
        ends = [end for link in self.links for end in link]
        if sorted(self.flip_indices) != [*count] or not {*ends} <= {*count}:
            raise ValueError('keypoints')

    @property
    def skeleton(self) -> Skeleton:
        """Definition of the keypoints."""
        return Skeleton(
            tuple(self.keypoints), tuple(map(tuple, self.links)), tuple(self.flip_indices)
        )

    def to_json(self) -> str:
        """Convert to text for the file."""
        values = asdict(self)
        if self.quantization is None:  # a name that earlier versions do not know
            del values['quantization']
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str | None, path: str | Path) -> 'Description':
        """Parse the text of a file.

        Args:
            text: output of `to_json`; None if the file contains none.
            path: for error messages.

        Raises:
            WeightsError: no description, or one of another format.
        """
        try:
            values = json.loads(text or '')
            if values['format'] != FORMAT:
                raise WeightsError(
                    f"'{path}' is of format {values['format']}, this version reads {FORMAT}: "
                    'export the network again'
                )
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"'{path}' was not written by `hrformer export`: it does not say what its input "
                'and output are'
            ) from error
