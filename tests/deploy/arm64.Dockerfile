# hookline and its unit tests for arm64, cross-compiled with Debian's compiler against Debian's arm64 libraries. The context is a
# source release.
ARG BASE=debian:trixie-slim
FROM ${BASE}
RUN dpkg --add-architecture arm64 && apt-get update \
 && apt-get install -y -qq --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross make pkgconf qemu-user python3 openssl redis-server \
    libevent-dev:arm64 librdkafka-dev:arm64 libhiredis-dev:arm64 libssl-dev:arm64 libjansson-dev:arm64 libyaml-dev:arm64 \
    libcurl4-openssl-dev:arm64 libcmocka-dev:arm64 >/dev/null
WORKDIR /build
COPY . .
ENV CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig EMULATOR=qemu-aarch64
RUN make -s -j"$(nproc)" WERROR=-Werror build/hookline && make -s -j"$(nproc)" WERROR=-Werror unit-programs
