"""The messages and preparations of `python -m altub_exp.server` before MLflow's server starts."""

import socket
import sys

import pytest
from mlflow import MlflowClient
from mlflow.server.security_utils import is_allowed_host_header

from altub_exp import server
from altub_exp.errors import UserError
from tests.commandline import run
from tests.stores import place_store


def test_help_has_examples(tmp_path):
    text, _ = run(tmp_path, "--help", module="altub_exp.server")
    assert "python -m altub_exp.server --app-name basic-auth" in text
    assert "sqlite:///mlflow.db" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--backend-store-uri", "http://127.0.0.1:1"], "is a server itself"),
        (["--backend-store-uri", "folder"], "MLflow cannot record at 'folder'"),
        (["--app-name", "basic-auth"], "Set MLFLOW_AUTH_ADMIN_PASSWORD"),
        (
            ["--backend-store-uri", "postgresql://me:pass@localhost/mlflow"],
            "--backend-store-uri holds a user, a password or an option that may be secret",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(tmp_path, arguments, sentence):
    _, said = run(tmp_path, *arguments, module="altub_exp.server", expect=1)
    assert said.startswith("error: ")
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("library", "store", "app", "remedy"),
    [
        ("psycopg", "postgresql://localhost/mlflow", None, r"pip install 'psycopg\[binary\]'"),
        ("flask_wtf", "postgresql://localhost/mlflow", "basic-auth", r"pip install 'mlflow\[auth\]'"),
    ],
)
def test_missing_library_is_named(monkeypatch, library, store, app, remedy):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=remedy):
        server.prepare(store, app, {"MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse battery"})


def test_the_users_environment_wins():
    values = server.prepare("postgresql://localhost/mlflow", None, {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "7"})
    assert values["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] == "7"
    assert values["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] == "50"
    assert values["MLFLOW_BACKEND_STORE_URI"] == "postgresql://localhost/mlflow"


def test_runs_may_call_it_by_the_name_of_its_machine():
    hosts = server.prepare("postgresql://localhost/mlflow", None, {})["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {f"{socket.gethostname()}:*", socket.getfqdn(), "localhost:*", "127.0.0.1"} <= set(hosts)
    assert all(is_allowed_host_header(hosts, name) for name in ("localhost:5000", "127.0.0.1:5000", "[::1]:5000"))
    for name in ("10.evil.com", "192.168.evil.com", "172.16.evil.com", "127.0.0.1.evil.com", "localhost.evil.com:5000"):
        assert not is_allowed_host_header(hosts, name), name
    given = {"MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.example.org"}
    assert given.items() <= server.prepare("postgresql://localhost/mlflow", None, given).items()


def test_a_password_does_not_stand_in_the_command_line():
    assert "postgresql" not in " ".join(server.command("127.0.0.1", 5000))


def test_the_first_page_is_that_of_the_newest_experiment(tmp_path):
    uri = f"sqlite:///{place_store(tmp_path)}"
    assert server.first_page("http://a:1", uri) == "http://a:1/#/experiments?workflowType=machine_learning"
    client = MlflowClient(uri)
    client.create_experiment("older")
    newest = client.create_experiment("newest")
    assert server.first_page("http://a:1", uri) == (
        f"http://a:1/#/experiments/{newest}/runs?workflowType=machine_learning"
    )
