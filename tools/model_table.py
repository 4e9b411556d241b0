"""Table of all configs, counted and published: python tools/model_table.py; --help lists flags."""

from hrformer_mmpose.engine import cli, model_table

if __name__ == '__main__':
    cli.run(model_table.run, model_table.parser())
