"""hookline for arm64: cross-compiled without a warning, its unit tests under qemu, and the program itself serving, killed and started again."""
import re

from container import Tap, enter, events, podman, post, ready, run

IMAGE, NAME = 'localhost/arm64:test', 'hookline-arm64'
CONFIG = 'listen: 127.0.0.1:8080\\nlog: { dir: /log, segment_bytes: 8MiB, reserve_bytes: 1MiB, allow_volatile: true }\\n' \
    'shutdown: { delay: 0s }\\nprocess: { sandbox: off }\\nsources: { open: { provider: none } }\\n'


def units():
    """all unit tests pass under qemu"""
    p = run('podman', 'run', '--rm', '--network', 'host', '--tmpfs', '/tmp', '-e', 'AGAIN=1', IMAGE, 'sh', '-c', 'tests/run unit build/release/tests/unit/*/test_*[!.d]',
            check=False, seconds=3600)
    text = p.stdout.decode()
    print(''.join(f'# {line}\n' for line in text.split('\n') if re.match(r'FAIL|SECOND|SKIPPED|\d+ passed', line)), end='')
    assert p.returncode == 0, text[-6000:] + p.stderr.decode()[-2000:]


def serves():
    """the program is one for arm64; what it acknowledged survives kill -9, and SIGTERM ends it with 0"""
    podman('run', '-d', '--name', NAME, '--network', 'host', IMAGE, 'sh', '-c',
           f'printf "{CONFIG}" >/c.yaml && mkdir -p /log && exec qemu-aarch64 build/hookline serve -c /c.yaml')
    ready(NAME)
    machine = podman('exec', NAME, 'od', '-An', '-tx2', '-j18', '-N2', 'build/release/hookline')
    assert machine == '00b7', machine  # EM_AARCH64
    sent = [n for n in range(200) if post(n, size=200)[0] == 200]
    assert len(sent) == 200
    podman('kill', '-s', 'KILL', NAME)
    podman('wait', NAME)
    podman('start', NAME)
    ready(NAME)
    assert events() == sent
    podman('stop', '-t', '30', NAME)
    assert podman('inspect', '-f', '{{.State.ExitCode}}', NAME) == '0'


if __name__ == '__main__':
    enter('arm64')
    podman('rm', '-f', '-v', NAME)
    try:
        Tap().run(units, serves)
    finally:
        podman('rm', '-f', '-v', NAME)
