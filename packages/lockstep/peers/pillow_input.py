"""What Pillow, the usual loader of PyTorch's image folders, does with the same pictures: decode, crop a random box, resize to a square,
as uint8. One process per core, as a DataLoader's workers. Prints one JSON object.

    python3 pillow_input.py FOLDER --size 224 --workers 2 --rounds 3
"""
import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import time

from PIL import Image


def prepare(job):
    data, seed, size = job
    generator = random.Random(seed)
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        image = image.convert("RGB")
        # About the mean of the boxes that training draws.
        side = generator.uniform(0.4, 1.0)
        w, h = max(1, int(width * side)), max(1, int(height * side))
        left, top = generator.randint(0, width - w), generator.randint(0, height - h)
        image = image.resize((size, size), Image.BILINEAR, box=(left, top, left + w, top + h))
        if generator.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        return len(image.tobytes())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    names = sorted(os.listdir(args.folder))
    data = [open(os.path.join(args.folder, name), "rb").read() for name in names]
    jobs = [(one, i, args.size) for i, one in enumerate(data)]
    rates, began = [], time.monotonic()
    with multiprocessing.Pool(args.workers) as pool:
        pool.map(prepare, jobs[: 8 * args.workers], chunksize=4)
        for _ in range(args.rounds):
            begin = time.perf_counter()
            pool.map(prepare, jobs, chunksize=4)
            rates.append(len(jobs) / (time.perf_counter() - begin))
        pool.close()
        pool.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    images = len(jobs) * args.rounds
    print(json.dumps({"images_per_second": sorted(rates)[len(rates) // 2], "cpu_ms": 1000 * (usage.ru_utime + usage.ru_stime) / images}))


main()
