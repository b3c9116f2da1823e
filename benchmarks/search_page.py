"""Time of an answer of the search page beside the model's own, for one user and for many.

    python benchmarks/search_page.py [--rows 100000] [--dimensions 256] [--searches 60] [--users 30]

A store of random unit vectors and MobileNetV2 with random weights at 128 pixels; both cost what real ones do. Each
search uploads another JPEG of 640 x 480, and its answer holds 12 results. ``beyond`` is the time of an answer less that
of the model's forward pass on the same picture in this process, taken in turn. Processor time says the same where other
programs run; the process that decodes is not in it.
"""

import argparse
import io
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import uvicorn
from mmengine.config import Config
from PIL import Image

from mmdml.apis import ImageEmbeddingInferencer, get_model
from mmdml.index import Item, LocalStore
from mmdml.utils.machine import describe_machine
from mmdml.web import Gallery, create_app

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='mmpretrain.Resize', scale=(128, 128)),
    dict(type='mmpretrain.PackInputs'),
]


def embedder(dimensions: int) -> ImageEmbeddingInferencer:
    config = Config.fromfile(ROOT / 'configs/_base_/models/mobilenet-v2.py')
    config.merge_from_dict({'model.neck.embed_dim': dimensions, 'model.head.loss': dict(type='ContrastiveLoss')})
    return ImageEmbeddingInferencer(get_model(config), pipeline=PIPELINE, device='cpu', progress=False, workers=1)


def make_store(folder: Path, rows: int, embed: ImageEmbeddingInferencer) -> LocalStore:
    random = np.random.default_rng(0)
    with LocalStore.open(folder, embed.dimensions, embed.model_hash, write=True) as store:
        for start in range(0, rows, 20_000):
            vectors = random.normal(size=(min(20_000, rows - start), embed.dimensions)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            names = range(start, start + len(vectors))
            store.add(vectors, [Item(f'/gallery/{number}.jpg', f'class {number % 100}') for number in names])
    return LocalStore.open(folder)


def picture(number: int) -> tuple[np.ndarray, bytes]:
    random = np.random.default_rng(number)
    small = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    file = io.BytesIO()
    image = small.resize((640, 480), Image.Resampling.BICUBIC)
    image.save(file, 'JPEG', quality=90)
    return np.asarray(image)[:, :, ::-1], file.getvalue()


def search(port: int, address: str, data: bytes) -> float:
    """Return the seconds until the answer is there."""
    head = b'--X\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'
    start = time.perf_counter()
    connection = HTTPConnection('127.0.0.1', port, timeout=120)
    headers = {'Content-Type': 'multipart/form-data; boundary=X'}
    connection.request('POST', address, head + data + b'\r\n--X--\r\n', headers)
    answer = connection.getresponse()
    answer.read()
    if address == '/queries':
        connection.request('GET', answer.headers['location'], headers={'HX-Request': 'true'})
        answer = connection.getresponse()
        assert b'class="card"' in answer.read()
    seconds = time.perf_counter() - start
    assert answer.status == 200, answer.status
    connection.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, default=100_000)
    parser.add_argument('--dimensions', type=int, default=256)
    parser.add_argument('--searches', type=int, default=60)
    parser.add_argument('--users', type=int, default=30)
    options = parser.parse_args()
    print(describe_machine())
    embed = embedder(options.dimensions)
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery('gallery', make_store(Path(folder) / 'store', options.rows, embed), embed)
        server = uvicorn.Server(
            uvicorn.Config(create_app([gallery], Path(folder) / 'marks.db'), port=0, log_level='error')
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            # Pictures of their own: the server keeps the embeddings of pictures that it has seen.
            for first, address in enumerate(('/api/stores/gallery/search', '/queries')):
                report(port, address, embed, options, 1_000_000 * first)
        finally:
            server.should_exit = True
            thread.join()


def report(port: int, address: str, embed: ImageEmbeddingInferencer, options: argparse.Namespace, first: int) -> None:
    pictures = [picture(first + number) for number in range(options.searches + 3)]
    answers, models, processor = [], [], []
    for number, (pixels, data) in enumerate(pictures):
        cpu = time.process_time()
        seconds = search(port, address, data)
        start, cpu = time.perf_counter(), time.process_time() - cpu
        before = time.process_time()
        embed(pixels)
        cpu -= time.process_time() - before
        if number >= 3:
            answers.append(seconds)
            models.append(time.perf_counter() - start)
            processor.append(cpu)
    beyond = statistics.median(answer - model for answer, model in zip(answers, models, strict=True))
    answer, model = statistics.median(answers), statistics.median(models)
    what = f'{address}, {options.rows:,} x {options.dimensions}'
    print(f'{what}, one user: median {1e3 * answer:.0f} ms, model {1e3 * model:.0f} ms, beyond {1e3 * beyond:.0f} ms')
    print(
        f'  processor time beyond the model, of the server and this client: {1e3 * statistics.median(processor):.0f} ms'
    )
    fresh = [picture(first + 10_000 + number)[1] for number in range(4 * options.users)]
    start = time.perf_counter()
    with ThreadPoolExecutor(options.users) as pool:
        times = list(pool.map(lambda data: search(port, address, data), fresh))
    rate = len(fresh) / (time.perf_counter() - start)
    median = 1000 * statistics.median(times)
    print(f'  {options.users} users at once: median {median:.0f} ms, {rate:.1f} answers a second, no error', flush=True)


if __name__ == '__main__':
    main()
