"""Ourselves and other packages' trackers behind one interface: how fast, and how right.

    python -m benchmarks.trackers venvs                                      # make what the rivals need; pip, some GB
    python -m benchmarks.trackers speed --mot MOT17/ --out speed.json
    python -m benchmarks.trackers accuracy --mot MOT17/ --out accuracy.json
    python -m benchmarks.trackers accuracy --data DATA --embedder osnet.onnx --out features.json
    python -m benchmarks.trackers table speed.json accuracy.json features.json

From the root of the repository, in an environment with `framechain[eval]`. `--only framechain,norfair` runs some
packages, `--only boxmot/ocsort` one tracker; a results file that exists is added to, so a run that was cut off goes on
where it stopped (`--again` measures anew). Other packages live each in a virtual environment of their own under
`.venvs/` (`--venvs FOLDER`), which the first run fills: Roboflow's package has the import name `trackers`, like ours.
Only PyTorch, gigabytes of it, is borrowed from the environment of whoever calls, if it is there.

What is the same for all: detections, their order, no image, the parameters that each package has by itself.
Camera-motion compensation from images is therefore off where a tracker has it. What a package wants detections
wrapped in is made before its clock starts. One thread, one process a tracker, nothing beside it.

Add a package: a row in `rivals.py`, and a file in `adapters/`.
"""
