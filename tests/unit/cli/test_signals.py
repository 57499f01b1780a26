"""A signal is heeded wherever it comes in."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lakeflow.cli.signals import StopSignals


def test_a_signal_that_comes_to_another_thread_is_heeded_while_the_main_one_waits() -> None:
    def until_stopped() -> bool:
        time.sleep(0.1)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        end = time.monotonic() + 5
        while not signals.requested() and time.monotonic() < end:
            time.sleep(0.01)
        return signals.requested()

    with StopSignals() as signals, ThreadPoolExecutor(1) as pool:
        assert signals.results([pool.submit(until_stopped)]) == [True]
    assert signals.exit_code == 128 + signal.SIGTERM


def test_results_are_in_the_order_of_the_futures() -> None:
    with StopSignals() as signals, ThreadPoolExecutor(2) as pool:
        numbers = [pool.submit(pow, base, 2) for base in (3, 1, 2)]
        assert signals.results(numbers) == [9, 1, 4]
    assert signals.exit_code == 0
