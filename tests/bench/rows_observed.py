"""What it costs to be seen: jobs, access log and tracing on, against the same binary with all of them off."""
import http.server
import threading

from lab import ROUNDS, Server, against, load, settle, utilisation


class Collector:
    """Takes spans and forgets them; it sits on the load's core, and gets a batch a second."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers['content-length']))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}/v1/traces'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def metric(server, name):
    return int(next(l for l in server.get('/metrics')[1].decode().splitlines() if l.startswith(name + ' ')).split()[1])


def observed(row):
    """Every request has a line and a job is told of it; every one gets a trace, of which as many as by default are sampled."""
    collector = Collector()
    off = Server('unobserved', limits='jobs: { entries: 0 }')
    on = Server('observed', limits=f'logging: {{ access: json }}\ntracing: {{ enabled: true, endpoint: "{collector.url}" }}')
    try:
        off.start()
        on.start()
        base, ours = [], []
        for _ in range(ROUNDS):
            settle()
            base.append(load(off.port, 256, server=off.p.pid))
            settle()
            ours.append(load(on.port, 256, server=on.p.pid))
        answered = sum(r['answered'] for r in ours)
        lost = metric(on, 'hookline_access_log_dropped_total{reason="full"}')
        if not metric(on, 'hookline_spans_exported_total') or on.status()['jobs']['known'] == 0:
            raise RuntimeError('no span was exported, or no job is known')
        return against(row, [r['rate'] for r in ours], [r['rate'] for r in base],
                       {**utilisation(ours, base), 'lines_lost': lost / answered})
    finally:
        off.clean()
        on.clean()
        collector.close()


ROWS = [
    {'id': 'observed', 'name': 'durable requests with jobs, access log and tracing on; baseline: off', 'unit': '1/s', 'better': 'higher',
     'gate': 0.85, 'target': 0.95, 'run': observed},
]
