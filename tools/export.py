"""Export a checkpoint: python tools/export.py CONFIG CHECKPOINT OUT [flags]; --help lists them."""

from hrformer_mmpose.cli import export, terminal

if __name__ == '__main__':
    terminal.run(export.run, export.parser())
