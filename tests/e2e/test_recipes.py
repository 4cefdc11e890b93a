"""The recipes of docs/jobs.md and examples/python: run against the real hookline, and a server that stands in for Gemini."""
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse

from client import post, signed
from servers import HOOKLINE, ROOT, SECRET, Hookline, Tap, until
from test_guides import blocks

PAGE = os.path.join(ROOT, 'docs/jobs.md')


def environment(h, **more):
    return dict(os.environ, HOOKLINE_ADMIN=f'http://127.0.0.1:{h.admin}', PATH=os.path.dirname(HOOKLINE) + ':' + os.environ['PATH'],
                **more)


def example(h, name, *args, **more):
    return subprocess.Popen([sys.executable, os.path.join(ROOT, 'examples/python', name), *args], env=environment(h, **more),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(p):
    out, err = p.communicate(timeout=120)
    return p.returncode, out, err


def webhook(h, kind, subject, ident):
    body = json.dumps({'type': kind, 'version': 'v1', 'data': {'id': subject}}).encode()
    assert post(h.port, signed(ident, body))[0] == 200


def waiting(h, n):
    until(f'{n} wait', lambda: h.status()['jobs']['waiting'] == n)


class Gemini(http.server.ThreadingHTTPServer):
    """Makes a batch, and shows it to who has the key."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Answer)
        self.asked = []
        self.url = f'http://127.0.0.1:{self.server_port}'
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def reply(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def check(self):
        if self.headers['x-goog-api-key'] != 'a key':
            self.reply(403, {})
        return self.headers['x-goog-api-key'] == 'a key'

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        if self.check():
            self.server.asked.append((self.path, body))
            self.reply(200, {'name': 'batches/b-1', 'metadata': {'state': 'BATCH_STATE_PENDING'}})

    def do_GET(self):
        if self.check():
            self.reply(200, {'name': urllib.parse.urlsplit(self.path).path[len('/v1beta/'):], 'done': True})

    def log_message(self, *args):
        pass


def gemini():
    """await_gemini.py: starts a job and is told, also over kill -9 of the bridge; the webhook may name it without its collection"""
    for kind, code in (('batch.succeeded', 0), ('batch.failed', 1)):
        h, g = Hookline().start(), Gemini()
        try:
            p = example(h, 'await_gemini.py', 'Why is the sky blue?', GEMINI_URL=g.url, GEMINI_API_KEY='a key')
            waiting(h, 1)
            h.kill()
            h.start()
            waiting(h, 1)
            webhook(h, kind, 'b-1', 'm1')
            got = output(p)
            assert got[0] == code and got[1].split('\n')[:2] == ['awaiting batches/b-1', f'{kind.split(".")[1]} {kind}'], got
            assert json.loads(got[1].split('\n')[2]) == {'name': 'batches/b-1', 'done': True}, got
            (path, body), = g.asked
            assert path.startswith('/v1beta/models/gemini-') and 'Why is the sky blue?' in json.dumps(body)
        finally:
            g.shutdown()
            g.server_close()
            h.clean()


def several():
    """await_several.py: each as it ends, in the order of their webhooks; a failure and a lost webhook are told"""
    h = Hookline().start()
    try:
        p = example(h, 'await_several.py', 'batches/1', 'batches/2', 'odd id/ü')
        waiting(h, 3)
        webhook(h, 'batch.succeeded', 'odd id/ü', 'm1')
        assert p.stdout.readline() == 'odd id/ü succeeded m1\n'
        webhook(h, 'batch.succeeded', '2', 'm2')
        assert p.stdout.readline() == 'batches/2 succeeded m2\n'
        webhook(h, 'batch.succeeded', 'batches/1', 'm3')
        got = output(p)
        assert got[0] == 0 and got[1] == 'batches/1 succeeded m3\n', got
        p = example(h, 'await_several.py', '--deadline', '3s', 'batches/3', 'lost')
        waiting(h, 2)
        webhook(h, 'batch.expired', 'batches/3', 'm4')
        got = output(p)
        assert got[0] == 1 and 'batches/3 failed m4\n' in got[1], got
        assert 'lost overdue -\n' in got[1], got
    finally:
        h.clean()


def the_page():
    """The commands of docs/jobs.md do what it says"""
    h = Hookline(sources=f'\n  gemini: {{ provider: gemini, secrets: ["{SECRET}"] }}').start()
    try:
        commands = [text for _, text in blocks(PAGE, 'sh')]
        assert len(commands) >= 3
        env = environment(h, HOOK=f'http://127.0.0.1:{h.port}/hooks/gemini', SECRET=SECRET)
        out = ''
        for text in commands:
            r = subprocess.run(['bash', '-euo', 'pipefail', '-c', text], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               timeout=120)
            assert r.returncode == 0, (text, r.stdout)
            out += r.stdout
        assert '"subject":"batches/1"' in out and 'hookline.job.overdue' in out, out
        for _, text in blocks(PAGE, 'python'):
            compile(text, PAGE, 'exec')
    finally:
        h.clean()


if __name__ == '__main__':
    Tap().run(gemini, several, the_page)
