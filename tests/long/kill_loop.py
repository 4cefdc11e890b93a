#!/usr/bin/env python3
"""Kills hookline, Redis and Kafka at random moments under load, again and again, and has the audit judge what is left.

A real broker and a real Redis (every write synced). Of twenty rounds sixteen kill hookline, three Redis, one Kafka or
all three, with kill -9; in three of the sixteen a server stands still (SIGSTOP) while hookline dies and starts. After a
block of rounds the load stops, the sinks drain, and the audit reads what they got since the last block.

What a round does follows from the seed and its number; moments are those of a clock. --resume FILE keeps the rounds that
were judged, and goes on behind them. Ends with 1 at the first block that is not as promised, and leaves its history and
dumps in build/kill-loop for tests/audit/audit."""
import argparse
import json
import os
import random
import signal
import sys
import time

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, 'tests/e2e'), os.path.join(ROOT, 'tests/audit')]
import dumps  # noqa: E402
from client import Load  # noqa: E402
from servers import Hookline, Kafka, Redis, stop_all, until  # noqa: E402
from verdict import History, judge  # noqa: E402

WINDOW = 500
TOPIC, STREAM, PARTITIONS = 'kills', 'hooks:demo', 3
DECK = ['hookline'] * 13 + ['frozen'] * 3 + ['redis'] * 3
RARE = ['kafka', 'together', 'kafka', 'hookline and kafka', 'kafka']
LEFT = os.path.join(ROOT, 'build/kill-loop')


