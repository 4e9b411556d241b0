"""Draw people, train HRFormer-T on them, test it, show it: python tools/demo.py; --help."""

from hrformer_mmpose.engine import cli, demo

if __name__ == '__main__':
    cli.run(demo.run, demo.parser())
