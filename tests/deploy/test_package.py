"""The Debian package, in empty roots of Debian 12 and 13."""
import os
import subprocess

from container import HERE, TOOLS, Tap, usable


def package(suite):
    def test():
        p = subprocess.run([HERE + '/engine', HERE + '/package', suite], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = p.stdout.decode(errors='replace')
        assert p.returncode == 0, text[-6000:]
        print(text[text.index('# package'):], end='')
    test.__doc__ = f'{suite}: the package is built, lintian finds nothing, it is installed, runs, is removed and purged'
    return test


if __name__ == '__main__':
    usable(*TOOLS, 'git')
    Tap().run(*[package(s) for s in os.environ.get('SUITES', 'bookworm trixie').split()])
