"""Our chain beside what people run otherwise: the same weights, video, size of input and classes, tracker on.

    python -m benchmarks.pipeline measure --weights yolo11n.pt --video vtest.avi --out out/pipeline.json
    python -m benchmarks.pipeline accuracy --weights yolo11n.pt --video vtest.avi --truth gt.txt --out out/pipeline.json
    python -m benchmarks.pipeline table out/pipeline.json

From the root of the repository, in an environment with `framechain[all]`. The rivals live in an environment of their
own under `.venvs/` (`--venvs FOLDER`), which the first run fills; PyTorch, gigabytes of it, is borrowed from ours.

Every contestant is a process. It loads its models, runs some frames to get warm, and then times the next ones from the
first frame asked for to the last result. Contestants take turns, never two at a time, in several rounds, each round
beginning with another: what else the machine does in a round hits all of them, so the ratios within a round count.
`--only` takes some contestants by name; a results file that exists is added to.
"""
