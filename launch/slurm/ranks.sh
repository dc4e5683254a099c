# shellcheck shell=bash
# Starts the ranks of a SLURM job: one per task, GPU or node.
#
# Sourced by the batch scripts, which are submitted from the project's folder. There are as many
# ranks as tasks if sbatch was given tasks, else as GPUs. They share the CPUs of the job evenly, and
# run inside an image if CONTAINER names one.

source launch/slurm/container.sh || exit 2
ranks=${SLURM_NTASKS:-$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))}
cpus=$((SLURM_NNODES * SLURM_CPUS_ON_NODE / ranks))
if [ "$cpus" -eq 0 ]; then
    echo "error: this job has $SLURM_CPUS_ON_NODE CPUs per node, too few for $ranks ranks on" \
        "$SLURM_NNODES nodes; pass --cpus-per-gpu 8 to sbatch, or --exclusive for whole nodes" >&2
    exit 2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}" PYTHONUNBUFFERED=1

start_ranks() { # SCRIPT ARGUMENTS...: returns the highest exit code of the ranks
    # After the first rank exits, the others have 30 s: they may be saving a checkpoint.
    srun --ntasks="$ranks" --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=30 \
        "${srun_options[@]}" "${in_container[@]}" python "$@" &
    local step=$!
    # SLURM signals the ranks itself; srun forwards signals that reach only this shell. TERM is
    # forwarded as USR1, because srun turns TERM into KILL.
    trap "kill -USR1 $step" USR1 TERM
    while kill -0 "$step" 2>/dev/null; do # a trap ends wait, too
        wait "$step"
    done
    wait "$step"
}
