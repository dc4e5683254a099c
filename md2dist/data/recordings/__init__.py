"""Recordings of one's own: folders of frames and videos, each with a small `camera.yaml`."""
