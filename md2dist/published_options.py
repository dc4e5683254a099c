"""Options of the published code and of GluonCV, and what takes their place here."""

from typing import NamedTuple


class PublishedOption(NamedTuple):
    """An option of theirs; code is in backticks, as in Markdown."""

    ours: str  # setting, command or variable that takes its place; empty: none does
    difference: str = ""  # what differs, or why there is none


TRAINING = {
    "data_path": PublishedOption(
        "`md2dist pack --kitti-root`",
        "training reads shards that are packed once, not KITTI's files; `data.train_shards` is "
        "their folder",
    ),
    "dataset": PublishedOption(
        "`md2dist pack --kitti-root`",
        "raw drives, odometry sequences and archives are recognised by their files",
    ),
    "split": PublishedOption(
        "`md2dist pack --split`", "with its part: `eigen_zhou/train`; a run takes the whole folder"
    ),
    "png": PublishedOption("", "packing reads PNG and JPEG alike, and shards are lossless PNG"),
    "height": PublishedOption("`data.height`", "shards are packed at this size"),
    "width": PublishedOption("`data.width`", "shards are packed at this size"),
    "log_dir": PublishedOption("`log.run_dir`", "the folder of one run"),
    "model_name": PublishedOption(
        "`log.run_dir`",
        "its last part; to evaluate and predict, `--checkpoint` takes it, or a published name",
    ),
    "num_layers": PublishedOption("`network.num_layers`"),
    "weights_init": PublishedOption(
        "`network.weights`", "`imagenet` for `pretrained`, or `scratch`"
    ),
    "pose_model_type": PublishedOption("`network.pose_type`"),
    "pose_model_input": PublishedOption("", "the pose network sees pairs, which is their default"),
    "frame_ids": PublishedOption(
        "`data.frame_offsets` (without 0, ascending)",
        "`[-1,1]` for `0 -1 1`, `[]` for `0`; the other camera is `data.use_stereo`",
    ),
    "use_stereo": PublishedOption("`data.use_stereo`", "shards hold the other camera by default"),
    "scales": PublishedOption("", "the loss always has the four published scales"),
    "min_depth": PublishedOption("`loss.min_depth`"),
    "max_depth": PublishedOption("`loss.max_depth`"),
    "disparity_smoothness": PublishedOption("`loss.smoothness_weight`"),
    "v1_multiscale": PublishedOption("`loss.use_v1_multiscale`"),
    "avg_reprojection": PublishedOption("`loss.use_average`"),
    "disable_automasking": PublishedOption("`loss.use_auto_mask=false`", "the opposite"),
    "predictive_mask": PublishedOption(
        "`loss.use_predictive_mask`", "needs `loss.use_auto_mask=false`, as there"
    ),
    "no_ssim": PublishedOption("`loss.use_ssim=false`", "the opposite"),
    "batch_size": PublishedOption(
        "`optim.micro_batch_size` (per GPU) or `optim.global_batch_size` (of all)",
        "the recipe is that of their single GPU if the global batch is 12",
    ),
    "learning_rate": PublishedOption(
        "`optim.lr`", "it follows from the settings at each start; no checkpoint restores it"
    ),
    "num_epochs": PublishedOption("`optim.num_epochs`"),
    "scheduler_step_size": PublishedOption(
        "`optim.lr_drop_epoch`",
        "one drop after exactly 15 epochs; theirs drops every N epochs (`optim.lr_drop_every`), "
        "and with torch >= 1.1 first after 14",
    ),
    "num_workers": PublishedOption("`data.num_workers`", "per GPU; fewer are needed"),
    "no_cuda": PublishedOption("`CUDA_VISIBLE_DEVICES=` before the command"),
    "load_weights_folder": PublishedOption(
        "`network.init_from` (or `--checkpoint` to evaluate)",
        "starts anew with these weights; the same command resumes a run, optimizer included",
    ),
    "models_to_load": PublishedOption(
        "`network.init_networks`", "names: `[encoder,depth]`; all networks by default"
    ),
    "log_frequency": PublishedOption(
        "`log.every_steps`", "pictures have their own, `log.pictures_every_steps`"
    ),
    "save_frequency": PublishedOption(
        "`checkpoint.every_steps`",
        "in steps, in addition to one checkpoint per epoch; `checkpoint.keep` newest are kept",
    ),
}

