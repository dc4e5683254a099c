"""Exports the ground truth of shards as gt_depths.npz, which scripts beside Monodepth2 read."""

from md2dist.commands.export_ground_truth import main
from md2dist.console import run_command

if __name__ == "__main__":
    run_command(main)
