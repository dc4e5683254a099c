"""Reference of the networks: numpy loops in float64 over the published weights, image by image."""

import numpy as np

State = dict[str, np.ndarray]


def convolve(image, weight, bias=None, stride=1, padding=0, mode="constant"):
    """Cross-correlates (C, H, W) with (O, C, k, k), output pixel by output pixel."""
    size = weight.shape[-1]
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode=mode)
    height = (padded.shape[1] - size) // stride + 1
    width = (padded.shape[2] - size) // stride + 1
    output = np.zeros((len(weight), height, width))
    for y in range(height):
        for x in range(width):
            top, left = y * stride, x * stride
            patch = padded[:, top : top + size, left : left + size]
            output[:, y, x] = np.tensordot(weight, patch, axes=3)
    return output if bias is None else output + bias[:, None, None]


def relu(x):
    return np.where(x > 0, x, 0.0)


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0.0)) - 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def max_pool(image):
    """3x3 max pooling of (C, H, W) with stride 2, padded with -inf."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    _, height, width = image.shape
    output = np.zeros((len(image), height // 2, width // 2))
    for y in range(height // 2):
        for x in range(width // 2):
            output[:, y, x] = padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max(axis=(1, 2))
    return output


def normalise(x, state: State, name: str):
    """Batch norm of (C, H, W) in eval mode."""
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    columns = (slice(None), None, None)
    return (x - mean[columns]) / np.sqrt(var[columns] + 1e-5) * weight[columns] + bias[columns]


def resnet_block(x, state: State, name: str, stride: int):
    """ResNet block on (C, H, W): a bottleneck if it has a third convolution, else a basic block."""
    is_bottleneck = f"{name}.conv3.weight" in state
    strides = (1, stride, 1) if is_bottleneck else (stride, 1)
    output = x
    for index, own_stride in enumerate(strides, start=1):
        weight = state[f"{name}.conv{index}.weight"]
        output = convolve(output, weight, stride=own_stride, padding=weight.shape[-1] // 2)
        output = normalise(output, state, f"{name}.bn{index}")
        if index < len(strides):
            output = relu(output)
    if f"{name}.downsample.0.weight" in state:
        x = convolve(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = normalise(x, state, f"{name}.downsample.1")
    return relu(output + x)


def resnet_features(image, state: State, num_blocks):
    """Returns five features of an image (3 or 6, H, W) in [0, 1]; keys as in torchvision."""
    x = convolve((image - 0.45) / 0.225, state["conv1.weight"], stride=2, padding=3)
    features = [relu(normalise(x, state, "bn1"))]
    x = max_pool(features[0])
    for stage, number in enumerate(num_blocks, start=1):
        for block in range(number):
            stride = 2 if stage > 1 and block == 0 else 1
            x = resnet_block(x, state, f"layer{stage}.{block}", stride)
        features.append(x)
    return features


def depth_maps(features, state: State):
    """Returns disparities (1, h, w) at four scales; keys as in the published depth.pth."""
    x = features[4]
    heads = {}
    for level in (4, 3, 2, 1, 0):
        first = 2 * (4 - level)
        x = elu(_reflect(x, state, f"decoder.{first}.conv.conv"))
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        if level > 0:
            x = np.concatenate((x, features[level - 1]))
        x = elu(_reflect(x, state, f"decoder.{first + 1}.conv.conv"))
        if level < 4:
            heads[level] = sigmoid(_reflect(x, state, f"decoder.{10 + level}.conv"))
    return [heads[scale] for scale in range(4)]


def pose(features, state: State):
    """Returns axis-angle (3,) and translation (3,) of a pair; keys as in the published pose.pth.

    Features (C, h, w): one of both images, or one of each.
    """
    squeezed = [relu(convolve(x, state["net.0.weight"], state["net.0.bias"])) for x in features]
    x = np.concatenate(squeezed)
    x = relu(convolve(x, state["net.1.weight"], state["net.1.bias"], padding=1))
    x = relu(convolve(x, state["net.2.weight"], state["net.2.bias"], padding=1))
    x = convolve(x, state["net.3.weight"], state["net.3.bias"])
    motion = 0.01 * x.mean(axis=(1, 2))
    return motion[:3], motion[3:6]


def pose_cnn(pair, state: State):
    """Returns axis-angle (3,) and translation (3,) of a pair of images (6, H, W)."""
    x = pair
    for index, size in enumerate((7, 5, 3, 3, 3, 3, 3)):
        weight, bias = state[f"convs.{index}.weight"], state[f"convs.{index}.bias"]
        assert weight.shape[-1] == size
        x = relu(convolve(x, weight, bias, stride=2, padding=(size - 1) // 2))
    motion = 0.01 * convolve(x, state["head.weight"], state["head.bias"]).mean(axis=(1, 2))
    return motion[:3], motion[3:]


def _reflect(x, state: State, name: str):
    return convolve(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1, mode="reflect")