EVALUATION = {
    "eval_mono": PublishedOption(
        "`md2dist evaluate --scaling median`", "the default of models trained on video alone"
    ),
    "eval_stereo": PublishedOption(
        "`md2dist evaluate --scaling 5.4`", "the default of models trained with stereo"
    ),
    "disable_median_scaling": PublishedOption("`md2dist evaluate --scaling 1`"),
    "pred_depth_scale_factor": PublishedOption(
        "`md2dist evaluate --scaling FACTOR`", "in place of the medians, not in addition"
    ),
    "eval_split": PublishedOption(
        "`md2dist evaluate --shards`",
        "shards of `eigen/test` or `eigen_benchmark/test`; `md2dist evaluate-odometry` scores "
        "`odom/test_09` and `odom/test_10`, `md2dist benchmark` predicts for KITTI's server",
    ),
    "ext_disp_to_eval": PublishedOption("`md2dist evaluate --predictions`"),
    "save_pred_disps": PublishedOption("`md2dist evaluate --save-disparities`"),
    "no_eval": PublishedOption("`md2dist predict`", "predicts without ground truth"),
    "eval_eigen_to_benchmark": PublishedOption(
        "", "shards of `eigen_benchmark/test` hold exactly these images"
    ),
    "eval_out_dir": PublishedOption("`md2dist evaluate --output`", "JSON, CSV or Markdown"),
    "post_process": PublishedOption("`md2dist evaluate --flip-postprocess`"),
}

PREDICTION = {
    "image_path": PublishedOption(
        "`md2dist predict --input`", "an image, a folder, a video, or `-` for a list of paths"
    ),
    "ext": PublishedOption("", "all PNG and JPEG images of a folder are read"),
    "pred_metric_depth": PublishedOption(
        "", "the depth of models trained with stereo is in metres; `md2dist predict --scale` "
        "scales that of others"
    ),
}  # fmt: skip

GLUONCV = {
    "model_zoo": PublishedOption(
        "`network.num_layers`",
        "to evaluate and predict, `--checkpoint` takes GluonCV's names of the published models",
    ),
    "model_zoo_pose": PublishedOption("`network.pose_type`", "and `network.pose_num_layers`"),
    "pretrained_type": PublishedOption("`network.weights`"),
    "pretrained_base": PublishedOption("`network.weights`", "`scratch` for `False`"),
    "hybridize": PublishedOption("", "PyTorch needs no such switch"),
    "start_epoch": PublishedOption("`checkpoint.resume`", "the same command resumes by itself"),
    "warmup_epochs": PublishedOption(
        "`optim.warmup_steps`", "in steps; theirs shortens the schedule, ours does not"
    ),
    "no_gpu": PublishedOption("`CUDA_VISIBLE_DEVICES=` before the command"),
    "gpu": PublishedOption("`deepspeed --include localhost:N`", "all GPUs train by default"),
    "eval_model": PublishedOption("`md2dist evaluate --checkpoint`"),
    "resume_depth": PublishedOption(
        "`network.init_from`", "one path for all networks; the same command resumes a run"
    ),
    "resume_pose": PublishedOption("`network.init_from`", "one path for all networks"),
    "input_format": PublishedOption("", "images and videos are recognised by their content"),
    "prediction_only": PublishedOption(
        "", "`NAME_disparity.png` is without the image; videos show both"
    ),
    "use_depth": PublishedOption("", "depth and disparity are both written"),
    "output_format": PublishedOption(
        "`md2dist predict --output`",
        "a name that ends in .mp4 makes a video, another one a folder; `--format` is that of the "
        "depth, `png` or `npy`",
    ),
    "output_path": PublishedOption("`md2dist predict --output`", "a folder, or a video"),
}

GROUPS = {
    "Training": TRAINING,
    "Evaluation": EVALUATION,
    "Prediction": PREDICTION,
    "GluonCV, besides these": GLUONCV,
}


def find_published_option(name: str) -> str | None:
    """Returns a sentence about the option of a name, for an error message.

    Args:
        name: as typed, with ``-`` or ``_``; None is returned if it is not one of their options.

    >>> find_published_option("learning-rate")
    'the published option learning_rate is optim.lr here'
    """
    name = name.replace("-", "_")
    for options in GROUPS.values():
        if name in options:
            ours, difference = (text.replace("`", "") for text in options[name])
            origin = "GluonCV's" if options is GLUONCV else "the published"
            meaning = f"is {ours} here" if ours else f"has no counterpart here: {difference}"
            return f"{origin} option {name} {meaning}"
    return None
