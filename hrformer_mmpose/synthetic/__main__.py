"""Draw the built-in data set: `python -m hrformer_mmpose.synthetic FOLDER`."""

import sys

from .dataset import main

if __name__ == '__main__':
    sys.exit(main())
