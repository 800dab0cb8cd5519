"""The configuration: the contract's defaults, the paper's values, and the errors."""

import pytest
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from altub_exp.config.check import check
from altub_exp.config.compose import backbone_label, load_config
from altub_exp.config.messages import keys
from altub_exp.config.schema import LATER, FeatureNorm
from altub_exp.detector.assembly import alternation, build_density, build_learner
from altub_exp.detector.families import check_parts
from altub_exp.errors import UserError
from altub_exp.runs.identity import run_path


def test_defaults_are_the_contracts(compose):
    config = compose("dataset.category=bottle")
    assert (config.model.name, config.backbone.key, config.dataset.name, config.altub.name) == (
        "fastflow",
        "r18",
        "mvtec",
        "alternating",
    )
    assert (config.train.epochs, config.train.batch_size, config.train.lr) == (300, 32, 1e-3)
    assert config.train.weight_decay == config.altub.psi_weight_decay == 1e-5
    assert (config.eval.first_epoch, config.eval.last_epoch, config.eval.every, config.eval.ks_every) == (
        100,
        300,
        1,
        10,
    )
    assert (config.altub.freezing_interval, config.altub.max_lr, config.altub.clip_value) == (5, 0.05, 100)
    assert (config.seed, config.tracking.uri, config.tracking.experiment) == (25, "sqlite:///mlflow.db", "altub")
    assert config.dataset.root == "data/mvtec"
    assert len(config.dataset.categories) == 15


@pytest.mark.parametrize(
    ("backbone", "size", "steps", "only3x3", "ratio", "norm"),
    [
        ("r18", 256, 8, True, 1.0, FeatureNorm.trainable),
        ("wrn50", 256, 8, False, 1.0, FeatureNorm.trainable),
        ("deit", 384, 20, False, 0.16, FeatureNorm.pretrained),
        ("cait", 448, 20, False, 0.16, FeatureNorm.pretrained),
        ("dinov2_s", 518, 20, False, 0.16, FeatureNorm.pretrained),
        ("dinov2_b", 518, 20, False, 0.16, FeatureNorm.pretrained),
        ("dinov3_s", 512, 20, False, 0.16, FeatureNorm.pretrained),
        ("dinov3_b", 512, 20, False, 0.16, FeatureNorm.pretrained),
        ("mobilenetv2", 256, 8, True, 1.0, FeatureNorm.trainable),
        ("lite0", 256, 8, True, 1.0, FeatureNorm.trainable),
        ("lite2", 256, 8, True, 1.0, FeatureNorm.trainable),
        ("alexnet", 448, 8, True, 1.0, FeatureNorm.trainable),
        ("b5", 768, 8, True, 1.0, FeatureNorm.trainable),
    ],
)
def test_fastflow_takes_its_row_of_the_table_from_the_backbone(compose, backbone, size, steps, only3x3, ratio, norm):
    config = compose(f"backbone={backbone}", "dataset.category=bottle")
    model = config.model
    assert (config.dataset.image_size, model.steps, model.conv3x3_only, model.hidden_ratio, model.feature_norm) == (
        size,
        steps,
        only3x3,
        ratio,
        norm,
    )
    assert (model.affine_clamping, model.output_norm) == (2.0, "none")
    check(config)


def test_protocol_of_cflow(compose):
    """CFLOW-AD's values of the method, section 3."""
    config = compose("model=cflow", "backbone=wrn50_tv", "dataset.category=bottle")
    check(config)
    model, train = config.model, config.train
    assert (model.steps, model.condition_channels, model.affine_clamping, model.permute_soft) == (8, 128, 1.9, True)
    assert (model.fibre_batch, model.optimizers, model.score_reference) == (256, "joint", "test")
    assert (train.epochs, train.cycle, train.warmup_epochs, train.batch_size) == (200, 8, 16, 32)
    assert (train.lr, train.final_lr, train.weight_decay, train.drop_last) == (2e-4, 1e-3, 0.0, True)
    assert (config.eval.first_epoch, config.eval.last_epoch, config.eval.every) == (100, 200, 8)
    assert (config.altub.idle_epochs, config.altub.clip, config.altub.max_lr) == (16, "none", 0.05)
    assert (config.dataset.interpolation, config.dataset.rotation) == ("lanczos", 5.0)


