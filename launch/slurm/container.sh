# shellcheck shell=bash
# Sets the words that run a command inside the image that CONTAINER names; none without CONTAINER.
#
# CONTAINER is a file of Apptainer (.sif), or an image that the cluster's pyxis plugin of srun finds.
# The current folder is visible at its own path; CONTAINER_MOUNTS names more, as /OUTSIDE:/INSIDE,...

srun_options=() in_container=()
mounts=$PWD:$PWD${CONTAINER_MOUNTS:+,$CONTAINER_MOUNTS}
case ${CONTAINER:-} in
"") ;;
*.sif) in_container=(apptainer exec --nv --bind "$mounts" --pwd "$PWD" "$CONTAINER") ;;
*)
    srun_options=(--container-image "$CONTAINER" --container-mounts "$mounts"
        --container-workdir "$PWD")
    ;;
esac
