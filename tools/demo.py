"""Draw people, train HRFormer-T on them, test it, show it: python tools/demo.py; --help."""

from hrformer_mmpose import terminal
from hrformer_mmpose.engine import demo

if __name__ == '__main__':
    terminal.run(demo.run, demo.parser())
