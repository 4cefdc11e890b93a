"""Tracing: the traceparent that came or a new one goes everywhere with the event; spans reach a collector that takes them, and
one that is away, hangs or refuses holds up nothing."""
import http.server
import json
import re
import threading

from client import Load, post, signed
from servers import Hookline, Kafka, Redis, Tap, free_port, stop_all, until

TRACE, PARENT = '4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'
CAME = f'00-{TRACE}-{PARENT}-01'
RIGHT = re.compile('00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]')


def sent(ident, *lines, body=b'{"type":"a.b"}'):
    """A signed webhook with more header lines."""
    head, rest = signed(ident, body).split(b'\r\n\r\n', 1)
    return b'\r\n'.join([head, *(line.encode('latin-1') for line in lines)]) + b'\r\n\r\n' + rest


def take(h, *args):
    status, _, body = post(h.port, sent(*args))
    assert status == 200, body
    return json.loads(body)['lsn']


# --- a collector: takes OTLP over HTTP as JSON, and checks it by the rules of its encoding

FIELDS = {'traceId', 'spanId', 'parentSpanId', 'flags', 'name', 'kind', 'startTimeUnixNano', 'endTimeUnixNano', 'attributes', 'status'}


def attributes(listed):
    out = {}
    for a in listed:
        assert a.keys() == {'key', 'value'} and len(a['value']) == 1 and a['key'] not in out, a
        (kind, value), = a['value'].items()
        assert kind in ('stringValue', 'intValue') and isinstance(value, str) and (kind == 'stringValue' or re.fullmatch('-?[0-9]+', value)), a
        out[a['key']] = value
    return out


def checked(span):
    assert FIELDS - {'parentSpanId'} <= span.keys() <= FIELDS, span
    for name, digits in (('traceId', 32), ('spanId', 16), ('parentSpanId', 16)):
        value = span.get(name, '1' * digits)
        assert re.fullmatch('[0-9a-f]{%d}' % digits, value) and value.strip('0'), span
    times = [span['startTimeUnixNano'], span['endTimeUnixNano']]
    assert all(isinstance(t, str) and re.fullmatch('[0-9]{19}', t) for t in times) and int(times[0]) <= int(times[1]), span
    assert span['kind'] in range(1, 6) and isinstance(span['kind'], int) and span['name'] and span['flags'] == 1, span
    assert span['status'].keys() <= {'code', 'message'} and span['status'].get('code', 0) in (0, 1, 2), span
    return {**span, 'attributes': attributes(span['attributes'])}


class Collector:
    def __init__(self, port=None):
        self.spans, self.faults, self.asked, self.mode, self.release = [], [], 0, 'take', threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler):
                self.answer(handler, handler.rfile.read(int(handler.headers['content-length'])))

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', port or 0), Handler)
        self.server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self.server.server_port}/v1/traces'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler, body):
        self.asked += 1
        mode, answer = self.mode, b'{}'
        if mode == 'hang':
            self.release.wait(120)
            return
        try:
            assert handler.path == '/v1/traces' and handler.headers['content-type'] == 'application/json'
            if mode == 'take':
                self.spans += self.read(json.loads(body))
            elif mode == 'part':
                answer = b'{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}'
        except Exception as e:
            self.faults.append(f'{e!r}: {body[:500]}')
        handler.send_response(mode if isinstance(mode, int) else 200)
        handler.send_header('Content-Length', len(answer))
        handler.end_headers()
        handler.wfile.write(answer)

    def read(self, request):
        assert request.keys() == {'resourceSpans'}
        for of in request['resourceSpans']:
            assert of.keys() == {'resource', 'scopeSpans'} and of['resource'].keys() == {'attributes'}
            self.resource = attributes(of['resource']['attributes'])
            for scope in of['scopeSpans']:
                assert scope.keys() == {'scope', 'spans'} and scope['scope'].keys() == {'name', 'version'}
                yield from (checked(s) for s in scope['spans'])

    def named(self, name, ident=None):
        return [s for s in self.spans if s['name'] == name and (not ident or s['attributes']['cloudevents.event_id'] == ident)]

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
        assert not self.faults, self.faults


def metric(h, name):
    return int(next(l for l in h.get('/metrics')[1].decode().splitlines() if l.startswith(name + ' ')).split()[1])


# --- tests

