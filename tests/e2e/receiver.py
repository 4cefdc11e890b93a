"""A service that webhooks are forwarded to: it notes each request to the byte, checks the signature by itself, and answers as
the test says."""
import base64
import contextlib
import hashlib
import hmac
import http.server
import socket
import threading
import time

from servers import SECRET, free_port


def signature(headers, body, secret=SECRET):
    """What Standard Webhooks wants for this message."""
    signed = f'{headers["webhook-id"]}.{headers["webhook-timestamp"]}.'.encode() + body
    mac = hmac.new(base64.b64decode(secret.removeprefix('whsec_')), signed, hashlib.sha256)
    return 'v1,' + base64.b64encode(mac.digest()).decode()


class Request:
    def __init__(self, path, headers, body):
        self.path, self.body, self.at = path, body, time.monotonic()
        self.names = [k.lower() for k, _ in headers]
        self.headers = {k.lower(): v for k, v in headers}
        self.status = None

    def genuine(self, secret=SECRET):
        return signature(self.headers, self.body, secret) in self.headers['webhook-signature'].split()


class Receiver:
    """answer(request): a status, or (status, {header: value}, body); it may take its time. `seen` has all requests in the order
    in which they came, `taken` those that were answered 2xx; `overlaps` counts those that came while another of their key was
    under way."""

    def __init__(self, answer=None):
        self.answer = answer or (lambda r: 200)
        self.port, self.server = free_port(), None
        self.url = f'http://127.0.0.1:{self.port}/in?x=1'
        self.lock = threading.Lock()
        self.seen, self.taken, self.connections = [], [], []
        self.under_way, self.most, self.overlaps = {}, 0, 0

    def begin(self, r):
        key = r.headers.get('ce-subject')
        with self.lock:
            self.seen.append(r)
            self.under_way[key] = self.under_way.get(key, 0) + 1
            self.most = max(self.most, sum(self.under_way.values()))
            self.overlaps += bool(key) and self.under_way[key] > 1

    def end(self, r):
        with self.lock:
            self.under_way[r.headers.get('ce-subject')] -= 1
            if r.status and r.status < 300:
                self.taken.append(r)

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def setup(self):
                super().setup()
                receiver.connections.append(self.connection)

            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length']))
                r = Request(self.path, self.headers.items(), body)
                receiver.begin(r)
                try:
                    a = receiver.answer(r)
                    status, headers, text = a if isinstance(a, tuple) else (a, {}, b'')
                    r.status = status
                finally:
                    receiver.end(r)
                self.send_response(status)
                for k, v in {'Content-Length': len(text), **headers}.items():
                    self.send_header(k, str(v))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # who was killed takes no answer

        self.server = Server(('127.0.0.1', self.port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            for c in self.connections:
                with contextlib.suppress(OSError):
                    c.shutdown(socket.SHUT_RDWR)
            self.server = None

    def clean(self):
        self.stop()

    def events(self):
        """(id, lsn, key, body) of what was taken, in its order, as the audit wants it."""
        with self.lock:
            return [(r.headers['ce-id'], int(r.headers['ce-lsn']), r.headers.get('ce-subject', ''), r.body) for r in self.taken]
