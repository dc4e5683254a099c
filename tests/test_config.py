import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from md2dist.config import Config, load_config, load_words, save_config
from md2dist.errors import ConfigError

ROOT = Path(__file__).parent.parent


CONFIGS = [path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "sweeps"]


@pytest.mark.parametrize("path", sorted(CONFIGS), ids=lambda p: p.name)
def test_every_config_of_the_project_loads(path):
    assert load_config([path]) != Config()


def test_the_defaults_are_the_published_recipe():
    config = Config()
    assert (config.data.height, config.data.width, config.optim.lr) == (192, 640, 1e-4)
    assert (config.optim.num_epochs, config.optim.lr_drop_epoch) == (20, 15)
    assert (config.loss.min_depth, config.loss.max_depth) == (0.1, 100.0)
    assert config.loss.smoothness_weight == 1e-3


def test_later_files_and_then_overrides_win(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("optim: {lr: 1e-3, num_epochs: 3}\nseed: 5\n")
    second.write_text("optim: {lr: 2e-3}\n")
    config = load_words([str(first), "optim.num_epochs=7", str(second)])
    assert (config.optim.lr, config.optim.num_epochs, config.seed) == (2e-3, 7, 5)


def test_a_saved_config_loads_to_the_same_tree(tmp_path):
    config = load_config([], ["data.frame_offsets=[]", "data.use_stereo=true", "seed=3"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config([tmp_path / "config.yaml"]) == config


def test_a_config_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        load_config().seed = 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.lrr=1", ["optim.lrr", "did you mean optim.lr?"]),
        ("every_steps=3", ["did you mean checkpoint.every_steps or log.every_steps?"]),
        ("zzzz=1", ["zzzz", "data.*, network.*", "log.* and seed"]),
        ("foo.bar=1", ["foo.bar", "data.*, network.*"]),
        ("log={run_dir: 001}", ["expected text", "parses it as 1;", "quotes"]),
        ("log.run_dir=", ["log.run_dir", "not Optional"]),
        ("log.run_dir=null", ["log.run_dir", "not Optional"]),
        ("optim.lr=fast", ["optim.lr", "fast"]),
        ("optim.lr=[1", ["optim.lr=[1", "while parsing"]),
        ("data=3", ["DataConfig"]),
        ("data.height=100", ["data.height=100", "multiple of 32", "96 or 128"]),
        ("data.width=32", ["data.width=32", "64 or 96"]),
        ("data.width=32000", ["data.height=192", "at most 2,097,152 pixels"]),
        ("checkpoint.keep_epochs=[9,20]", ["keep_epochs=[9,20]", "from 0 to 19"]),
        ("checkpoint.keep_epochs=[-1]", ["keep_epochs=[-1]", "from 0 to 19"]),
        ("data.frame_offsets=[1,-1]", ["data.frame_offsets=[1,-1]:", "ascending"]),
        ("data.frame_offsets=[0,1]", ["without 0"]),
        ("data.frame_offsets=[]", ["no source image", "data.use_stereo=true"]),
        ("network.pose_type=resnet", ["network.pose_type", "separate_resnet"]),
        ("network.num_layers=19", ["network.num_layers", "18, 34, 50"]),
        ("network.init_networks=[depth]", ["needs network.init_from"]),
        ("network.init_networks=[decoder]", ["init_networks=decoder: expected names among enc"]),
        ("network={pose_type: shared, pose_num_layers: 34}", ["has none of its own; remove one"]),
        (
            "network.encoder=convnext_tiny",
            ["convnext_tiny: expected resnet, or timm: and"],
        ),
        ("network.encoder=timm:hf_hub:a/b", ["expected resnet, or timm: and the name of one"]),
        ("network={encoder: timm:a, weights: w.pth}", ["network.weights=w.pth: expected imagenet"]),
        (
            "network={encoder: timm:a, use_sync_batchnorm: true}",
            ["network.encoder=timm:a: batch"],
        ),
        ("optim.weight_decay=-0.1", ["optim.weight_decay=-0.1: expected a finite number >= 0"]),
        ("optim.schedule=linear", ["optim.schedule", "'step', 'cosine'"]),
        ("optim={schedule: cosine, lr_drop_every: 5}", ["lr_drop_every=5 has no", "every=null"]),
        ("optim={schedule: cosine, lr_drop_epoch: 9}", ["lr_drop_epoch=9 has no", "epoch=15"]),
        ("optim={schedule: cosine, lr_drop_factor: 1}", ["lr_drop_factor=1.0 has no effect"]),
        (
            "optim={schedule: cosine, warmup_steps: 9, max_steps: 9}",
            ["warmup_steps=9: expected <"],
        ),
        ("log.run_dir=s3://bucket/run", ["log.run_dir=s3://bucket/run: expected a local folder"]),
        ("data.cache_dir=pipe:cat", ["data.cache_dir=pipe:cat: expected a local folder"]),
        ("loss.min_depth=200", ["loss.min_depth=200", "max_depth"]),
        ("loss.use_predictive_mask=true", ["use_auto_mask=false"]),
        ("optim.micro_batch_size=0", ["optim.micro_batch_size=0: expected a finite number > 0"]),
        ("optim.lr=-1", ["optim.lr=-1", "number > 0"]),
        ("optim.lr=inf", ["optim.lr=inf", "finite number > 0"]),
        ("data.frame_offsets=[a]", ["data.frame_offsets=[a]", "converted to Integer"]),
        ("data.train_shards=${shards}", ["'shards' not found", "data.train_shards"]),
        ("seed=-1", ["seed=-1", "number >= 0"]),
        (f"seed={2**63}", [f"seed={2**63}", "expected < 2**63"]),
        ("log.val_pictures=101", ["log.val_pictures=101", "expected <= 100"]),
        ("log.wandb_worst=101", ["log.wandb_worst=101", "expected <= 100"]),
        ("precision.dtype=fp8", ["precision.dtype", "bf16"]),
        ("seed", ["seed", "key=value"]),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override, words):
    with pytest.raises(ConfigError) as caught:
        load_config([], [override])
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


BATCH_SIZES = "mean optim.lr_batch_size or optim.micro_batch_size or optim.global_batch_size?"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optim.batchsize", BATCH_SIZES),
        ("batchsize", BATCH_SIZES),
        ("data.shards", "mean data.train_shards or data.val_shards or data.window_shards?"),
        ("optim.epochs", "mean optim.num_epochs?"),
        ("optim.height", "mean data.height?"),
        ("data.seed", "mean seed?"),
        ("optim.micro_batchsize", "mean optim.micro_batch_size?"),
        ("optm.lrr", "mean optim.lr?"),
        ("log.evry_steps", "mean log.every_steps?"),
        ("network.weight", "mean network.weights or loss.smoothness_weight or optim.weight_decay?"),
    ],
)
def test_an_unknown_setting_is_refused_with_all_that_share_its_words(key, words):
    with pytest.raises(ConfigError, match=f"^{key}=4: unknown .* {re.escape(words)}$"):
        load_config([], [f"{key}=4"])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optim.beta", "settings of optim are lr, weight_decay, schedule, "),
        ("optim.momentum", "settings of optim are lr, "),
        ("data.images", "settings of data are train_shards, val_shards, "),
        ("data.path.train", "settings of data are train_shards, "),
        ("log.name", "settings of log are run_dir, wandb_mode, "),
    ],
)
def test_an_unknown_setting_like_no_other_is_refused_with_those_of_its_section(key, words):
    with pytest.raises(ConfigError, match=f"unknown setting; the {words}"):
        load_config([], [f"{key}=4"])


