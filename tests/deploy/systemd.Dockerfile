# Debian 13 with a systemd as its first process, and the package as an administrator sets it up.
FROM localhost/package:trixie
RUN apt-get update && apt-get install -y -qq --no-install-recommends systemd systemd-sysv dbus procps /packages/hookline_*.deb >/dev/null
RUN printf 'listen: 127.0.0.1:8080\nsources:\n  gemini: { provider: gemini, secrets: [{ file: "${CREDENTIALS_DIRECTORY}/gemini" }] }\n' >/etc/hookline/hookline.yaml \
 && printf whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw >/etc/hookline/secrets/gemini && chmod 600 /etc/hookline/secrets/gemini \
 && mkdir /etc/systemd/system/hookline.service.d \
 && printf '[Service]\nLoadCredential=gemini:/etc/hookline/secrets/gemini\n' >/etc/systemd/system/hookline.service.d/secrets.conf \
 && systemctl enable hookline
# credentials are mounted in a process of their own, and a container does not pass mounts on by itself
CMD ["sh", "-c", "mount --make-rshared / && exec /sbin/init"]
