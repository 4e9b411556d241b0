"""Draw the times of precisions and engines: python docs/draw_engines.py engines.json.

The file is that of `python tools/benchmark.py engines --json engines.json`; the chart is
docs/engines.png.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def main() -> None:
    """Draw a group of bars an engine and precision, a bar a network with its range."""
    results = json.loads(Path(sys.argv[1]).read_text())
    rows = {row['network']: row for row in results['rows'] if 'failure' not in row}
    names, engines, batch = results['networks'], results['engines'], results['batch_size']
    figure, axis = plt.subplots(figsize=(10, 4.2), layout='constrained')
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places = np.arange(len(engines)) + (index - (len(names) - 1) / 2) * width
        for place, engine in zip(places, engines, strict=True):
            row = rows.get(f'{name}, {engine}')
            if row is None:
                continue
            times = 1e3 * np.array(row['seconds']) / batch
            middle = np.median(times)
            spread = [[middle - times.min()], [times.max() - middle]]
            label = name if engine == engines[0] else None
            axis.bar(place, middle, width, color=f'C{index}', label=label, yerr=spread, capsize=2)
    axis.set_xticks(range(len(engines)), [engine.replace(' ', '\n') for engine in engines])
    axis.set_ylabel('ms an image')
    axis.set_title(f'From crops to heatmaps, 256x192, batch {batch}, {results["threads"]} threads')
    axis.spines[['top', 'right']].set_visible(False)
    axis.legend()
    figure.savefig(Path(__file__).with_name('engines.png'), dpi=110)


if __name__ == '__main__':
    main()