TEXTS = [
    "2011_09_26",
    "001",
    "1e3",
    "on",
    "12:30",
    "no",
    "x #3",
    "a: b",
    "{a}",
    "~",
    "[a",
    "'",
    " ",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_taken_verbatim_and_survives_a_file(tmp_path, text):
    keys = ("data.train_shards", "log.run_dir", "network.init_from")
    config = load_config([], [f"{key}={text}" for key in keys])
    save_config(config, tmp_path / "config.yaml")
    for loaded in (config, load_config([tmp_path / "config.yaml"])):
        assert loaded.data.train_shards == loaded.log.run_dir == loaded.network.init_from == text


@pytest.mark.parametrize("text", ["", "null"])
def test_optional_text_is_none_when_empty_or_null(tmp_path, text):
    path = tmp_path / "shards.yaml"
    path.write_text("data: {train_shards: shards}")
    assert load_config([path], [f"data.train_shards={text}"]).data.train_shards is None


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "run.yaml").write_text("log: {run_dir: ~/runs/a}")
    config = load_config([tmp_path / "run.yaml"], ["data.cache_dir=~/cache"])
    assert (config.log.run_dir, config.data.cache_dir) == ("/home/ada/runs/a", "/home/ada/cache")


def test_a_user_without_a_home_folder_is_refused_a_tilde(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    path = tmp_path / "run.yaml"
    path.write_text("log: {run_dir: ~/runs/a}")
    words = "this user has no home folder; set HOME, or use an absolute path"
    with pytest.raises(ConfigError, match=rf"^data\.cache_dir=~/cache: {words}"):
        load_config([], ["data.cache_dir=~/cache"])
    with pytest.raises(ConfigError, match=rf"run\.yaml: log\.run_dir: {words}"):
        load_config([path])


def test_text_may_be_quoted_and_may_refer_to_other_settings():
    config = load_config([], ["data.train_shards='null'", "log.run_dir=runs/${network.weights}"])
    assert config.data.train_shards == "null"
    assert config.log.run_dir == "runs/imagenet"


@pytest.mark.parametrize(
    ("value", "parsed"),
    [("2011_09_26", "20110926"), ("001", "1"), ("on", "True"), ("12:30", "750"), ("{a: b}", "a")],
)
def test_a_file_with_another_type_than_text_is_refused_with_the_remedy(tmp_path, value, parsed):
    path = tmp_path / "run.yaml"
    path.write_text(f"log: {{run_dir: {value}}}")
    with pytest.raises(ConfigError, match=rf"run\.yaml: log\.run_dir: .*{parsed}.*quotes"):
        load_config([path])
    path.write_text(f"log: {{run_dir: '{value}'}}")
    assert load_config([path]).log.run_dir == value


def test_a_wrong_value_in_a_file_is_reported_with_the_file_and_its_key(tmp_path):
    path = tmp_path / "mono.yaml"
    path.write_text("data: {frame_offsets: [-1, a]}")
    with pytest.raises(ConfigError, match=r"mono\.yaml: data\.frame_offsets: .*Integer"):
        load_config([path])
    path.write_text("datta: {height: 64}")
    with pytest.raises(ConfigError, match=r"mono\.yaml: datta\.height: .*mean data\.height\?"):
        load_config([path])
    path.write_text("datta: {hue: 64}")
    with pytest.raises(
        ConfigError, match=r"mono\.yaml: datta\.hue: unknown .*; expected one of data\.\*"
    ):
        load_config([path])


def test_fp16_with_partitioned_gradients_is_refused():
    with pytest.raises(ConfigError, match="zero_stage=2"):
        load_config([], ["precision.dtype=fp16", "deepspeed.zero_stage=2"])


@pytest.mark.parametrize("content", ["- a list", "a: [", "just words", 'log: {run_dir: "${a"}', ""])
def test_a_file_that_is_not_a_configuration_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    if content:
        with pytest.raises(ConfigError, match=re.escape("broken.yaml")):
            load_config([path])
    else:
        assert load_config([path]) == Config()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_any_editor_writes_it(tmp_path, encoding):
    (tmp_path / "run.yaml").write_bytes("seed: 7\r\nlog: {run_dir: ä}\r\n".encode(encoding))
    config = load_config([tmp_path / "run.yaml"])
    assert (config.seed, config.log.run_dir) == (7, "ä")


@pytest.mark.parametrize("content", [b"seed: 7\0", b"seed: 7 \xff", b"#" * (2 << 20)])
def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.yaml (is not text|has a zero|has more than)") as e:
        load_config([tmp_path / "run.yaml"])
    assert "\n" not in str(e.value)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config([tmp_path / "nowhere.yaml"])


@pytest.mark.parametrize("name", ["mono", "mono.yaml", "configs/mono"])
def test_the_name_of_a_config_is_refused_with_its_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mono.yaml").touch()
    with pytest.raises(
        ConfigError, match=rf"file {name} not found; did you mean configs/mono\.yaml\?$"
    ):
        load_config([name])
    with pytest.raises(ConfigError, match="configuration file motto not found; see configs/"):
        load_config(["motto"])


def test_every_setting_has_a_comment():
    source = (ROOT / "md2dist" / "config" / "schema.py").read_text()
    sections = re.findall(r"class \w+Config:\n(.*?)(?=\n\n\n)", source, re.DOTALL)
    fields = [
        line for body in sections for line in body.splitlines() if re.match(r"    \w+: ", line)
    ]
    assert len(fields) > 40
    uncommented = [line for line in fields if "#" not in line]
    assert not uncommented