def everywhere():
    """Kept where it is right, made where not; in Redis (both modes), CloudEvents, the log and the access log; off by default"""
    redis = Redis().start()
    sinks = f"""  plain: {{ redis: {{ url: "unix:{redis.socket}", stream: plain }} }}
  once: {{ redis: {{ url: "unix:{redis.socket}", stream: once }}, delivery: exactly-once }}"""
    sources = """
  demo: { provider: gemini, secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], keep_headers: [traceparent, tracestate, x-a] }"""
    h = Hookline(sinks, 'tracing: { enabled: true, rate: 1 }\nlogging: { access: json }', sources).start()
    try:
        asks = {'kept': [f'traceparent: {CAME}', 'tracestate: a=1,b=2', 'X-A: x'], 'unsampled': [f'Traceparent: 00-{TRACE}-{PARENT}-00'],
                'capitals': [f'traceparent: {CAME.upper()}', 'tracestate: a=1'], 'twice': [f'traceparent: {CAME}'] * 2,
                'zero': [f'traceparent: 00-{"0" * 32}-{PARENT}-01'], 'bad-state': [f'traceparent: {CAME}', 'tracestate: A=1'],
                'later': [f'traceparent: 01-{TRACE}-{PARENT}-03-more'], 'none': []}
        lsns = {ident: take(h, ident, *lines) for ident, lines in asks.items()}
        until('delivered', lambda: h.drained('plain') and h.drained('once'))
        found = {}
        for stream in ('plain', 'once'):
            entries = {f['id'].decode(): f for _, f in redis.entries(stream)}
            assert entries.keys() == asks.keys() and {list(f)[-1] for f in entries.values()} == {'body'}
            found[stream] = {i: f['traceparent'].decode() for i, f in entries.items()}
            kept = {i: json.loads(f['headers']) for i, f in entries.items()}
            assert {i: k['traceparent'] for i, k in kept.items()} == found[stream], kept
            assert kept['kept']['tracestate'] == 'a=1,b=2' and kept['kept']['x-a'] == 'x'
            assert not any('tracestate' in k for i, k in kept.items() if i != 'kept'), kept
        got = found['plain']
        assert got == found['once'] and all(RIGHT.fullmatch(t) for t in got.values()), found
        assert [got[i] for i in ('kept', 'bad-state', 'later', 'unsampled')] == [CAME] * 3 + [CAME[:-1] + '0'], got
        made = [got[i] for i in ('capitals', 'twice', 'zero', 'none')]
        assert len({t[3:35] for t in [*made, CAME]}) == 5 and [t[-1] for t in made].count('1') < 3, made  # one a second is sampled
        for ident, lsn in lsns.items():
            assert json.loads(h.get(f'/v1/events/{lsn}')[1])['traceparent'] == got[ident]
        until('lines', lambda: h.text('log').count('"traceparent":') == len(asks))
        lines = [json.loads(l) for l in h.text('log').splitlines() if '"traceparent":' in l]
        assert {l['id']: l['traceparent'] for l in lines} == got
        assert h.stop() == 0
        h.write_config(sinks, sources="""
  demo: { provider: gemini, secrets: ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] }""")
        h.start()
        lsn = take(h, 'off', f'traceparent: {CAME}')
        assert 'traceparent' not in h.get(f'/v1/events/{lsn}')[1].decode()
        assert json.loads(h.get(f'/v1/events/{lsns["kept"]}')[1])['traceparent'] == CAME
        until('delivered', lambda: h.drained('plain') and h.drained('once'))
        assert 'traceparent' not in redis.entries('once')[-1][1] and 'traceparent' not in redis.entries('plain')[-1][1]
    finally:
        stop_all(h, redis)


def one_trace(collector, ident, sinks):
    """The spans of one event as a tree; returns the one of the receipt."""
    receive, = collector.named('receive', ident)
    commit, = collector.named('commit', ident)
    delivered = {s['attributes']['hookline.sink']: s for s in collector.named('deliver', ident)}
    assert delivered.keys() == sinks, delivered
    for s in (commit, *delivered.values()):
        assert (s['traceId'], s['parentSpanId']) == (receive['traceId'], receive['spanId']), s
        assert s['attributes']['hookline.lsn'] == receive['attributes']['hookline.lsn'] and s['status'] == {}
    assert [receive['kind'], commit['kind'], *{s['kind'] for s in delivered.values()}] == [2, 1, 4]
    assert int(receive['startTimeUnixNano']) <= int(commit['startTimeUnixNano']) <= int(commit['endTimeUnixNano']) <= int(receive['endTimeUnixNano'])
    assert len({s['spanId'] for s in (receive, commit, *delivered.values())}) == 2 + len(sinks)
    return receive


