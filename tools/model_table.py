"""Table of all configs, counted and published: python tools/model_table.py; --help lists flags."""

from hrformer_mmpose.cli import model_table, terminal

if __name__ == '__main__':
    terminal.run(model_table.run, model_table.parser())
