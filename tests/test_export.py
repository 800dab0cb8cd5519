"""A run's detector outside of the program: from Python, as ONNX, as a program of PyTorch, and served by MLflow."""

import base64
import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import altub_exp
from altub_exp.detector import export
from altub_exp.errors import UserError
from altub_exp.export import main
from altub_exp.predict import main as predict
from altub_exp.runs.folder import RunFolder
from tests.commandline import ROOT, TINY, environment, folders, run
from tests.test_predict import CFLOW

TEST = "data/synthetic/fabric/test"
PAGE = (ROOT / "docs" / "export.md").read_text()
SCRIPT, PROGRAM = (
    next(text for text in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if word in text)
    for word in ("import onnxruntime", "torch.export.load")
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Finished runs as {model: folder}, and their common folder, where the images are twice the input's size."""
    cwd = tmp_path_factory.mktemp("trained")
    run(cwd, *TINY)
    run(cwd, *CFLOW)
    return cwd, {folder.parents[1].name.split("-")[0]: folder for folder in folders(cwd)}


@pytest.fixture
def exported(trained, monkeypatch, capsys):
    """Run the command in this process, and return (stdout, stderr)."""
    monkeypatch.chdir(trained[0])

    def run_it(*arguments, expect=0):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == expect, capsys.readouterr().err
        return capsys.readouterr()

    return run_it


def predicted(trained, model, folder):
    """Return {file: (score, map)} by the program."""
    arguments = [trained[1][model], TEST, "--output", folder, "--maps", "tiff", "--no-overlays", "--device", "cpu"]
    assert predict([str(argument) for argument in arguments]) == 0
    with (folder / "scores.csv").open(newline="") as file:
        return {row["file"]: (float(row["score"]), np.asarray(Image.open(row["map"]))) for row in csv.DictReader(file)}


def alone(script, *arguments, cwd):
    """Run a script in a process that cannot import altub-exp, and return its output."""
    guard = "import sys; sys.modules['altub_exp'] = sys.modules['timm'] = sys.modules['FrEIA'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", guard + script, *map(str, arguments)],
        cwd=cwd,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def spread(images):
    maps = np.stack([anomaly_map for _, anomaly_map in images.values()])
    return float(maps.max() - maps.min())


@pytest.fixture(scope="module")
def onnx_files(trained):
    """The ONNX file of each model."""
    files = {model: trained[0] / "files" / f"{model}.onnx" for model in trained[1]}
    for model, file in files.items():
        arguments = (str(trained[1][model]), "--format", "onnx", "--output", str(file))
        stdout, stderr = run(trained[0], *arguments, module="altub_exp.export")
        assert "checked on 6 images of the run" in stdout
        assert stderr == ""
    assert sorted(files.values()) == sorted((trained[0] / "files").iterdir())
    return files


@pytest.mark.parametrize("model", ["fastflow", "cflow"])
def test_onnxruntime_alone_gives_the_numbers_of_predict(trained, onnx_files, tmp_path, model, monkeypatch):
    monkeypatch.chdir(trained[0])
    wanted = predicted(trained, model, tmp_path / "own")
    script = (
        f"{SCRIPT}\n    np.save(path.replace('/', '-') + '.npy', anomaly_map[0])\nassert 'torch' not in sys.modules"
    )
    maps = tmp_path / "maps"
    maps.mkdir()
    files = [trained[0] / file for file in wanted]
    lines = alone(script, onnx_files[model], *files, cwd=maps).splitlines()
    assert len(lines) == len(wanted) == 10
    allowed = 1e-4 * spread(wanted)
    for line, file in zip(lines, files, strict=True):
        score, largest = map(float, line.split()[1:])
        own_score, own_map = wanted[str(file.relative_to(trained[0]))]
        assert score == pytest.approx(own_score, abs=allowed, rel=0)
        assert score == pytest.approx(largest, rel=1e-6)
        np.testing.assert_allclose(np.load(maps / f"{str(file).replace('/', '-')}.npy"), own_map, atol=allowed, rtol=0)


