"""Time HRFormer against MMPose's classes: python tools/benchmark.py [flags]; --help lists them."""

from hrformer_mmpose.cli import benchmark, terminal

if __name__ == '__main__':
    terminal.run(benchmark.run_tool, benchmark.tool_parser())
