"""Convert a checkpoint: python tools/convert_checkpoint.py SRC DST [--to mmpose|official]"""

from hrformer_mmpose import terminal
from hrformer_mmpose.engine import convert

if __name__ == '__main__':
    terminal.run(convert.convert, convert.parser())
