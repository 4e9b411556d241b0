"""Table of all configs, counted and published: python tools/model_table.py; --help lists flags."""

from hrformer_mmpose import terminal
from hrformer_mmpose.engine import model_table

if __name__ == '__main__':
    terminal.run(model_table.run, model_table.parser())
