"""Time the codecs against MMPose's: python tools/benchmark_codecs.py [flags]; --help lists them."""

from hrformer_mmpose.cli import benchmark_codecs, terminal

if __name__ == '__main__':
    terminal.run(benchmark_codecs.run, benchmark_codecs.parser())
