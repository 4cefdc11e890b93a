"""case 26: kill -9 of hookline, Redis and Kafka at random moments under load, and the audit's verdict. KILLS (8) of them;
tests/long has a thousand."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'long'))
import kill_loop  # noqa: E402
from servers import Tap  # noqa: E402

ROUNDS = int(os.environ.get('KILLS', os.environ.get('ROUNDS', '8')))
SEED = 9  # its first eight rounds kill each of the three and have a server stand still


def say(text):
    print('# ' + text.replace('\n', '\n# '), flush=True)


def at_least_once():
    """case 26, 39: kill -9 of everything, at least once: nothing lost, no more than the window comes again"""
    kill_loop.run(ROUNDS, SEED, 'at-least-once', say=say)


def exactly_once():
    """case 26, 39: kill -9 of everything, exactly once: nothing lost, nothing twice, order kept"""
    kill_loop.run(ROUNDS, SEED, 'exactly-once', say=say)


Tap().run(at_least_once, exactly_once)
