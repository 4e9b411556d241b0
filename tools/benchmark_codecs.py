"""Time the codecs against MMPose's: python tools/benchmark_codecs.py [flags]; --help lists them."""

from hrformer_mmpose.engine import cli

if __name__ == '__main__':
    from hrformer_mmpose.codecs import benchmark

    cli.run(benchmark.benchmark, benchmark.parser())
