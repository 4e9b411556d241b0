"""Time loading and evaluation against MMPose's: tools/benchmark_data.py KIND; --help lists them."""

from hrformer_mmpose import terminal

if __name__ == '__main__':
    from hrformer_mmpose.datasets import benchmark

    terminal.run(benchmark.benchmark, benchmark.parser())