def test_protocol_of_csflow(compose):
    """CS-Flow's values of the authors' config.py, train.py and utils.py."""
    config = compose("model=csflow", "dataset.category=bottle")
    check(config)
    model, train = config.model, config.train
    assert (model.steps, model.hidden_channels, model.kernel_size, model.last_kernel_size) == (4, 1024, 3, 5)
    assert (model.affine_clamping, model.feature_norm) == (3.0, "none")
    assert (train.epochs, train.batch_size, train.drop_last) == (240, 16, False)
    assert (train.lr, train.final_lr, train.warmup_epochs, train.weight_decay) == (2e-4, 1.0, 0, 1e-5)
    assert (train.betas, train.eps, train.grad_norm) == ([0.9, 0.999], 1e-4, 1.0)
    assert (config.eval.first_epoch, config.eval.last_epoch, config.eval.every) == (80, 240, 1)
    assert (config.altub.idle_epochs, config.altub.clip, config.altub.max_lr) == (0, "value", 0.05)
    assert (config.dataset.image_size, config.dataset.interpolation, config.dataset.rotation) == (256, "antialias", 0.0)
    assert config.backbone.stages == [2, 3, 4]


def test_csflow_on_its_own_backbone_keeps_the_protocol(compose):
    """The recipe changes nothing but the features: block 35 of EfficientNet-B5 at 768, 384 and 192 px."""
    config, plain = (
        compose("experiment=csflow-b5", "dataset.category=bottle"),
        compose("model=csflow", "dataset.category=bottle"),
    )
    check(config)
    assert (config.model, config.train, config.altub, config.eval) == (
        plain.model,
        plain.train,
        plain.altub,
        plain.eval,
    )
    backbone = config.backbone
    assert (backbone.name, backbone.stages, backbone.extra_blocks) == ("tf_efficientnet_b5.in1k", [6], True)
    assert (config.dataset.image_size, backbone.input_divisors, plain.backbone.input_divisors) == (768, [1, 2, 4], [1])


def test_protocol_of_differnet(compose):
    """DifferNet's values of the authors' config.py, train.py and utils.py."""
    config = compose("experiment=differnet-alexnet", "dataset.category=bottle")
    check(config)
    model, train = config.model, config.train
    assert (model.steps, model.hidden_features, model.affine_clamping, model.feature_norm) == (8, 2048, 3.0, "none")
    assert (model.rotations, model.train_rotations) == (64, 4)
    assert (train.epochs, train.cycle, train.batch_size, train.drop_last) == (24 * 8, 8, 24, False)
    assert (train.lr, train.final_lr, train.warmup_epochs, train.weight_decay) == (2e-4, 1.0, 0, 1e-5)
    assert (train.betas, train.eps, train.grad_norm) == ([0.8, 0.8], 1e-4, None)
    assert (config.eval.first_epoch, config.eval.last_epoch, config.eval.every) == (64, 192, 8)
    assert (config.altub.idle_epochs, config.altub.clip, config.altub.max_lr) == (0, "value", 0.05)
    assert (config.dataset.image_size, config.dataset.interpolation, config.dataset.rotation) == (448, "antialias", 0.0)
    assert (config.backbone.name, config.backbone.input_divisors) == ("alexnet.tv_in1k", [1, 2, 4])


def test_protocol_of_msflow(compose):
    """MSFlow's values of the authors' default.py, main.py and train.py."""
    config = compose("experiment=msflow-wrn50", "dataset.category=bottle")
    check(config)
    model, train = config.model, config.train
    assert (model.steps, model.asymmetry, model.condition_channels, model.affine_clamping) == (8, 3, 64, 1.9)
    assert (model.hidden_ratio, model.fusion_ratio, model.top_share, model.feature_norm) == (1.0, 0.25, 0.03, "none")
    assert (train.epochs, train.cycle, train.batch_size, train.drop_last) == (25 * 4, 4, 8, False)
    assert (train.lr, train.final_lr, train.weight_decay, train.grad_norm) == (1e-4, 1.0, 0.0, 2.0)
    assert (train.warmup_epochs, train.warmup_unit, train.milestones, train.milestone_factor) == (
        3 * 4,
        "epoch",
        [70, 90],
        0.33,
    )
    assert (train.betas, train.eps) == ([0.9, 0.999], 1e-8)
    assert (config.eval.first_epoch, config.eval.last_epoch, config.eval.every) == (33, 100, 4)
    assert (config.altub.idle_epochs, config.altub.clip, config.altub.max_lr) == (12, "value", 0.05)
    assert (config.backbone.name, config.backbone.stages) == ("wide_resnet50_2.tv_in1k", [1, 2, 3])
    assert (config.dataset.interpolation, config.dataset.rotation) == ("lanczos", 0.0)
    for category, size in {"bottle": 512, "transistor": 256}.items():
        assert compose("model=msflow", f"dataset.category={category}").dataset.image_size == size
    assert compose("model=msflow", "dataset=visa", "dataset.category=pcb1").dataset.image_size == 512


def test_msflow_minimises_nats_in_all_epochs(compose):
    with pytest.raises(UserError, match="model=msflow minimises nats in all epochs"):
        check(compose("model=msflow", "dataset.category=bottle", "altub.psi_loss=objective"))


