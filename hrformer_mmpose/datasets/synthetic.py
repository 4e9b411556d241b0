"""Former name of `python -m hrformer_mmpose.synthetic`."""

import sys

from ..synthetic.dataset import generate, main

__all__ = ['generate', 'main']

if __name__ == '__main__':
    sys.exit(main())
