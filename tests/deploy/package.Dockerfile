# The package: built, looked over, installed into an empty root, run, removed, purged. The context is a source release.
ARG BASE=debian:trixie-slim
FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install -y -qq --no-install-recommends build-essential debhelper lintian fakeroot pkgconf libevent-dev librdkafka-dev \
    libhiredis-dev libssl-dev libjansson-dev libyaml-dev libcurl4-openssl-dev libjq-dev >/dev/null
WORKDIR /build/source
COPY . .
RUN dpkg-buildpackage -us -uc -rfakeroot >/build/log 2>&1 || { tail -30 /build/log >&2; exit 1; }
RUN lintian --allow-root --fail-on error,warning --suppress-tags bad-distribution-in-changes-file /build/*.changes >&2

FROM ${BASE}
COPY --from=build /build/*.deb /packages/
RUN apt-get update && rm /etc/dpkg/dpkg.cfg.d/* 2>/dev/null; apt-get install -y -qq --no-install-recommends /packages/hookline_*.deb >/dev/null \
 && hookline version && hookline --help >/dev/null \
 && for f in share/man/man1/hookline.1.gz share/doc/hookline/examples/hookline.yaml share/bash-completion/completions/hookline \
             share/zsh/site-functions/_hookline share/fish/vendor_completions.d/hookline.fish lib/sysusers.d/hookline.conf \
             lib/tmpfiles.d/hookline.conf; do \
        dpkg -L hookline | grep -qx "/usr/$f" || { echo "no /usr/$f" >&2; exit 1; }; done \
 && dpkg -L hookline | grep -q '/lib/systemd/system/hookline.service$' \
 && grep -q '^hookline:' /etc/passwd && [ "$(stat -c '%a %U' /etc/hookline/secrets)" = "700 root" ] \
 && apt-get remove -y -qq hookline >/dev/null && [ ! -e /usr/bin/hookline ] \
 && apt-get purge -y -qq hookline >/dev/null && [ -z "$(dpkg -l hookline 2>/dev/null | grep '^ii')" ]