def test_metadata_name_the_run_the_preparation_and_no_folder_of_this_machine(trained, onnx_files):
    folder = trained[1]["fastflow"]
    session = onnxruntime.InferenceSession(onnx_files["fastflow"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["run_uid"] == RunFolder(folder).run_uid()
    assert (facts["size"], facts["interpolation"], facts["bit_depth"]) == ("32", "bilinear", "null")
    assert json.loads(facts["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(facts["thresholds"]).keys() == {"quantile=0.95", "quantile=0.99", "f1"}
    low, high = json.loads(facts["limits"])
    assert low < high
    rgb = np.array(Image.open(sorted((trained[0] / TEST).glob("*/*.png"))[0]).convert("RGB"))
    resized = eval(facts["resize"], {"torch": torch, "rgb": rgb})[0]
    assert torch.equal(resized, altub_exp.Detector.load(folder, "cpu").placed(rgb).pixels)
    assert [(entry.name, entry.shape) for entry in [*session.get_inputs(), *session.get_outputs()]] == [
        ("images", ["batch", 3, 32, 32]),
        ("map", ["batch", 32, 32]),
        ("score", ["batch"]),
    ]
    content = onnx_files["fastflow"].read_bytes()
    assert str(ROOT).encode() not in content
    assert str(trained[0]).encode() not in content


def test_pytorch_alone_gives_the_numbers_of_predict(trained, exported, tmp_path):
    exported(trained[1]["cflow"], "--format", "torch", "--output", tmp_path / "detector.pt2")
    wanted = predicted(trained, "cflow", tmp_path / "own")
    detector = altub_exp.Detector.load(trained[1]["cflow"], "cpu")
    np.save(tmp_path / "pixels.npy", np.stack([detector.placed(trained[0] / file).pixels.numpy() for file in wanted]))
    more = "import numpy as np\noutputs = program(torch.from_numpy(np.load('pixels.npy')))\n"
    more += "np.savez('outputs.npz', map=outputs['map'].numpy(), score=outputs['score'].numpy())"
    alone(PROGRAM + more, cwd=tmp_path)
    outputs, allowed = np.load(tmp_path / "outputs.npz"), 1e-4 * spread(wanted)
    for score, anomaly_map, own in zip(outputs["score"], outputs["map"], wanted.values(), strict=True):
        assert score == pytest.approx(own[0], abs=allowed, rel=0)
        np.testing.assert_allclose(anomaly_map, own[1], atol=allowed, rtol=0)
    assert str(ROOT).encode() not in (tmp_path / "detector.pt2").read_bytes()


def test_images_of_another_place_are_not_needed(trained, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stdout, _ = exported(trained[1]["fastflow"], "--format", "torch")
    assert stdout.startswith("detector.pt2: ")
    assert "drawn images" in stdout
    assert [path.name for path in tmp_path.iterdir()] == ["detector.pt2"]


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_file_with_other_numbers_is_refused_and_an_earlier_one_stays(
    trained, exported, tmp_path, monkeypatch, format
):
    output = tmp_path / "one"
    output.write_text("earlier")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    _, stderr = exported(trained[1]["fastflow"], "--format", format, "--output", output, "--overwrite", expect=1)
    (line,) = stderr.splitlines()
    assert "would give other numbers than the run" in line
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert output.read_text() == "earlier"


def test_wrong_use_is_one_sentence(trained, exported, tmp_path, monkeypatch):
    folder = trained[1]["fastflow"]

    def refused(*arguments):
        (line,) = exported(*arguments, expect=1).err.splitlines()
        return line

    (tmp_path / "there").write_text("")
    assert "there exists: give another file" in refused(folder, "--format", "onnx", "--output", tmp_path / "there")
    assert "leave --output out" in refused(folder, "--format", "mlflow", "--output", tmp_path / "one")
    assert "is not a run" in refused(tmp_path, "--format", "torch", "--output", tmp_path / "one")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "checkpoint.pt").write_bytes(b"torn")
    assert "checkpoint.pt is damaged" in refused(copy, "--format", "torch", "--output", tmp_path / "one")
    RunFolder(copy).write_status(state="failed")
    assert "is failed, not finished" in refused(copy, "--format", "torch", "--output", tmp_path / "one")
    found = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name)
    )
    assert refused(folder, "--format", "onnx", "--output", tmp_path / "one") == (
        "error: --format onnx needs onnx and onnxruntime and onnxscript: pip install 'altub-exp[export]'."
    )
    assert not (tmp_path / "one").exists()


def test_a_run_without_a_record_cannot_be_added_to_mlflow(trained, exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained[1]["fastflow"], copy)
    (copy / "record.json").unlink()
    _, stderr = exported(copy, "--format", "mlflow", expect=1)
    assert "has no record for MLflow" in stderr


@pytest.fixture(scope="module")
def logged(trained):
    """URIs of the store and of the run's model in it."""
    stdout, _ = run(trained[0], str(trained[1]["fastflow"]), "--format", "mlflow", module="altub_exp.export")
    found = re.fullmatch(
        r"MLFLOW_TRACKING_URI=(\S+) mlflow models serve .* --model-uri (models:/\S+)", stdout.splitlines()[0]
    )
    return found.groups()


def test_mlflow_loads_the_model_of_the_run_and_gives_the_numbers_of_predict(trained, logged, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd
    from mlflow.exceptions import MlflowException

    monkeypatch.chdir(trained[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged[0])
    wanted = predicted(trained, "fastflow", tmp_path)
    model = mlflow.pyfunc.load_model(logged[1])
    table = pd.DataFrame({"image": [(trained[0] / file).read_bytes() for file in wanted]})
    rows = model.predict(table, params={"maps": True})
    allowed = 1e-4 * spread(wanted)
    for row, own in zip(rows, wanted.values(), strict=True):
        assert row["score"] == pytest.approx(own[0], abs=allowed, rel=0)
        np.testing.assert_allclose(row["map"], own[1], atol=allowed, rtol=0)
    assert [row.keys() for row in model.predict(table[:1])] == [{"score"}]
    with pytest.raises(MlflowException, match=r"Image 1 cannot be read as an image \(damaged or truncated\)"):
        model.predict(pd.DataFrame({"image": [b"no image"]}))
    of_run = mlflow.MlflowClient(logged[0]).get_run(model.metadata.run_id or run_of(logged))
    assert of_run.data.tags["run_uid"] == RunFolder(trained[1]["fastflow"]).run_uid()
    assert of_run.info.status == "FINISHED"


def run_of(logged):
    """Return the id of the run that a model belongs to."""
    import mlflow

    return mlflow.MlflowClient(logged[0]).get_logged_model(logged[1].removeprefix("models:/")).source_run_id


@pytest.mark.server
def test_mlflow_serves_the_model(trained, logged, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--env-manager", "local", "--model-uri", logged[1], "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", *options],
            cwd=tmp_path,
            env=environment(MLFLOW_TRACKING_URI=logged[0], PYTHONPATH=""),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "server.log")
        file = sorted((trained[0] / TEST).glob("*/*.png"))[3]
        status, answer = ask(port, file.read_bytes())
        own = altub_exp.Detector.load(trained[1]["fastflow"], "cpu").score(file)
        assert status == 200
        assert json.loads(answer)["predictions"][0]["score"] == pytest.approx(own.scores[0], abs=1e-5)
        status, answer = ask(port, b"no image")
        assert status == 400
        assert "Image 1 cannot be read as an image" in answer
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(address, server, log):
    deadline = time.monotonic() + 180
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            return urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)


def ask(port, content):
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(content).decode()}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_python_scores_files_pictures_and_arrays_as_predict_does(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained[0])
    wanted = predicted(trained, "fastflow", tmp_path)
    detector = altub_exp.Detector.load(str(trained[1]["fastflow"]), "cpu")
    files = [trained[0] / file for file in wanted]
    result = detector.score(files)
    assert result.scores.tolist() == [score for score, _ in wanted.values()]
    np.testing.assert_array_equal(result.maps, np.stack([own for _, own in wanted.values()]))
    file = files[0]
    of_one = {
        "name": str(file),
        "picture": Image.open(file),
        "array": np.asarray(Image.open(file).convert("RGB")),
        "list": [file],
    }
    for kind, image in of_one.items():
        alone = detector.score(image)
        assert alone.maps.shape == (1, 32, 32), kind
        assert alone.scores[0] == pytest.approx(result.scores[0], rel=1e-6), kind
    grey = np.asarray(Image.open(file).convert("L"))
    repeated = detector.score([grey, np.dstack([grey] * 3)])
    assert repeated.scores[0] == repeated.scores[1] != result.scores[0]


def test_wrong_images_are_one_sentence_in_python(trained, tmp_path):
    detector = altub_exp.Detector.load(trained[1]["fastflow"], "cpu")
    (tmp_path / "a.png").write_bytes(b"no image")
    for image, sentence in (
        ([], "There is no image to score"),
        (tmp_path / "a.png", r"a\.png cannot be read as an image \(damaged or truncated\)"),
        (tmp_path / "none.png", r"none\.png cannot be read as an image \(no such file or directory\)"),
        (np.zeros((8, 8, 3)), r"shape \(8, 8, 3\) and type float64 is no image: give uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\) and type uint8 is no image"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"shape \(2, 8, 8, 3\)"),
        (np.zeros((0, 8), np.uint8), r"shape \(0, 8\)"),
        (np.zeros(8, np.uint8), r"shape \(8,\)"),
        ([Image.new("RGB", (8, 8)), Image.fromarray(np.full((8, 8), 300, np.uint16))], "Image 2 cannot be read"),
    ):
        with pytest.raises(UserError, match=sentence):
            detector.score(image)
    with pytest.raises(UserError, match="device=gpu is not known: choose one of auto, cpu, cuda"):
        altub_exp.Detector.load(trained[1]["fastflow"], "gpu")


def test_the_package_imports_pytorch_only_for_a_detector():
    script = (
        "import sys, altub_exp; assert 'torch' not in sys.modules; altub_exp.Detector; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        altub_exp.Detektor  # noqa: B018
