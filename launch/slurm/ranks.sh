# Starts the ranks of a SLURM job: one per task, GPU or node.
#
# Sourced by the batch scripts, which are submitted from the project's folder. The number of ranks
# is the number of tasks if sbatch was given one, else of GPUs, else of nodes. The job's CPUs are
# divided evenly among the ranks.

ranks=${SLURM_NTASKS:-$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))}
cpus=$((SLURM_NNODES * SLURM_CPUS_ON_NODE / ranks))
if [ "$cpus" -eq 0 ]; then
    echo "error: this job has $SLURM_CPUS_ON_NODE CPUs per node, too few for $ranks ranks on" \
        "$SLURM_NNODES nodes; pass --cpus-per-gpu 8 to sbatch, or --exclusive for whole nodes" >&2
    exit 2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}" PYTHONUNBUFFERED=1

start_ranks() { # SCRIPT WORDS...: returns the highest exit code of the ranks
    # After the first rank exits, the others have 30 seconds to exit: they may be saving.
    srun --ntasks="$ranks" --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=30 \
        python "$@" &
    local step=$!
    # SLURM signals the ranks directly; signals that reach only this shell are forwarded through
    # srun as USR1, because srun turns TERM into KILL.
    trap "kill -USR1 $step" USR1 TERM
    while kill -0 "$step" 2>/dev/null; do # wait also returns after a trap
        wait "$step"
    done
    wait "$step"
}
