"""The audit: what a client sent and was told, held against what its sinks hold.

A history is a sequence of dicts, one for each thing that happened, in order:

    {"event": "sent", "source": "demo", "id": "msg_1", "key": "job-7", "sha256": "...", "time": 1764.2}
    {"event": "acked", "source": "demo", "id": "msg_1", "lsn": 42, "time": ...}       a 2xx; lsn as answered, may be left out
    {"event": "rejected", "source": "demo", "id": "msg_1", "status": 401, "time": ...}       a 4xx
    {"event": "indeterminate", "source": "demo", "id": "msg_1", "status": 503, "time": ...}  a 5xx, or no answer (status null)
    {"event": "fault", "what": "kill -9 hookline", "time": ...}

What was sent and has no answer in the history is indeterminate too. `source` may be left out everywhere: then ids are
unique by themselves. A dump is a sequence of dicts, one for each thing that a sink holds, those of one place in its order:

    {"sink": "kafka", "place": "hooks.demo/0", "at": "17", "source": "demo", "id": "msg_1", "key": "job-7", "log": "0b7e...",
     "lsn": 42, "sha256": "..."}

`key` is null where the whole place keeps one order (a Redis stream). "dead": true marks an entry of the sink's dead-letter
log, whose sha256 may be null where the bytes were not read; "replay": "..." one that was sent again on purpose.

The six properties:
  1. what was acknowledged is in every sink, or in its dead letters;
  2. what is in a sink was sent, with the same bytes and key, under one LSN, the one that was answered;
  3. for each key the first deliveries are in the order of the log;
  4. exactly once: nothing is there twice. At least once: no more than the window came again for each fault, and nothing
     from further back than the window;
  5. nothing is there that was only ever refused with a 4xx;
  6. what had a 5xx or no answer may be there or not, and is only counted. All other properties hold for it."""
import bisect

PROPERTIES = {
    1: 'acknowledged is delivered or a dead letter',
    2: 'delivered is what was sent',
    3: 'the order of each key is that of the log',
    4: 'repeats are within what is allowed',
    5: 'refused is not delivered',
    6: 'indeterminate may be either',
}
SHOWN = 5


class History:
    """What became of each id, read from the lines of a history."""

    def __init__(self, lines):
        self.sent, self.acked, self.rejected, self.unsure, self.faults = {}, {}, {}, set(), []
        for line in lines:
            self.take(line)

    def take(self, line):
        event = line['event']
        if event == 'fault':
            self.faults.append(line['what'])
            return
        ident = line.get('source') or '', line['id']
        if event == 'sent':
            self.sent[ident] = line['sha256'], line.get('key')
        elif event == 'acked':
            self.acked[ident] = line.get('lsn')
        elif event == 'rejected':
            self.rejected[ident] = line['status']
        elif event == 'indeterminate':
            self.unsure.add(ident)
        else:
            raise ValueError(f'no such event in a history: {event}')

    def indeterminate(self):
        return {i for i in self.sent if i not in self.acked and (i in self.unsure or i not in self.rejected)}

    def refused(self, ident):
        """The 4xx that was the only kind of answer it ever had."""
        return None if ident in self.acked or ident in self.unsure else self.rejected.get(ident)


class Place:
    """One partition, or one stream."""

    def __init__(self):
        self.last = {}  # of each log and key: the LSN of its latest first delivery
        self.lsns = {}  # of each log: what was delivered here, rising

    def behind(self, log, lsn):
        """How many events that were delivered here before lie behind this LSN in the log."""
        seen = self.lsns[log]
        return len(seen) - bisect.bisect_left(seen, lsn)


class Sink:
    def __init__(self, name):
        self.name, self.first, self.dead, self.places = name, {}, {}, {}
        self.delivered = self.repeats = self.replayed = self.furthest = 0
        self.lsn_of = {}  # (log, lsn) -> id


