"""Convert a checkpoint: python tools/convert_checkpoint.py SRC DST [--to mmpose|official]"""

from hrformer_mmpose.engine import cli, convert

if __name__ == '__main__':
    cli.run(convert.convert, convert.parser())
