"""The first minutes: what `serve --dev` prints works as it is printed, and the demo runs beside a bridge."""
import os
import shutil
import socket
import subprocess
import tempfile

from servers import HOOKLINE, ROOT, Tap, until


def shell(line, cwd, seconds=60):
    """What was printed by the time it ended, or was ended because it follows."""
    try:
        r = subprocess.run(['sh', '-c', 'exec ' + line], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
        return r.returncode, r.stdout
    except subprocess.TimeoutExpired as e:
        return None, e.stdout or b''


def printed_lines():
    """serve --dev, started by its path: the two lines it prints work typed literally in the same folder"""
    folder = tempfile.mkdtemp(prefix='hookline-e2e-')
    out = os.path.join(folder, 'out')
    with open(out, 'wb') as f:
        p = subprocess.Popen([os.path.relpath(HOOKLINE, folder), 'serve', '--dev', '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0'],
                             cwd=folder, stdout=f, stderr=subprocess.DEVNULL)
    try:
        until('the hint', lambda: p.poll() is not None or ' tail' in open(out).read())
        send, tail = [line.strip() for line in open(out) if line.startswith('  ')]
        assert ' send ' in send and ' tail' in tail, (send, tail)
        code, text = shell(send, folder)
        assert code == 0 and text.startswith(b'200 {"status":"accepted"'), (send, text)
        code, text = shell(tail + ' --once', folder)
        assert code == 0 and b'video.generated  video-1' in text, (tail, text)
    finally:
        p.kill()
        p.wait()
        shutil.rmtree(folder)


def demo():
    """make demo passes while another bridge holds the default ports"""
    held = []
    for port in (8080, 9180):
        s = socket.socket()
        held.append(s)
        try:
            s.bind(('127.0.0.1', port))
            s.listen()
        except OSError:
            pass  # somebody else holds it, which serves as well
    try:
        r = subprocess.run([os.path.join(ROOT, 'scripts/demo')], cwd=ROOT, env=dict(os.environ, HOOKLINE=HOOKLINE),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert r.returncode == 0 and b'0 lost' in r.stdout, r.stdout.decode()
    finally:
        for s in held:
            s.close()


Tap().run(printed_lines, demo)
