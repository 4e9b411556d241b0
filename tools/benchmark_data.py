"""Time loading and evaluation against MMPose's: tools/benchmark_data.py KIND; --help lists them."""

from hrformer_mmpose.cli import benchmark_data, terminal

if __name__ == '__main__':
    terminal.run(benchmark_data.run, benchmark_data.parser())
