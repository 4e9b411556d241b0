"""Load test of `service.py`: requests per second, latencies and CPU time by number of clients.

    python examples/load_test.py image.jpg --url http://127.0.0.1:8000 --clients 1 4 16

Each client sends the image again as soon as its answer is there. Needs httpx. Prints a table and
fails if a request is not answered with poses. The CPU time hardly depends on what else runs.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

import httpx


async def client(http: httpx.AsyncClient, data: bytes, end: float, latencies: list) -> None:
    """Send requests until `end`; append their latencies in seconds."""
    while (begun := time.perf_counter()) < end:
        answer = await http.post('/poses', content=data)
        answer.raise_for_status()
        assert answer.json()['poses'], answer.text
        latencies.append(time.perf_counter() - begun)


async def measure(url: str, data: bytes, clients: int, seconds: float) -> tuple:
    """Return requests/s, median and 95th percentile in ms, requests per run, CPU ms a request."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:
        (await http.post('/poses', content=data)).raise_for_status()  # warm up
        before = (await http.get('/health')).json()
        latencies: list[float] = []
        begun = time.perf_counter()
        end = begun + seconds
        await asyncio.gather(*(client(http, data, end, latencies) for _ in range(clients)))
        duration = time.perf_counter() - begun
        after = (await http.get('/health')).json()
    ordered = sorted(1000 * latency for latency in latencies)
    requests, runs, cpu = (after[key] - before[key] for key in ('requests', 'runs', 'cpu_seconds'))
    median, high = (ordered[int(len(ordered) * part)] for part in (0.5, 0.95))
    return len(ordered) / duration, median, high, requests / runs, 1000 * cpu / requests


def main() -> None:
    """Measure each number of clients."""
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument('image', type=Path, help='image to send')
    flags.add_argument('--url', default='http://127.0.0.1:8000')
    flags.add_argument('--clients', type=int, nargs='+', default=[1, 4, 16, 32])
    flags.add_argument('--seconds', type=float, default=10, help='for each number of clients')
    args = flags.parse_args()
    data = args.image.read_bytes()
    print('| clients | requests/s | median ms | 95 % ms | requests per run | CPU ms per request |')
    print('|---|---|---|---|---|---|')
    for clients in args.clients:
        try:
            rate, *rest = asyncio.run(measure(args.url, data, clients, args.seconds))
        except httpx.HTTPError as error:
            sys.exit(f'error: {args.url}: {str(error) or type(error).__name__}')
        cells = '{:.0f} | {:.0f} | {:.1f} | {:.0f}'.format(*rest)
        print(f'| {clients} | {rate:.1f} | {cells} |', flush=True)


if __name__ == '__main__':
    main()
