import os
import signal
import subprocess

from model.training.interruption import stop_requests, stop_signals_blocked


def test_signals_are_collected_and_handlers_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stops:
        assert stops == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stops == [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_started_in_a_blocked_stretch_are_not_stopped():
    sleep = ["sleep", "0.2"]
    with stop_signals_blocked():
        process = subprocess.Popen(sleep)
    process.terminate()
    assert process.wait() == 0
    process = subprocess.Popen(sleep)
    process.terminate()
    assert process.wait() == -signal.SIGTERM
