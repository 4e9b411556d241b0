"""Pipelines whose errors name the transform."""

from mmengine.dataset import Compose

from ..config_errors import CAUSES, config_error
from ..errors import UserError


class Pipeline(Compose):
    """MMEngine's `Compose` with errors of one line.

    A transform that lacks what an earlier one should have added is a mistake of the config.

    Args:
        transforms: settings of transforms, or callables.
    """

    def __call__(self, data: dict) -> dict | None:
        """Apply the transforms.

        Args:
            data: sample of the data set.

        Returns:
            The sample; None if a transform drops it.

        Raises:
            ConfigError: a transform fails; names it and its place.
        """
        for index, transform in enumerate(self.transforms):
            try:
                data = transform(data)
            except UserError:
                raise
            except CAUSES as error:
                name = getattr(transform, '__name__', type(transform).__name__)
                place = f'pipeline[{index}] ({name})'
                if isinstance(error, KeyError | UnboundLocalError):
                    place += ': it lacks what an earlier transform sets'
                raise config_error(place, error) from error
            if data is None:
                return None
        return data