class Verdict:
    def __init__(self, history, exactly_once, window):
        self.history, self.exactly_once, self.window = history, exactly_once, window
        self.sinks = {}
        self.offences = {n: [] for n in PROPERTIES}

    @property
    def good(self):
        return not any(self.offences.values())

    def offend(self, prop, text):
        self.offences[prop].append(text)

    def take(self, d):
        sink = self.sinks.setdefault(d['sink'], Sink(d['sink']))
        if not d.get('id'):
            self.offend(2, f'{sink.name}: {d.get("place")} at {d.get("at")} holds something that has no id')
            return
        ident = d.get('source') or '', d['id']
        if ident not in self.history.sent and ('', d['id']) in self.history.sent:
            ident = '', d['id']  # a history without sources
        where = f'{sink.name}: {d["id"]} (LSN {d["lsn"]}, {"dead letters" if d.get("dead") else d["place"]} at {d.get("at")})'
        self.same_as_sent(sink, d, ident, where)
        status = self.history.refused(ident)
        if status is not None:
            self.offend(5, f'{where} was refused with {status}')
        if d.get('dead'):
            sink.dead[ident] = d['lsn']
        elif d.get('replay'):
            sink.replayed += 1
        else:
            sink.delivered += 1
            self.place(sink, d, ident, where)

    def same_as_sent(self, sink, d, ident, where):
        if ident not in self.history.sent:
            self.offend(2, f'{where} was never sent')
            return
        sha256, key = self.history.sent[ident]
        if d['sha256'] not in (sha256, None):
            self.offend(2, f'{where} came with other bytes')
        if key and d.get('key') is not None and d['key'] != key:
            self.offend(2, f'{where} came with the key {d["key"]} instead of {key}')
        answered = self.history.acked.get(ident)
        if answered is not None and answered != d['lsn']:
            self.offend(2, f'{where} was answered LSN {answered}')
        if sink.lsn_of.setdefault((d.get('log'), d['lsn']), ident) != ident:
            self.offend(2, f'{where} has the LSN of {sink.lsn_of[d.get("log"), d["lsn"]][1]}')

    def place(self, sink, d, ident, where):
        log, lsn = d.get('log'), d['lsn']
        place = sink.places.setdefault(d['place'], Place())
        if ident in sink.first:
            self.again(sink, place, ident, log, lsn, where)
            return
        sink.first[ident] = log, lsn
        key = log, d.get('key')
        if lsn <= place.last.get(key, -1):
            self.offend(3, f'{where} came first behind LSN {place.last[key]} of the key {d.get("key")}')
        place.last[key] = max(lsn, place.last.get(key, -1))
        bisect.insort(place.lsns.setdefault(log, []), lsn)

    def again(self, sink, place, ident, log, lsn, where):
        sink.repeats += 1
        if sink.first[ident] != (log, lsn):
            self.offend(2, f'{where} was delivered as LSN {sink.first[ident][1]} before')
        if self.exactly_once:
            self.offend(4, f'{where} came again')
            return
        back = place.behind(log, lsn) if log in place.lsns else 0
        sink.furthest = max(sink.furthest, back)
        if back > self.window:
            self.offend(4, f'{where} came again from {back} events back, the window is {self.window}')

    def close(self):
        h = self.history
        for sink in self.sinks.values():
            for ident, lsn in h.acked.items():
                if ident not in sink.first and ident not in sink.dead:
                    self.offend(1, f'{sink.name}: {ident[1]} (LSN {lsn}) was acknowledged and is not there')
            allowed = self.window * len(h.faults)
            if not self.exactly_once and sink.repeats > allowed:
                self.offend(4, f'{sink.name}: {sink.repeats} came again, {allowed} may after {len(h.faults)} faults')
        return self

    def lines(self):
        h = self.history
        unsure = h.indeterminate()
        refused = sum(h.refused(i) is not None for i in h.sent)
        yield (f'history: {len(h.sent)} sent, {len(h.acked)} acknowledged, {refused} refused, '
               f'{len(unsure)} indeterminate, {len(h.faults)} faults')
        for s in self.sinks.values():
            there = sum(i in s.first or i in s.dead for i in h.acked)
            yield (f'{s.name}: {s.delivered} delivered in {len(s.places)} places, {there} of {len(h.acked)} acknowledged, '
                   f'{sum(i in s.first for i in unsure)} of {len(unsure)} indeterminate, {s.repeats} came again'
                   + (f' from at most {s.furthest} back' if s.repeats and not self.exactly_once else '')
                   + f', {len(s.dead)} dead, {s.replayed} replayed')
        for n, text in PROPERTIES.items():
            bad = self.offences[n]
            yield f'{n}. {text}: ' + (f'VIOLATED, {len(bad)} times' if bad else 'kept')
            yield from ('   ' + line for line in bad[:SHOWN])
        yield 'verdict: ' + ('good' if self.good else 'BAD')


def judge(history, deliveries, exactly_once=False, window=10000, sinks=()):
    """The verdict on the lines of a history and of dumps. `sinks` names those that must be there even if they are empty."""
    v = Verdict(history if isinstance(history, History) else History(history), exactly_once, window)
    for name in sinks:
        v.sinks[name] = Sink(name)
    for d in deliveries:
        v.take(d)
    return v.close()
