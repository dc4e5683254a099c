# Starts the ranks of a SLURM job: as many as it has tasks, GPUs or nodes.
#
# The batch scripts source this, and are submitted from the project's folder. Tasks count where sbatch
# was asked for them, else GPUs. The ranks share the CPUs of the job evenly.

ranks=${SLURM_NTASKS:-$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-1}))}
cpus=$((SLURM_NNODES * SLURM_CPUS_ON_NODE / ranks))
if [ "$cpus" -eq 0 ]; then
    echo "error: this job has $SLURM_CPUS_ON_NODE CPUs per node, too few for $ranks ranks on" \
        "$SLURM_NNODES nodes; give sbatch --cpus-per-gpu 8, or --exclusive for whole nodes" >&2
    exit 2
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$cpus}" PYTHONUNBUFFERED=1

start_ranks() { # SCRIPT WORDS...: gives the highest exit code of the ranks
    # When the first one has left, the others have half a minute for it: they may be saving.
    srun --ntasks="$ranks" --cpus-per-task="$cpus" --kill-on-bad-exit=0 --wait=30 \
        python "$@" &
    local step=$!
    # SLURM signals the ranks by itself; what reaches only this shell is passed on by srun, as USR1:
    # of TERM, srun makes KILL.
    trap "kill -USR1 $step" USR1 TERM
    while kill -0 "$step" 2>/dev/null; do # wait ends at a trap, too
        wait "$step"
    done
    wait "$step"
}
