"""Time loading and evaluation against MMPose's: tools/benchmark_data.py KIND; --help lists them."""

from hrformer_mmpose.engine import cli

if __name__ == '__main__':
    from hrformer_mmpose.datasets import benchmark

    cli.run(benchmark.benchmark, benchmark.parser())
