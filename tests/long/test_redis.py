"""The Redis tests that take minutes: more kills, an old master that comes back, many moves of slots, a cut after every
byte in both directions."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'e2e'))
from servers import ROOT, Tap
from test_redis import kills
from test_redis_where import cluster, sentinel


def kills_many():
    """case 39: kill -9 of hookline and of Redis, 40 rounds"""
    kills(40)


def old_master():
    """Sentinel: the old master comes back and takes writes that it will drop: with wait none of them counts"""
    sentinel(comes_back=True)


def resharding():
    """Cluster: 20 moves of slots under load"""
    cluster(10)


def every_byte():
    """case 39: the connection is cut after every byte of an exchange, in both directions"""
    program = os.path.join(ROOT, 'build/release/tests/unit/sink/test_redis_once')
    subprocess.run(['make', '-s', program[len(ROOT) + 1:]], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    subprocess.run([program], check=True, env=dict(os.environ, EVERY_BYTE='1'), stdout=subprocess.DEVNULL)


if __name__ == '__main__':
    Tap().run(kills_many, old_master, resharding, every_byte)
