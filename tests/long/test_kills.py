"""A thousand rounds of the kill loop in each mode; goes on where it was stopped (build/kills-MODE.json)."""
import os

import kill_loop
from servers import Tap

ROUNDS = int(os.environ.get('KILLS', '1000'))
SEED = int(os.environ.get('SEED', '1'))


def say(text):
    print('# ' + text.replace('\n', '\n# '), flush=True)


def run(mode):
    kill_loop.run(ROUNDS, SEED, mode, resume=os.path.join(kill_loop.ROOT, f'build/kills-{mode}.json'), say=say)


def at_least_once():
    """case 26, 39: a thousand kills, at least once: nothing lost, no more than the window comes again"""
    run('at-least-once')


def exactly_once():
    """case 26, 39: a thousand kills, exactly once: nothing lost, nothing twice, order kept"""
    run('exactly-once')


Tap().run(at_least_once, exactly_once)
