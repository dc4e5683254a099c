import multiprocessing
import subprocess
import threading
import time

from md2dist.parent_process import end_with_parent, holding_termination


def work(is_ready):
    """Starts a thread before the worker is set up, as numerical libraries do."""
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    end_with_parent()
    is_ready.set()
    time.sleep(60)


def test_a_worker_whose_libraries_have_threads_survives_the_signal_of_a_scheduler():
    context = multiprocessing.get_context("spawn")
    is_ready = context.Event()
    worker = context.Process(target=work, args=(is_ready,))
    with holding_termination():
        worker.start()
    assert is_ready.wait(60)
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    worker.join(0.5)
    assert worker.is_alive()
    worker.terminate()  # by its parent
    worker.join(30)
    assert worker.exitcode == 0
