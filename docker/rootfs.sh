#!/bin/sh
# rootfs DIR: around DIR/usr/local/bin/hookline the root file system of an image without a distribution:
# the libraries that it loads, certificates, a user, and which Debian packages all that is from, for scanners.
set -eu
r=$1
program=$r/usr/local/bin/hookline
mkdir -p "$r/etc/ssl/certs" "$r/usr/lib/ssl" "$r/usr/lib64" "$r/tmp" "$r/etc/hookline" "$r/var/lib/hookline" "$r/var/lib/dpkg/status.d"
ln -s usr/lib "$r/lib"
ln -s usr/lib64 "$r/lib64"
# what the loader names, and what the C library opens by itself when a thread is ended
libraries="$(ldd "$program" | grep -o '/[^ ]*\.so[^ ]*') $(gcc -print-file-name=libgcc_s.so.1)"
for f in $libraries; do
    mkdir -p "$r$(dirname "$f")"
    cp -L "$f" "$r$f"
done
cp /etc/ssl/certs/ca-certificates.crt "$r/etc/ssl/certs/"
cp -L /etc/ssl/openssl.cnf "$r/etc/ssl/"
ln -s /etc/ssl/openssl.cnf "$r/usr/lib/ssl/openssl.cnf"
ln -s /etc/ssl/certs "$r/usr/lib/ssl/certs"
echo 'hookline:x:10001:10001::/nonexistent:/sbin/nologin' >"$r/etc/passwd"
echo 'hookline:x:10001:' >"$r/etc/group"
echo 'hosts: files dns' >"$r/etc/nsswitch.conf"
cp /etc/os-release "$r/etc/os-release"
chmod 1777 "$r/tmp"
# before VOLUME: a new volume takes owner and mode from the image
chown 10001:10001 "$r/var/lib/hookline"
chmod 0750 "$r/var/lib/hookline"
packages=ca-certificates # its file is made, and of no package
for f in $libraries; do
    packages="$packages $(dpkg -S "*/$(basename "$f")" 2>/dev/null | grep -v -e '-dev:' | head -1 | cut -d: -f1)"
done
for p in $packages; do
    dpkg -s "$p" >"$r/var/lib/dpkg/status.d/$p"
done
