#!/usr/bin/env python3
"""https.py FOLDER PORT [plain]: an HTTPS server for tests; prints its port when it listens.

A request for /any/NAME is answered with FOLDER/NAME, which holds an answer: a line `STATUS DELAY_MS`, header
lines, an empty line, the body. The header `X-Drip: MS` waits so long before each byte of the body; `X-Chunked: 1`
leaves the length out. The path of each request becomes a line of FOLDER/log.
FOLDER holds server.pem and server.key."""
import os
import socketserver
import ssl
import sys
import time

folder, port = sys.argv[1], int(sys.argv[2])
tls = None
if len(sys.argv) < 4:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder + '/server.pem', folder + '/server.key')


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            self.answer(tls.wrap_socket(self.request, server_side=True) if tls else self.request)
        except OSError:
            pass

    def answer(self, s):
        head = b''
        while b'\r\n\r\n' not in head:
            piece = s.recv(4096)
            if not piece:
                return
            head += piece
        path = head.split(b' ')[1].decode()
        log = os.open(folder + '/log', os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(log, path.encode() + b'\n')
        os.close(log)
        try:
            with open(folder + '/' + path.split('?')[0].split('/')[-1], 'rb') as f:
                text = f.read()
        except OSError:
            text = b'404 0\n\n'
        first, _, rest = text.partition(b'\n')
        headers, _, body = rest.partition(b'\n\n') if not rest.startswith(b'\n') else (b'', b'', rest[1:])
        status, delay = first.split()
        fields = dict(line.lower().split(b': ', 1) for line in headers.split(b'\n') if line)
        time.sleep(int(delay) / 1000)
        out = b'HTTP/1.1 %s X\r\nConnection: close\r\n' % status
        out += b''.join(line + b'\r\n' for line in headers.split(b'\n') if line)
        if b'x-chunked' in fields:
            s.sendall(out + b'Transfer-Encoding: chunked\r\n\r\n')
            for i in range(0, len(body), 4096):
                piece = body[i:i + 4096]
                s.sendall(b'%x\r\n%s\r\n' % (len(piece), piece))
            s.sendall(b'0\r\n\r\n')
        else:
            s.sendall(out + b'Content-Length: %d\r\n\r\n' % len(body))
            pause = int(fields.get(b'x-drip', 0)) / 1000
            for i in range(len(body) if pause else 0):
                s.sendall(body[i:i + 1])
                time.sleep(pause)
            if not pause:
                s.sendall(body)
        if tls:
            s.unwrap()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


with Server(('127.0.0.1', port), Handler) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
