"""A day in the life: four cameras, two of them flaky, for as long as asked; what must not grow is measured.

    python -m benchmarks.soak --minutes 5
    python -m benchmarks.soak --minutes 60 --json soak.json --plot soak.png

`framechain run` is started as a service would start it, over two cameras that are well and two that are killed, frozen,
send garbage, other sizes and other rates, with every stage, rotating outputs, checkpoints, and a peer that is away now
and then. From outside (/proc, /healthz, /metrics) its memory, threads, descriptors and latency are watched; at the end
the frames are counted once more in what it wrote. Exit code 1 if anything grew or is missing.
"""
