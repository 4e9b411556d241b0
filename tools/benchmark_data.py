"""Time the data path beside those of MMPose and timm: tools/benchmark_data.py KIND [--help]."""

from hrformer_mmpose.cli import benchmark_data, terminal

if __name__ == '__main__':
    terminal.run(benchmark_data.run, benchmark_data.parser())
