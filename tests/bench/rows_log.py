"""Rows about the log: appending, verifying, starting."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time

from lab import (FOLDER, HOOKLINE, LOAD, MIB, ROUNDS, SECONDS, SERVER, Server, against, alone, chill, folder, on_core, settle, tool)
from client import signed

RETAINED = 1 << 30
READ_AT_ONCE = MIB
FIO_FILE = 512 * MIB


def fio(path, block):
    """psync: one pwrite of a block, one fdatasync, over a file whose blocks are written already.
    Its pages are in memory, as those of the log's new segment are: a block that ends within a page reads nothing.
    Bytes a second."""
    job = ['--name=append', '--ioengine=psync', '--rw=write', '--overwrite=1', '--invalidate=0', '--fdatasync=1', '--time_based']
    out = subprocess.run([*on_core(SERVER), 'fio', *job, f'--filename={path}', f'--size={FIO_FILE}', f'--bs={block}',
                          f'--runtime={SECONDS}', '--output-format=json'], check=True, stdout=subprocess.PIPE, cwd=FOLDER)
    return json.loads(out.stdout)['jobs'][0]['write']['bw_bytes']


def lay_out(path):
    os.makedirs(FOLDER, exist_ok=True)
    with open(path, 'wb') as f:
        for _ in range(FIO_FILE // MIB):
            f.write(bytes(MIB))
        f.flush()
        os.fsync(f.fileno())


def append(row):
    path, log = os.path.join(FOLDER, 'fio'), folder('append')
    lay_out(path)
    ours, base, block, merged = [], [], None, None
    try:
        for _ in range(ROUNDS):
            settle()
            r = tool('append', log, '-t', SECONDS, LOAD)
            shutil.rmtree(log)
            block, merged = r['group_bytes'], r['groups'] / r['commits']
            ours.append(r['groups'] * block / r['seconds'] / MIB)
            settle()
            base.append(fio(path, block) / MIB)
    finally:
        os.unlink(path)
        shutil.rmtree(log, ignore_errors=True)
    return against(row, ours, base, {'group_bytes': block, 'groups_a_commit': merged})


def read_cold(path, count):
    """The bytes that verify reads, from the same core: the segments without the zeros behind the last record."""
    code = ('import glob,sys,time\nleft,b,t=int(sys.argv[2]),bytearray(%d),time.perf_counter()\n'
            'for name in sorted(glob.glob(sys.argv[1]+"/*.wal")):\n'
            ' with open(name,"rb",buffering=0) as f:\n'
            '  while left>0 and (n:=f.readinto(b)): left-=n\n'
            'print(time.perf_counter()-t)' % READ_AT_ONCE)
    out = subprocess.run([*on_core(SERVER), sys.executable, '-c', code, path, str(count)], check=True, stdout=subprocess.PIPE)
    return float(out.stdout)


def verify(row):
    log = folder('verify')
    written = tool('append', log, '-b', RETAINED)
    ours, base = [], []
    try:
        for _ in range(2):  # the first reads of new files are slower on some disks, whoever does them
            chill(log)
            read_cold(log, RETAINED)
        for _ in range(ROUNDS):
            chill(log)
            base.append(read_cold(log, written['groups'] * written['group_bytes']))
            chill(log)
            before = time.perf_counter()
            subprocess.run([*on_core(SERVER), HOOKLINE, 'log', 'verify', log], check=True, stdout=subprocess.DEVNULL)
            ours.append(time.perf_counter() - before)
    finally:
        shutil.rmtree(log)
    return against(row, ours, base)


def first_answer(hookline, wait_s=60):
    """Seconds from the start of the process to its first 200."""
    request, started = signed(f'msg_{time.time_ns()}', b'{"type":"batch.succeeded"}', close=True), time.perf_counter()
    hookline.spawn([HOOKLINE, 'serve', '-c', hookline.config], 'log')
    while time.perf_counter() - started < wait_s:
        c = socket.socket()
        try:
            c.connect(('127.0.0.1', hookline.port))
            c.sendall(request)
            if c.recv(4096).startswith(b'HTTP/1.1 200'):
                return time.perf_counter() - started
        except OSError:
            pass
        finally:
            c.close()
        time.sleep(0.001)
    raise RuntimeError('hookline did not answer:\n' + hookline.text('log'))


def start(row):
    hookline = Server('start')
    tool('append', hookline.log, '-b', RETAINED)
    ours = []
    try:
        for _ in range(ROUNDS):
            chill(hookline.log)
            ours.append(first_answer(hookline))
            hookline.stop()
    finally:
        hookline.clean()
    return alone(row, ours)


ROWS = [
    {'id': 'append', 'name': 'log append, groups of 64 x 600 B', 'unit': 'MiB/s', 'better': 'higher', 'gate': 0.80,
     'target': 1.00, 'run': append},
    {'id': 'verify', 'name': '`log verify` of 1 GiB, cold', 'unit': 's', 'better': 'lower', 'gate': 2.0, 'target': 1.25,
     'run': verify},
    {'id': 'start', 'name': 'start with 1 GiB retained to the first 200, cold', 'unit': 's', 'better': 'lower', 'gate': 2.0,
     'target': 0.3, 'run': start},
]
