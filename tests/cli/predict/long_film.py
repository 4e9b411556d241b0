"""Predict a long video with a network that needs no time: `python -m ... FOLDER FRAMES`.

Prints the peak of memory after a tenth of the frames and at the end, in MiB.
"""

import resource
import sys
import threading
import time
from pathlib import Path

from hrformer_mmpose.cli import predict
from hrformer_mmpose.inference.estimator import Estimator
from tests.inference.helpers import Brightest

from .test_predict_motion import Detector


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: str, frames: int) -> None:
    video, raw = Path(folder, 'clip.avi'), Path(folder, 'out/videos/.part-clip.jsonl')
    predict.open_estimator = lambda options: Estimator(Brightest(), 8, 0.0, 'skip')
    predict.detectors.make_detector = lambda *arguments: Detector()
    network = Path(folder, 'm.onnx')
    network.touch()
    early = []

    def watch():
        while not early:
            time.sleep(0.2)
            if raw.exists() and raw.read_bytes().count(b'\n') > frames / 10:
                early.append(peak())

    threading.Thread(target=watch, daemon=True).start()
    flags = [str(video), '--model', str(network), '--boxes', 'hog', '--track', '--smooth', 'savgol']
    options = predict.parser().parse_args([*flags, '--out', str(Path(folder, 'out'))])
    predict.run(options)
    print('peak', *early, peak())


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
