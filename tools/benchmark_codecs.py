"""Time the codecs against MMPose's: python tools/benchmark_codecs.py [flags]; --help lists them."""

from hrformer_mmpose.cli import terminal

if __name__ == '__main__':
    from hrformer_mmpose.benchmark import codecs as benchmark

    terminal.run(benchmark.benchmark, benchmark.parser())
