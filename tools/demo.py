"""Draw people, train HRFormer-T on them, test it, show it: python tools/demo.py; --help."""

from hrformer_mmpose.cli import demo, terminal

if __name__ == '__main__':
    terminal.run(demo.run, demo.parser())
