"""Time the codecs against MMPose's: python tools/benchmark_codecs.py [flags]; --help lists them."""

from hrformer_mmpose import terminal

if __name__ == '__main__':
    from hrformer_mmpose.codecs import benchmark

    terminal.run(benchmark.benchmark, benchmark.parser())
