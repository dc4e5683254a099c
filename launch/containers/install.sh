#!/bin/sh
# Installs md2dist from the current folder into /usr/local/md2dist, inside an image of Ubuntu 24.04.
#
# Used by Dockerfile and md2dist.def. torch brings CUDA's libraries; Triton, which torch may use, needs
# a C compiler and Python's headers; deepspeed starts other nodes with pdsh over ssh.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install --yes --no-install-recommends \
    gcc libc6-dev openssh-client pdsh python3 python3-dev python3-venv
rm -rf /var/lib/apt/lists/*
python3 -m venv /usr/local/md2dist
/usr/local/md2dist/bin/pip install --no-cache-dir --constraint constraints.txt ".[s3]"
/usr/local/md2dist/bin/md2dist --help >/dev/null