def kind_of(seed, n):
    """What round n kills: a deck of twenty for twenty rounds, shuffled."""
    deck = DECK + [RARE[n // 20 % len(RARE)]]
    random.Random(f'{seed}/deck/{n // 20}').shuffle(deck)
    return deck[n % 20]


class Loop:
    def __init__(self, seed, mode, say=print):
        self.seed, self.mode, self.say = seed, mode, say
        self.redis = Redis('--appendonly', 'yes', '--appendfsync', 'always')
        self.kafka = Kafka()
        self.hookline = self.load = None
        self.offsets, self.entry = {p: -1 for p in range(PARTITIONS)}, '0-0'
        self.before = []  # at least once: a kill may repeat what the last block ended with
        self.slowest = 0

    def __enter__(self):
        self.redis.start()
        self.kafka.start()
        more = f', delivery: {self.mode}, in_flight: {{ events: {WINDOW} }}'
        self.hookline = Hookline(f"""  k: {{ kafka: {{ brokers: "{self.kafka.broker}", topic: {TOPIC}, create: {{ partitions: {PARTITIONS} }},
       properties: {{ reconnect.backoff.max.ms: 500 }} }}{more} }}
  r: {{ redis: {{ url: "unix:{self.redis.socket}" }}{more} }}""").start()
        return self

    def __exit__(self, *_):
        if self.load:
            self.load.stop()
        stop_all(self.hookline, self.redis, self.kafka)

    def kill(self, name):
        self.load.fault(f'kill -9 {name}')
        getattr(self, name).kill()

    def start(self, name):
        began = time.monotonic()
        getattr(self, name).start()
        if name == 'hookline':
            self.slowest = max(self.slowest, time.monotonic() - began)

    def frozen(self, rng):
        """hookline dies and starts while a server stands still"""
        still = rng.choice([[self.kafka], [self.redis], [self.kafka, self.redis]])
        for server in still:
            self.load.fault('SIGSTOP')
            server.pause()
        try:
            time.sleep(rng.uniform(0, 1))
            self.kill('hookline')
            self.start('hookline')
            time.sleep(rng.uniform(0, 1))
        finally:
            for server in still:
                server.resume()

    def round(self, n):
        rng, kind = random.Random(f'{self.seed}/{n}'), kind_of(self.seed, n)
        time.sleep(rng.uniform(0.02, 0.8))
        if kind == 'frozen':
            self.frozen(rng)
            return kind
        names = {'together': ['hookline', 'redis', 'kafka'], 'hookline and kafka': ['hookline', 'kafka']}.get(kind, [kind])
        for order, then in ((rng.sample(names, len(names)), self.kill), (rng.sample(names, len(names)), self.start)):
            for name in order:
                then(name)
                time.sleep(rng.uniform(0, 0.05))
        return kind

    def block(self, first, count):
        """Some rounds and the verdict on them."""
        self.load = Load(self.hookline.port, connections=8, keys=20, gap=0.004)
        kinds = [self.round(n) for n in range(first, first + count)]
        self.load.stop()
        for sink in 'k', 'r':
            try:
                until(f'{sink} has all', lambda: self.hookline.drained(sink), 180)
            except TimeoutError:
                self.say(json.dumps(self.hookline.status()['sinks']) + '\n' + self.hookline.text('log')[-4000:])
                raise
        history, held = list(self.load.history()), self.dumps()
        v = judge(History(self.before + history), held, self.mode == 'exactly-once', WINDOW, ['k', 'r'])
        if not v.good:
            self.leave(self.before + history, held)
        self.before = [h for h in history if h['event'] == 'sent'] if self.mode != 'exactly-once' else []
        return kinds, v

    def dumps(self):
        """What came since the last block; it is taken out of Redis, so that the server stays small."""
        k = list(dumps.from_kafka(self.kafka.broker, TOPIC, self.offsets, sink='k'))
        for d in k:
            self.offsets[int(d['place'].rsplit('/', 1)[1])] = int(d['at'])
        r = list(dumps.from_redis(f'unix:{self.redis.socket}', STREAM, self.entry, sink='r'))
        if r:
            self.entry = r[-1]['at']
            self.redis('XTRIM', STREAM, 'MAXLEN', 0)
        return k + r

    def leave(self, history, held):
        os.makedirs(LEFT, exist_ok=True)
        for name, lines in (('history', history), ('dump', held)):
            with open(os.path.join(LEFT, name), 'w') as f:
                f.writelines(json.dumps(x) + '\n' for x in lines)
        with open(os.path.join(LEFT, 'log'), 'w') as f:
            f.write(self.hookline.text('log'))


def remembered(path, seed, mode):
    """The rounds that a file says were judged, with their totals; the file must be of the same run."""
    new = {'seed': seed, 'mode': mode, 'done': 0, 'kinds': {}, 'acked': 0, 'repeats': {'k': 0, 'r': 0}, 'seconds': 0, 'slowest_start': 0}
    if not path or not os.path.exists(path):
        return new
    with open(path) as f:
        old = json.load(f)
    if (old['seed'], old['mode']) != (seed, mode):
        raise SystemExit(f'{path} is of seed {old["seed"]}, {old["mode"]}')
    return old


def remember(path, state):
    if path:
        with open(path + '.new', 'w') as f:
            json.dump(state, f)
        os.replace(path + '.new', path)


def run(rounds, seed, mode, block=20, resume=None, say=print):
    """Returns the totals; raises AssertionError with the verdict of the first block that is bad."""
    state = remembered(resume, seed, mode)
    if state['done'] >= rounds:
        return state
    with Loop(seed, mode, say) as loop:
        while state['done'] < rounds:
            began, count = time.monotonic(), min(block, rounds - state['done'])
            kinds, v = loop.block(state['done'], count)
            if not v.good:
                raise AssertionError(f'seed {seed}, rounds {state["done"]} to {state["done"] + count - 1} '
                                     f'({", ".join(kinds)}):\n' + '\n'.join(v.lines()))
            for kind in kinds:
                state['kinds'][kind] = state['kinds'].get(kind, 0) + 1
            for name in state['repeats']:
                state['repeats'][name] += v.sinks[name].repeats
            state['acked'] += len(v.history.acked)
            state['done'] += count
            state['seconds'] = round(state['seconds'] + time.monotonic() - began, 1)
            state['slowest_start'] = round(max(state['slowest_start'], loop.slowest), 2)
            remember(resume, state)
            say(summary(state))
    return state


def summary(s):
    return (f'{s["mode"]}, seed {s["seed"]}: {s["done"]} rounds in {s["seconds"]:.0f} s, {s["acked"]} acknowledged, 0 lost, came '
            f'again: Kafka {s["repeats"]["k"]}, Redis {s["repeats"]["r"]}; slowest start {s["slowest_start"]} s; '
            + ', '.join(f'{n} {k}' for k, n in sorted(s['kinds'].items())))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rounds', type=int, default=1000)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--resume', metavar='FILE')
    p.add_argument('--mode', choices=['at-least-once', 'exactly-once'], default='exactly-once')
    p.add_argument('--block', type=int, default=20, help='rounds between two verdicts')
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and what was started is stopped
    try:
        run(a.rounds, a.seed, a.mode, a.block, a.resume, lambda text: print(text, flush=True))
    except AssertionError as e:
        print(e, flush=True)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
