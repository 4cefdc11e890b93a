"""Two processes on two copies of one folder, Kafka and Redis exactly once: what an orchestrator does that restores a snapshot
while the original still runs, and starts both again whenever they end (P7)."""
import contextlib
import os
import shutil
import subprocess

from client import from_kafka, post, signed
from servers import HOOKLINE, Hookline, Kafka, Redis, Tap, stop_all, until

SINKS = ('k', 'r')


class Supervised(Hookline):
    """Started again whenever it ends. `sent` are the ids of what it has acknowledged."""

    def __init__(self, name, sinks):
        super().__init__(sinks)
        self.name, self.sent, self.codes = name, [], []

    def tend(self):
        """One webhook more, if it serves; else it is started again."""
        if self.p is not None and self.p.poll() is None:
            ident = f'{self.name}{len(self.sent)}'
            with contextlib.suppress(OSError):  # it ended meanwhile: not acknowledged
                answer = post(self.port, signed(ident, b'{}'))
                if answer and answer[0] == 200:
                    self.sent.append(ident)
            return
        if self.p is not None:
            self.codes.append(self.p.returncode)
            self.p = None
        try:
            self.start()
        except RuntimeError:
            self.codes.append(self.p.returncode)
            self.p = None

    def diverged(self, sink):
        return 'diverged' in self.status()['sinks'][sink]['reason']

    def stopped(self):
        """Fenced, and refused at two starts since; or the other was faster at both sinks, and nothing more goes out."""
        if self.p is None:
            return os.path.exists(f'{self.dir}/data/FENCED') and self.codes[-3:] == [75, 75, 75]
        with contextlib.suppress(OSError):
            return all(self.diverged(s) for s in SINKS)
        return False

    def fork(self):
        subprocess.run([HOOKLINE, 'log', 'fork', f'{self.dir}/data'], check=True, stdout=subprocess.DEVNULL)


def both_are_served():
    """an atomic copy beside its original, other webhooks to each, Kafka and Redis: one stops for good, none is skipped; forked, all are there"""
    kafka, redis = Kafka().start(), Redis().start()
    kafka.create('copies')
    sinks = f"""  k: {{ kafka: {{ brokers: "{kafka.broker}", topic: copies }}, delivery: exactly-once }}
  r: {{ redis: {{ url: "unix:{redis.socket}", stream: copies }}, delivery: exactly-once }}"""
    a, b = Supervised('a', sinks), Supervised('b', sinks)
    try:
        a.start()
        for _ in range(20):
            a.tend()
        until('all is delivered', lambda: all(a.drained(s) for s in SINKS))
        a.pause()
        shutil.copytree(f'{a.dir}/data', f'{b.dir}/data')
        a.resume()
        b.start()

        def one_has_stopped():
            a.tend()
            b.tend()
            return a.stopped() or b.stopped()
        until('one of them has stopped for good', one_has_stopped)
        lost, kept = (a, b) if a.stopped() else (b, a)
        for _ in range(20):
            kept.tend()
        assert not kept.codes, kept.codes
        until('each of its sinks runs, or says why not', lambda: all(kept.drained(s) or kept.diverged(s) for s in SINKS))
        behind = any(kept.diverged(s) for s in SINKS)  # the other was faster at one of them
        for x in (lost, kept):
            x.stop()
        assert len(a.sent) > 20 and b.sent
        for x in (lost, kept) if behind else (lost,):
            x.fork()
        for x in (lost, kept):
            x.start()
            until('all is delivered', lambda: all(x.drained(s) for s in SINKS))
        want = sorted(a.sent + b.sent)
        in_redis = [f['id'].decode() for _, f in redis.entries('copies')]
        assert sorted(in_redis) == want, (in_redis, want)
        in_kafka = [m[0] for m in from_kafka(kafka, 'copies')]
        assert sorted(in_kafka) == want, (in_kafka, want)
        for x in (a, b):
            for got in (in_redis, in_kafka):
                assert [i for i in got if i in x.sent] == x.sent
    finally:
        stop_all(a, b, redis, kafka)


if __name__ == '__main__':
    Tap().run(both_are_served)
