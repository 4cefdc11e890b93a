# Stands for the image redis:8.
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y -qq --no-install-recommends redis-server >/dev/null && install -d -o redis -g redis /data
# the image is without protected mode
RUN printf '#!/bin/sh\nexec "$@" --protected-mode no\n' >/entry && chmod 755 /entry
USER redis
VOLUME /data
ENTRYPOINT ["/entry"]
