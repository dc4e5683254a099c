"""Reference of the depth evaluation: pixel by pixel in float64, from the papers."""

import math


def resize(image, height, width):
    """Resizes an image (H, W) bilinearly, with half-pixel centres and border padding."""
    old_height, old_width = len(image), len(image[0])
    result = []
    for y in range(height):
        row = []
        for x in range(width):
            source_y = min(max((y + 0.5) * old_height / height - 0.5, 0), old_height - 1)
            source_x = min(max((x + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            top, left = int(source_y), int(source_x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            dy, dx = source_y - top, source_x - left
            upper = (1 - dx) * float(image[top][left]) + dx * float(image[top][right])
            lower = (1 - dx) * float(image[bottom][left]) + dx * float(image[bottom][right])
            row.append((1 - dy) * upper + dy * lower)
        result.append(row)
    return result


def counts(true, y, x, height, width, protocol):
    """Returns whether the protocol evaluates pixel (x, y), whose ground truth is `true` in m."""
    if protocol == "eigen_benchmark":
        return true > 0
    rows = int(0.40810811 * height) <= y < int(0.99189189 * height)
    columns = int(0.03594771 * width) <= x < int(0.96405229 * width)
    return rows and columns and 1e-3 < true < 80


def middle(values):
    """Returns the median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def evaluate_image(scaled_disparity, ground_truth, protocol, scaling):
    """Returns the seven metrics of one image (H, W), then the ratio of the medians."""
    height, width = ground_truth.shape
    resized = resize(scaled_disparity, height, width)
    pairs = []
    for y in range(height):
        for x in range(width):
            true = float(ground_truth[y, x])
            if counts(true, y, x, height, width, protocol):
                pairs.append((1 / resized[y][x], true))
    ratio = middle([true for _, true in pairs]) / middle([predicted for predicted, _ in pairs])
    factor = ratio if scaling == "median" else scaling
    sums = [0.0] * 7
    for predicted, true in pairs:
        depth = min(max(predicted * factor, 1e-3), 80)
        worse = max(depth / true, true / depth)
        sums[0] += abs(depth - true) / true
        sums[1] += (depth - true) ** 2 / true
        sums[2] += (depth - true) ** 2
        sums[3] += (math.log(depth) - math.log(true)) ** 2
        for power in (1, 2, 3):
            sums[3 + power] += worse < 1.25**power
    means = [total / len(pairs) for total in sums]
    means[2], means[3] = math.sqrt(means[2]), math.sqrt(means[3])
    return [*means, ratio]


def blend_row(plain, mirrored):
    """Applies flip post-processing to one row (W,)."""
    width = len(plain)
    result = []
    for x in range(width):
        left = 1 - min(max(20 * (x / (width - 1) - 0.05), 0), 1)
        right = 1 - min(max(20 * ((width - 1 - x) / (width - 1) - 0.05), 0), 1)
        mean = 0.5 * (plain[x] + mirrored[x])
        result.append(right * plain[x] + left * mirrored[x] + (1 - left - right) * mean)
    return result


def mean_abs_rel(depth_of_row, ground_truths, protocol):
    """Returns abs_rel of one depth per row: the mean over images of the mean over pixels."""
    total = 0.0
    for ground_truth in ground_truths:
        height, width = ground_truth.shape
        errors = [
            abs(depth_of_row[y] - float(ground_truth[y, x])) / float(ground_truth[y, x])
            for y in range(height)
            for x in range(width)
            if counts(ground_truth[y, x], y, x, height, width, protocol)
        ]
        total += sum(errors) / len(errors)
    return total / len(ground_truths)
