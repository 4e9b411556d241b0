"""Pre-train, then fine-tune, on generated data: tools/pretrain_demo.py; --help lists flags."""

from hrformer_mmpose.cli import pretrain_demo, terminal

if __name__ == '__main__':
    terminal.run(pretrain_demo.run, pretrain_demo.parser())