def spans():
    """Spans of receipt, commit and delivery, as one tree; Kafka's headers name the receipt; flags and rate are honoured"""
    collector, redis, kafka = Collector(), Redis().start(), Kafka().start()
    kafka.create('hooks.demo')
    h = Hookline(f'  stream: {{ redis: {{ url: "unix:{redis.socket}" }} }}\n  topic: {{ kafka: {{ brokers: "{kafka.broker}" }} }}',
                 f'tracing: {{ enabled: true, endpoint: "{collector.url}", service: bridge }}').start()
    try:
        take(h, 'came', f'traceparent: {CAME}', 'tracestate: a=1')
        take(h, 'unsampled', f'traceparent: {CAME[:-1]}0')
        take(h, 'made')
        assert take(h, 'made') == 3
        assert post(h.port, signed('forged', b'{}', key=b'other'))[0] == 401
        until('spans', lambda: len(collector.spans) >= 9)
        came = one_trace(collector, 'came', {'stream', 'topic'})
        assert (came['traceId'], came['parentSpanId']) == (TRACE, PARENT)
        assert came['attributes'] == {**came['attributes'], 'hookline.source': 'demo', 'hookline.result': 'accepted',
                                      'http.response.status_code': '200', 'http.request.body.size': '14', 'hookline.lsn': '1'}
        assert [s['attributes']['messaging.system'] for s in sorted(collector.named('deliver', 'came'), key=lambda s: s['attributes']['hookline.sink'])] == ['redis', 'kafka']
        made = {s['attributes']['hookline.result']: s for s in collector.named('receive', 'made')}
        assert made.keys() == {'accepted', 'duplicate'} and 'parentSpanId' not in made['accepted']
        assert made['accepted']['traceId'] != made['duplicate']['traceId']
        assert {s['attributes']['cloudevents.event_id'] for s in collector.spans} == {'came', 'made'}
        assert collector.resource['service.name'] == 'bridge' and collector.resource['service.instance.id'] == h.status()['log']['id']
        headers = {m[3]['ce_id']: m[3] for m in kafka.messages('hooks.demo')}
        assert headers['came']['traceparent'] == headers['came']['ce_traceparent'] == f'00-{TRACE}-{came["spanId"]}-01'
        assert headers['came']['tracestate'] == 'a=1' and headers['unsampled']['traceparent'] == CAME[:-1] + '0'
        assert headers['made']['traceparent'] == f'00-{made["accepted"]["traceId"]}-{made["accepted"]["spanId"]}-01'
        collector.mode = 'part'
        take(h, 'part')
        until('refused', lambda: metric(h, 'hookline_spans_dropped_total{reason="refused"}') == 1)
        assert h.stop() == 0
    finally:
        stop_all(h, redis, kafka)
        collector.close()


def faults():
    """A collector that hangs, answers 503 or 400, or is away: all is acknowledged meanwhile, losses are counted, a stop ends"""
    port = free_port()
    collector = Collector(port)
    collector.mode = 'hang'
    h = Hookline(extra=f'tracing: {{ enabled: true, rate: 1000000, endpoint: "{collector.url}" }}').start()
    try:
        take(h, 'first')
        until('it hangs', lambda: collector.asked == 1)
        load = Load(h.port, connections=8, total=3000)  # 6000 spans: more than are kept
        load.join()
        assert len(load.acked) == 3000 and not load.refused  # while the collector still holds the first
        assert metric(h, 'hookline_spans_dropped_total{reason="full"}') > 0
        collector.mode = 503
        collector.release.set()
        before = collector.asked
        until('asked again', lambda: collector.asked > before)
        collector.mode = 'take'
        until('taken', lambda: collector.named('receive', 'first') and metric(h, 'hookline_spans_exported_total') > 2000)
        collector.mode = 400
        take(h, 'refused')
        until('given up', lambda: metric(h, 'hookline_spans_dropped_total{reason="collector"}') > 0)
        collector.close()
        for n in range(20):
            take(h, f'away-{n}')
        again = Collector(port)
        until('back', lambda: again.named('receive', 'away-19'))
        assert len(again.named('commit')) == 20
        again.mode = 'hang'
        take(h, 'last')
        until('it hangs', lambda: again.asked > 1)
        assert h.stop(20) == 0
        again.close()
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(everywhere, spans, faults)
