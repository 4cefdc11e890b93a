# Stands for the image redis:8.
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y -qq --no-install-recommends redis-server >/dev/null && install -d -o redis -g redis /data
USER redis
VOLUME /data