def test_input_sizes_of_cflow(compose):
    sizes = {}
    for category in compose("dataset.category=bottle").dataset.categories:
        size = compose("model=cflow", f"dataset.category={category}").dataset.image_size
        sizes.setdefault(size, set()).add(category)
    assert sizes == {
        512: {"bottle", "carpet", "grid", "leather", "screw", "tile", "toothbrush", "wood", "zipper"},
        256: {"cable", "capsule", "hazelnut", "metal_nut", "pill"},
        128: {"transistor"},
    }
    own = compose("model=cflow", "dataset=folder", "dataset.category=bottle")
    assert own.dataset.image_size == 256
    assert compose("model=cflow", "dataset.category=bottle", "dataset.image_size=320").dataset.image_size == 320


@pytest.mark.parametrize(
    ("altub", "base", "alternates"),
    [
        ("none", "fixed", False),
        ("stereotype", "learned", False),
        ("cnn", "convolutional", False),
        ("alternating", "learned", True),
        ("fitted", "learned", False),
        ("constant", "learned", False),
        ("channelwise", "channelwise", True),
        ("mu_only", "shifted", True),
        ("sigma_only", "scaled", True),
        ("split_prior", "split_prior", False),
    ],
)
def test_base_distributions_of_table_6_and_the_controls(compose, altub, base, alternates):
    config = compose(f"altub={altub}", "dataset.category=bottle")
    assert (config.altub.name, config.altub.base, config.altub.alternating) == (altub, base, alternates)
    check(config)
    check_parts(config)
    assert config.altub.learned_by == {"fitted": "moments", "constant": "sgd"}.get(altub, "adam")


@pytest.mark.parametrize(("epochs", "first"), [(300, 100), (60, 20), (1, 1), (2, 1)])
def test_the_window_is_the_last_two_thirds(compose, epochs, first):
    config = compose(f"train.epochs={epochs}", "dataset.category=bottle")
    check(config)
    assert (config.eval.first_epoch, config.eval.last_epoch) == (first, epochs)


@pytest.mark.parametrize("key", ["kernel_size", "last_kernel_size"])
def test_even_kernels_of_csflow_are_refused(compose, key):
    with pytest.raises(UserError, match=f"model.{key}=4 would change the size of the maps"):
        check(compose("model=csflow", f"model.{key}=4", "dataset.category=bottle"))


@pytest.mark.parametrize("norm", ["trainable", "counted", "nonaffine"])
def test_norms_of_whole_maps_are_refused_with_single_positions(compose, norm):
    cflow = ["model=cflow", "backbone=wrn50_tv", "dataset.category=bottle"]
    with pytest.raises(UserError, match=f"model.feature_norm={norm} normalises whole maps"):
        check(compose(*cflow, f"model.feature_norm={norm}"))
    check(compose(*cflow, "+reading=paper_norm"))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.batch_size=0", "train.batch_size=0 is too small"),
        ("train.lr=0", "not a learning rate"),
        ("altub.count_from=2", "counted from 1"),
        ("altub.freezing_interval=1", "altub.freezing_interval=1 is too small"),
        ("altub.psi_loss=objective", "model=fastflow minimises nats in all epochs: leave altub.psi_loss=objective out"),
        ("altub.learned_by=moments", "altub.learned_by=moments fits ψ after the training.*set altub.alternating=false"),
        ("eval.fitted=true", "eval.fitted=true fits ψ where none is learned, and altub.base=learned learns it"),
        ("eval.last_epoch=301", "does not lie within the 300 epochs"),
        ("eval.every=500", "evaluates no epoch of the window"),
        ("seed=-1", "seed=-1 is too small"),
        ("threads=0", "threads=0 is too small"),
    ],
)
def test_values_out_of_range_are_named(compose, override, sentence):
    with pytest.raises(UserError, match=sentence):
        check(compose(override, "dataset.category=bottle"))


def test_a_backbone_by_another_name_is_labelled_by_that_name(compose):
    assert backbone_label(compose("dataset.category=bottle").backbone) == "r18"
    assert backbone_label(compose("backbone.name=convnext_atto", "dataset.category=bottle").backbone) == "convnext_atto"


def test_keys_include_those_of_every_option():
    assert {"train.epochs", "model.steps", "dataset.mask_dir", "dataset.train_images", "seed"} <= set(keys())
    assert "train" not in keys()


def test_hydra_still_copies_its_store_which_is_spared(monkeypatch, compose):
    """If this fails, the installed Hydra copies its store no more: then remove the line in ``register_schema``."""
    copies = []
    monkeypatch.setattr(ConfigStore, "__deepcopy__", lambda store, memo: copies.append(store) or store)
    compose("experiment=demo")
    assert copies


