"""Pre-train, then fine-tune, on generated data: tools/pretrain_demo.py; --help lists flags."""

from hrformer_mmpose.engine import cli, pretrain_demo

if __name__ == '__main__':
    cli.run(pretrain_demo.run, pretrain_demo.parser())
