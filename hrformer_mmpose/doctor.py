"""Run `hrformer doctor` as `python -m hrformer_mmpose.doctor`."""

import sys

from .cli.doctor import main

if __name__ == '__main__':
    sys.exit(main())
