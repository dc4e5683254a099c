"""Typed, frozen schema of all settings, with their defaults.

The comment of a field states its meaning, its unit and, where there is one, the published value.
"""

from dataclasses import dataclass, field
from typing import Literal

SMALLEST_SIZE = 64  # rows or columns; below, features of size 1 cannot be reflection-padded
NETWORK_NAMES = ("encoder", "depth", "pose_encoder", "pose", "mask")
MAX_PIXELS = 1 << 21  # of the networks' images, which bounds the memory of a stranger's run

Precision = Literal["auto", "fp32", "bf16", "fp16"]
NumLayers = Literal[18, 34, 50, 101, 152]
PoseType = Literal["separate_resnet", "shared", "posecnn"]
Schedule = Literal["step", "cosine"]
ResumeMode = Literal["auto", "must", "never"]
WandbMode = Literal["auto", "online", "offline", "disabled"]


@dataclass(frozen=True)
class DataConfig:
    """Training and validation shards, their views, and how they are loaded."""

    train_shards: str | None = None  # training shards: folder, or http(s)://, s3://, pipe: address
    val_shards: tuple[str, ...] = ()  # validation shards with ground truth; the first decides best
    height: int = 192  # height of the images in pixels, divisible by 32 (published: 192)
    width: int = 640  # width of the images in pixels, divisible by 32 (published: 640)
    frame_offsets: tuple[int, ...] = (-1, 1)  # offsets of the source frames, ascending, without 0
    use_stereo: bool = False  # use the other camera as a source (published: true for S and MS)
    use_flip: bool = True  # mirror each sample with probability 0.5 (published: true)
    use_color_jitter: bool = True  # jitter colours with probability 0.5 (published: true)
    use_true_intrinsics: bool = False  # calibrated K, not fx=0.58 W, fy=1.92 H (published: false)
    num_workers: int | None = None  # loader processes per rank; null: 4, or 1 per core if fewer
    window_shards: int = 16  # number of shards that are shuffled together
    prefetch_batches: int = 4  # micro-batches that each worker prefetches
    cache_dir: str | None = None  # cache folder of shards; null: temporary folder, only for URLs
    cache_gb: float = 50.0  # size limit of the cache in GB, for all ranks of a node together


@dataclass(frozen=True)
class NetworkConfig:
    """The encoders and their initial weights."""

    encoder: str = "resnet"  # depth encoder: resnet, or a model of timm, e.g. timm:convnext_tiny
    num_layers: NumLayers = 18  # depth of the ResNet encoders (published: 18)
    pose_type: PoseType = "separate_resnet"  # pose network; shared: uses the depth encoder
    pose_num_layers: NumLayers | None = None  # depth of the pose encoder; null: num_layers
    weights: str = "imagenet"  # encoder weights: scratch, imagenet (torchvision, timm), path or URL
    init_from: str | None = None  # initial model: run, checkpoint, weights, or a published name
    init_networks: tuple[str, ...] = ()  # networks read from init_from, [encoder,depth]; []: all
    use_sync_batchnorm: bool = False  # batch norm statistics over all ranks (published: one GPU)
    freeze_batchnorm: bool = False  # keep batch norm in eval mode (published: false)


@dataclass(frozen=True)
class LossConfig:
    """Loss function; the defaults are the published method."""

    min_depth: float = 0.1  # depth at disparity 1 in m (published: 0.1)
    max_depth: float = 100.0  # depth at disparity 0 in m (published: 100)
    smoothness_weight: float = 1e-3  # weight at scale 0, halved per further scale (published: 1e-3)
    tie_noise: float = 1e-5  # std of the random noise on the identity error (published: 1e-5)
    use_ssim: bool = True  # photometric error 0.85 SSIM + 0.15 L1; false: L1 only (published: true)
    use_auto_mask: bool = True  # auto-masking: unwarped sources join the minimum (published: true)
    use_average: bool = False  # mean over the sources instead of the minimum (published: false)
    use_v1_multiscale: bool = False  # photometric error at each scale's resolution
    use_predictive_mask: bool = False  # learned mask weights the error; needs use_auto_mask=false


