"""Convert a checkpoint: python tools/convert_checkpoint.py SRC DST [--to mmpose|official]"""

from hrformer_mmpose.cli import convert_checkpoint, terminal

if __name__ == '__main__':
    terminal.run(convert_checkpoint.run, convert_checkpoint.parser())
