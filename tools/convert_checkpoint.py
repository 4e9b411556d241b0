"""Convert a checkpoint: python tools/convert_checkpoint.py SRC DST [--to mmpose|official]"""

from hrformer_mmpose.cli import convert_checkpoint as convert
from hrformer_mmpose.cli import terminal

if __name__ == '__main__':
    terminal.run(convert.convert, convert.parser())
