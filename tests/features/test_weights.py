"""``python -m altub_exp.data weights`` through the command line, against a hub on 127.0.0.1."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import timm
import torch
from safetensors.torch import save
from torchvision.models import AlexNet

from altub_exp.errors import UserError
from altub_exp.features.backbone import create, licence, print_own_terms
from tests.commandline import TINY, run

FILE = "/timm/resnet18.tv_in1k/resolve/main/model.safetensors"


@pytest.fixture
def hub():
    """A hub that has the weights of r18, and the requests for them."""
    torch.manual_seed(0)
    weights = save(timm.create_model("resnet18.tv_in1k", pretrained=False).state_dict())
    requests = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(send=False)

        def do_GET(self):
            self.answer(send=True)

        def answer(self, send):
            known = self.path == FILE
            if known:
                requests.append(self.command)
            self.send_response(200 if known else 404)
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(weights).hexdigest()}"')
                self.send_header("X-Repo-Commit", 40 * "a")
            self.send_header("Content-Length", str(len(weights) if known else 0))
            self.end_headers()
            if known and send:
                self.wfile.write(weights)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", requests
    server.shutdown()
    server.server_close()


def fetch(cwd, *keys, expect=0, **changes):
    out, err = run(cwd, "weights", *keys, module="altub_exp.data", expect=expect, **changes)
    assert "Traceback" not in err
    return out, err


@pytest.mark.slow
def test_weights_that_were_fetched_beforehand_are_those_that_a_run_without_network_trains_on(tmp_path, hub):
    address, requests = hub
    home = {"HF_HOME": str(tmp_path / "hub")}
    out, _ = fetch(tmp_path, "r18", HF_ENDPOINT=address, **home)
    assert f"r18: resnet18.tv_in1k, 47 MB in {tmp_path}/hub/hub/models--timm--resnet18.tv_in1k" in out
    assert "models--timm--resnet18.tv_in1k, licence bsd-3-clause\n" in out
    assert "DINOv3" not in out
    assert f"Compute nodes without network find them with HF_HOME={tmp_path}/hub HF_HUB_OFFLINE=1" in out
    assert requests.count("GET") == 1
    out, _ = fetch(tmp_path, "r18", HF_ENDPOINT=address, **home)
    assert "r18: resnet18.tv_in1k, 47 MB" in out
    assert requests.count("GET") == 1
    arguments = (*TINY, "backbone.weights=pretrained", "altub=none")
    _, err = run(tmp_path, *arguments, HF_ENDPOINT="http://hub.invalid", HF_HUB_OFFLINE="1", **home)
    assert "epoch 6/6" in err


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path):
    out, err = fetch(tmp_path, "r18", expect=1, HF_ENDPOINT="http://hub.invalid", HF_HOME=str(tmp_path / "hub"))
    assert out == ""
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert error.startswith(
        "error: The pretrained weights of resnet18.tv_in1k could not be fetched from the Hugging Face"
    )
    assert err.count("\n") == 1


def test_only_weights_with_terms_of_their_own_print_them_once_and_only_if_they_are_fetched(monkeypatch, capsys):
    def unreachable(*arguments, **options):
        raise OSError("no network")

    print_own_terms.cache_clear()
    for name in ("vit_small_patch16_dinov3.lvd1689m", "vit_small_patch16_dinov3.lvd1689m", "resnet18.tv_in1k"):
        monkeypatch.setattr("timm.create_model", lambda *arguments, **options: torch.nn.Identity())
        create(name, fetch=False, seed=0)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("timm.create_model", unreachable)
        with pytest.raises(UserError, match="could not be fetched"):
            create(name, fetch=True, seed=0)
        printed = capsys.readouterr().err
        assert ("Meta's DINOv3 License" in printed) == (
            name != "resnet18.tv_in1k" and print_own_terms.cache_info().hits == 0
        )


@pytest.mark.slow
def test_the_licence_of_dinov3_is_printed_before_its_weights_are_fetched(tmp_path):
    unreachable = {"HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(tmp_path / "hub")}
    _, err = fetch(tmp_path, "dinov3_s", expect=1, **unreachable)
    terms, error = err.splitlines()
    assert terms == (
        "The weights of vit_small_patch16_dinov3.lvd1689m are under Meta's DINOv3 License "
        "(https://ai.meta.com/resources/models-and-libraries/dinov3-license), which has terms of its own for use and "
        "redistribution"
    )
    assert error.startswith("error: The pretrained weights of vit_small_patch16_dinov3.lvd1689m could not be fetched")


@pytest.mark.parametrize(
    ("key", "name"), [("dinov2_s", "apache-2.0"), ("dinov3_b", "dinov3-license"), ("r18", "bsd-3-clause")]
)
def test_licences_of_weights_are_those_of_timm(compose, key, name):
    assert licence(compose(f"backbone={key}", "dataset.category=any").backbone.name) == name
    assert licence("no_such_model") == "unknown"


def test_an_unknown_backbone_is_one_sentence_before_anything_is_fetched(tmp_path):
    _, err = fetch(tmp_path, "wrn50", "r81", expect=1)
    assert err.startswith(
        "error: There is no backbone 'r81' (did you mean r18?): choose one of alexnet, b5, cait, deit, "
    )


def test_alexnets_weights_are_torchvisions_and_lie_in_its_cache(tmp_path):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    nowhere = {"https_proxy": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    _, err = fetch(tmp_path, "alexnet", expect=1, **nowhere)
    assert err.startswith(
        "error: The pretrained weights of alexnet.tv_in1k could not be fetched from download.pytorch.org"
    )
    state = AlexNet().features.state_dict(prefix="features.") | {"classifier.1.weight": torch.zeros(2)}
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")
    out, _ = fetch(tmp_path, "alexnet", **nowhere)
    assert f"alexnet: alexnet.tv_in1k, 10 MB in {folder}" in out
