"""Time loading and evaluation against MMPose's: tools/benchmark_data.py KIND; --help lists them."""

from hrformer_mmpose.cli import terminal

if __name__ == '__main__':
    from hrformer_mmpose.benchmark import data as benchmark

    terminal.run(benchmark.benchmark, benchmark.parser())