def test_steps_are_deferred_by_decoder_unless_the_flow_has_parameters_outside_of_its_decoders(compose):
    words = ["model=cflow", "dataset.category=screw", "model.steps=1"]
    counts = []
    for optimizers in ("joint", "per_decoder"):
        config = compose(*words, f"model.optimizers={optimizers}")
        for outside in (False, True):
            density = build_density(config, [(4, 2, 2), (4, 1, 1)])
            if outside:
                density.flow.of_all_scales = torch.nn.Parameter(torch.zeros(3))
            optimizer = build_learner(config, density).optimizer
            counts.append((len(optimizer.parts), len(optimizer.joint)))
    assert counts == [(2, 1), (1, 1), (2, 2), (2, 2)]


def test_psis_gradient_is_clipped_in_the_steps_that_the_key_names(compose):
    flags = []
    for phase in ("psi_only", "every"):
        config = compose("dataset.category=screw", "model.steps=1", f"altub.clip_phase={phase}")
        flags.append(build_learner(config, build_density(config, [(4, 2, 2)])).optimizer._clip_jointly)
    assert flags == [False, True]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=cflow", "backbone=wrn50_tv", "altub=split_prior"], "altub.base=split_prior reads the latents around"),
        (["altub=fitted", "altub.base=convolutional"], "altub.base=convolutional cannot be fitted to the latents"),
        (["altub=fitted", "altub.base=fixed"], "altub.base=fixed cannot be fitted to the latents"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(compose, overrides, sentence):
    config = compose(*overrides, "dataset.category=bottle")
    check(config)
    with pytest.raises(UserError, match=sentence):
        check_parts(config)


def test_the_loss_of_psi_only_epochs_is_the_models(compose):
    losses = {}
    for model in ("fastflow", "cflow", "csflow", "differnet", "msflow"):
        config = compose(f"model={model}", "dataset.category=screw")
        losses[model] = str(config.altub.psi_loss)
        other = "nats" if losses[model] == "objective" else "objective"
        changed = compose(f"model={model}", "dataset.category=screw", f"altub.psi_loss={other}")
        for given in (config, changed):
            if model not in ("fastflow", "msflow"):  # which refuse the other
                given.model.steps, given.train.lr = 1, 1e-3
                learner = build_learner(given, build_density(given, [(4, 4, 4), (4, 2, 2), (4, 1, 1)]))
                assert learner._psi_loss == given.altub.psi_loss
    assert losses == {"fastflow": "nats", "cflow": "objective", "csflow": "nats", "differnet": "nats", "msflow": "nats"}


@pytest.mark.parametrize(
    ("overrides", "psi_only", "first", "joint"),
    [
        ([], [20, 25, 30, 35, 40], (True, None), (True, "adam")),
        (["altub.idle=joint"], [20, 25, 30, 35, 40], (True, "adam"), (True, "adam")),
        (["altub.freezing_unit=cycle"], [*range(33, 41)], (True, None), (True, "adam")),
        (["altub=constant"], [], (True, None), (True, "sgd")),
        (["altub=constant", "altub.idle=joint"], [], (True, "sgd"), (True, "sgd")),
        (["altub=fitted"], [], (True, None), (True, None)),
        (["altub=none"], [], (True, None), (True, "adam")),
    ],
)
def test_the_schedule_of_psi_under_cflow(compose, overrides, psi_only, first, joint):
    config = compose("model=cflow", "backbone=wrn50_tv", "dataset.category=bottle", *overrides)
    schedule = alternation(config.altub, config.train.cycle)
    assert [epoch for epoch in range(1, 41) if schedule.psi_only(epoch)] == psi_only
    assert schedule.phase(16) == first
    assert schedule.phase(17) == joint


@pytest.mark.parametrize("name", LATER)
def test_a_key_that_came_later_changes_no_earlier_run(compose, name, tmp_path):
    config = compose("dataset=folder", "dataset.category=part")
    file = tmp_path / "config.yaml"
    earlier = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(config)))
    for later in LATER:
        group, _, key = later.rpartition(".")
        if key == name.rpartition(".")[2]:  # of train, and of the model's protocol
            del (OmegaConf.select(earlier, group) if group else earlier)[key]
    OmegaConf.save(earlier, file)
    assert name.rpartition(".")[2] not in file.read_text()
    assert load_config(file) == config
    assert run_path(load_config(file), "0" * 32) == run_path(config, "0" * 32)


def test_a_configuration_without_an_old_key_is_refused(compose, tmp_path):
    written = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(compose("dataset.category=bottle"))))
    del written.seed
    OmegaConf.save(written, tmp_path / "config.yaml")
    with pytest.raises(UserError, match="is not the configuration of a run of this version"):
        load_config(tmp_path / "config.yaml")