@dataclass(frozen=True)
class OptimConfig:
    """Adam, its learning rate schedule, and the batch size."""

    lr: float = 1e-4  # learning rate of Adam, which the schedule lowers (published: 1e-4)
    weight_decay: float = 0.0  # AdamW's decoupled decay of all parameters; 0: Adam (published: 0)
    schedule: Schedule = "step"  # step: drops by lr_drop_*; cosine: to 0 over all steps
    lr_batch_size: int | None = None  # scale lr by global batch size / this value; null: no scaling
    warmup_steps: int = 0  # steps over which the learning rate rises linearly (published: 0)
    lr_drop_epoch: int = 15  # epochs before the learning rate drops (published: 15)
    lr_drop_every: int | None = None  # epochs between two drops, in place of lr_drop_epoch
    lr_drop_factor: float = 0.1  # factor by which the learning rate drops (published: 0.1)
    num_epochs: int = 20  # length of the run in epochs (published: 20; from scratch 30)
    max_steps: int | None = None  # upper limit of the run in optimizer steps; null: num_epochs only
    micro_batch_size: int = 12  # samples per forward pass of one rank (published: 12 on one GPU)
    grad_accum_steps: int | None = None  # forward passes a step; null: from global_batch_size, or 1
    global_batch_size: int | None = None  # samples per step; null: micro x accumulation x ranks
    max_skipped_steps: int = 20  # consecutive steps with non-finite gradients that end the run


@dataclass(frozen=True)
class PrecisionConfig:
    """Precision of the networks; output layers, geometry and loss are always float32."""

    dtype: Precision = "auto"  # auto: bf16 if the hardware supports it, else fp32 (published: fp32)
    compile: bool = False  # compile the step with torch.compile; the first one takes minutes
    initial_loss_scale: float = 65536.0  # initial value of the dynamic loss scale, fp16 only


@dataclass(frozen=True)
class DeepspeedConfig:
    """DeepSpeed options other than batch size and precision."""

    zero_stage: Literal[0, 1, 2] = 0  # ZeRO: 1 partitions optimizer states, 2 also gradients
    gradient_dtype: Literal["fp32", "bf16"] = "fp32"  # bf16: half the traffic between ranks


@dataclass(frozen=True)
class CheckpointConfig:
    """Schedule of checkpoints and validations, early stopping, and the resume of a run."""

    every_steps: int | None = None  # steps between checkpoints, in addition to one per epoch
    keep: int = 3  # number of newest checkpoints to keep
    keep_epochs: tuple[int, ...] = ()  # epochs, from 0, whose last checkpoint is kept for good
    validate_every_steps: int | None = None  # steps between validations, besides one per epoch
    use_flip_postprocess: bool = False  # validate with flip post-processing (published: false)
    patience: int | None = None  # validations without a new best that end the run; null: any number
    resume: ResumeMode = "auto"  # auto: if a checkpoint exists; must: fail without; never: restart


@dataclass(frozen=True)
class LogConfig:
    """Outputs of a run, W&B logging, and the hang timeout."""

    run_dir: str = "runs/default"  # output folder: settings, metrics, status, checkpoints, logs
    wandb_mode: WandbMode = "auto"  # auto: WANDB_MODE, or online if logged in to W&B, else offline
    wandb_project: str = "md2dist"  # W&B project; WANDB_PROJECT overrides this default
    wandb_worst: int = 8  # worst validation images in a table of W&B; 0: none
    wandb_artifacts: bool = False  # each checkpoint as a W&B artifact, by reference
    wandb_system: bool = False  # CPU, memory and GPUs of all nodes in W&B
    every_steps: int = 10  # steps between two log lines
    pictures_every_steps: int = 500  # steps between two pictures; 0: none
    val_pictures: int = 2  # validation images of which each validation keeps a small picture
    hang_timeout_s: float = 600.0  # s without progress until all stacks are dumped and the job ends


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    deepspeed: DeepspeedConfig = field(default_factory=DeepspeedConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    seed: int = 0  # random seed of initial weights, data order, augmentation and noise
