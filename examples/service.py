"""Poses over HTTP, without PyTorch: an image in, COCO keypoints out.

    MODEL=hrformer.onnx DETECTOR=onnx:detector.onnx uvicorn service:app --app-dir examples
    curl --data-binary @image.jpg localhost:8000/poses
    curl --data-binary @image.jpg 'localhost:8000/poses?boxes=[[48,20,210,430]]' --globoff

`MODEL` is a file of `hrformer export`. Without `DETECTOR` and without boxes, an image shows one
person from edge to edge. While the network runs, further requests wait; then they fill its batches.
"""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.imaging.images import decode
from hrformer_mmpose.inference import PoseRuntime
from hrformer_mmpose.inference.detectors import make_detector

MAX_BYTES = 20 * 2**20  # of an image
MAX_WAITING = int(os.environ.get('MAX_WAITING', 128))  # requests; more are answered with 503
MAX_TOGETHER = int(os.environ.get('MAX_TOGETHER', 32))  # requests whose persons share batches


async def work(estimator: PoseRuntime, queue: asyncio.Queue, count: dict) -> None:
    """Run the network on all requests that wait, again and again."""
    while True:
        jobs = [await queue.get()]
        while len(jobs) < MAX_TOGETHER and not queue.empty():
            jobs.append(queue.get_nowait())
        images, boxes, futures = zip(*jobs, strict=True)
        try:
            results = await asyncio.to_thread(lambda i, b: [*estimator.stream(i, b)], images, boxes)
        except Exception as error:  # the requests fail, the service goes on
            results = [error] * len(jobs)
        count.update(requests=count['requests'] + len(jobs), runs=count['runs'] + 1)
        for future, result in zip(futures, results, strict=True):
            if not future.done():  # its client is still there
                future.set_result(result)


@asynccontextmanager
async def lifespan(app: FastAPI):
    """Load the network and start the task that runs it; stop it at the end."""
    threads = int(os.environ.get('THREADS', 0)) or None
    estimator = PoseRuntime(os.environ['MODEL'], threads=threads, on_error='skip')
    app.state.boxes = make_detector(os.environ.get('DETECTOR', 'whole-image'))
    app.state.queue = asyncio.Queue(MAX_WAITING)
    app.state.count = dict(requests=0, runs=0)
    task = asyncio.create_task(work(estimator, app.state.queue, app.state.count))
    yield
    task.cancel()


app = FastAPI(title='HRFormer', lifespan=lifespan)


@app.post('/poses')
async def poses(request: Request, boxes: str | None = None) -> dict:
    """Return the poses on the image in the body, in COCO's result format."""
    data, state = bytearray(), request.app.state
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            raise HTTPException(413, f'the image has more than {MAX_BYTES:,} bytes')
    future = asyncio.get_running_loop().create_future()
    try:
        rows = state.boxes if boxes is None else json.loads(boxes)
        image = await asyncio.to_thread(decode, bytes(data), 'upload')
        state.queue.put_nowait((image, rows, future))
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    except (ValueError, RecursionError):
        raise HTTPException(422, 'boxes is no JSON list of [x0, y0, x1, y1]') from None
    except asyncio.QueueFull:
        raise HTTPException(503, 'too many requests wait', {'Retry-After': '1'}) from None
    result = await future
    if isinstance(result, Exception):
        raise HTTPException(500, f'the network failed: {result}')
    if result.problems:
        raise HTTPException(422, result.problems[0].replace(result.name, 'the image'))
    height, width = result.shape
    return dict(width=width, height=height, poses=[pose.to_coco() for pose in result.poses])


@app.get('/health')
async def health(request: Request) -> dict:
    """Return how many requests were answered, in how many runs of the network, and the CPU time."""
    return request.app.state.count | dict(cpu_seconds=time.process_time())
