"""The recipes for images, the Kubernetes job, and the batch scripts with an image."""

import json
import os
import shlex
import shutil
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from conftest import SMALL, read_metrics, run_command
from helpers.running_job import ROOT

from md2dist.distributed.world import find_free_port

RECIPES = ROOT / "launch" / "containers"


def paths_of_dockerignore():
    lines = (RECIPES / "Dockerfile.dockerignore").read_text().splitlines()
    return {line[1:] for line in lines if line.startswith("!")}


def paths_of_apptainer():
    _, _, files = (RECIPES / "md2dist.def").read_text().partition("%files\n")
    files, _, _ = files.partition("\n\n")
    pairs = [line.split() for line in files.splitlines()]
    assert all(inside == f"/usr/local/src/md2dist/{outside}" for outside, inside in pairs)
    return {outside for outside, _ in pairs}


def test_both_images_are_made_of_what_the_installation_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert paths_of_dockerignore() == {*named, "md2dist", "configs", "launch/containers"}
    assert paths_of_apptainer() == paths_of_dockerignore()
    assert all((ROOT / path).exists() for path in paths_of_apptainer())


def test_both_images_start_from_the_same_base():
    lines = [(RECIPES / name).read_text().splitlines() for name in ("Dockerfile", "md2dist.def")]
    [docker, apptainer] = [
        [line.split()[1] for line in text if line.lower().startswith("from")] for text in lines
    ]
    assert docker == apptainer


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "launch/containers/Dockerfile"],
        ["kubernetes-validate", "--strict", "launch/containers/kubernetes.yaml"],
        ["shellcheck", "launch/containers/install.sh"],
        *(["shellcheck", "--external-sources", f"launch/slurm/{name}.sbatch"]
          for name in ("train", "evaluate", "pack")),
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)  # fmt: skip
def test_a_recipe_or_script_passes_its_linter(command):
    process = run_command(command)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.slow
def test_the_pods_of_the_kubernetes_job_train_as_one_run(small_shards, tmp_path):
    _, job = yaml.safe_load_all((RECIPES / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    nodes = job["spec"]["completions"]
    assert {variable["name"]: variable["value"] for variable in container["env"]} == {
        "NODES": str(nodes)
    }
    port = find_free_port()
    here = {
        f"{job['metadata']['name']}-0.{pod['subdomain']}": "127.0.0.1",
        "/data/shards/train": str(small_shards),
        "/data": str(tmp_path),
        "port=29500": f"port={port}",
        "per-node=8": "per-node=1",
        "$(NODES)": str(nodes),
    }

    def run_pod(index):
        words = shlex.join([*container["command"], *container["args"]])
        for old, new in {**here, "$(JOB_COMPLETION_INDEX)": str(index)}.items():
            assert old in words
            words = words.replace(old, new)
        return run_command([*shlex.split(words), *SMALL, "optim.max_steps=2"])

    with ThreadPoolExecutor() as pods:
        for process in pods.map(run_pod, range(nodes)):
            assert process.returncode == 0, process.stdout + process.stderr
    run_dir = tmp_path / "runs" / "mono_stereo"
    assert list(read_metrics(run_dir)) == [1, 2]
    assert len(list((run_dir / "logs").glob("rank-*.log"))) == nodes


@pytest.fixture
def submit_with_image(tmp_path):
    """Runs a batch script as SLURM does, with an `srun` that prints its arguments as JSON."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    printed = "import json, sys; print(json.dumps(sys.argv[1:]))"
    srun.write_text(f"#!/bin/sh\nexec python3 -c '{printed}' \"$@\"\n")
    srun.chmod(0o755)

    def submit(script, *words, **environment):
        of_slurm = {"SLURM_NNODES": "2", "SLURM_CPUS_ON_NODE": "8", "SLURM_NTASKS": "4"}
        paths = {"PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}"}
        process = subprocess.run(
            ["bash", f"launch/slurm/{script}.sbatch", *words],
            cwd=ROOT,
            env={**os.environ, **of_slurm, **paths, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(process.stdout)

    return submit


@pytest.mark.parametrize("script", ["train", "evaluate", "pack"])
def test_a_batch_script_runs_the_same_command_in_an_image(script, submit_with_image):
    here = submit_with_image(script, "settings.yaml")
    program = here.index("python")
    mounts = f"{ROOT}:{ROOT},/scratch:/data"
    images = {"CONTAINER_MOUNTS": "/scratch:/data"}

    apptainer = submit_with_image(script, "settings.yaml", CONTAINER="md2dist.sif", **images)
    inside = ["apptainer", "exec", "--nv", "--bind", mounts, "--pwd", str(ROOT), "md2dist.sif"]
    assert apptainer == [*here[:program], *inside, *here[program:]]

    pyxis = submit_with_image(script, "settings.yaml", CONTAINER="team/md2dist:1", **images)
    options = ["--container-image", "team/md2dist:1", "--container-mounts", mounts,
               "--container-workdir", str(ROOT)]  # fmt: skip
    assert pyxis == [*here[:program], *options, *here[program:]]
    assert "settings.yaml" in here[program:]


def test_without_an_image_nothing_is_put_before_the_command(submit_with_image):
    words = submit_with_image("train", "settings.yaml")
    assert words[words.index("python") - 1] == "--wait=30"
    assert shutil.which("apptainer") is None or "apptainer" not in words
